package notify

import (
	"encoding/json"
	"strings"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// firstPause is the pause after the first failed delivery. It doubles with each failure up to maxPause.
	firstPause = 30 * time.Second
	maxPause   = time.Hour
	// giveUpAfter is how long a notice is tried.
	giveUpAfter = 72 * time.Hour
	// keptFor is how long a notice is remembered after it was delivered or given up, so that it is not sent
	// again.
	keptFor = 36 * 24 * time.Hour
)

// state is how far the delivery of a notice is.
type state string

const (
	pending   state = "pending"
	delivered state = "delivered"
	givenUp   state = "given_up"
)

// entry is one notice in the outbox. Times are in milliseconds since the Unix epoch.
type entry struct {
	State    state `json:"state"`
	Attempts int   `json:"attempts,omitempty"`
	// NextMillis is when the next delivery is due. DoneMillis is when the notice was delivered or given up.
	NextMillis    int64 `json:"next_millis,omitempty"`
	DoneMillis    int64 `json:"done_millis,omitempty"`
	CreatedMillis int64 `json:"created_millis"`
	// Payload is the body of every delivery.
	Payload json.RawMessage `json:"payload"`
}

// message is the body of a delivery, in the form that the Standard Webhooks specification proposes.
type message struct {
	Type      string      `json:"type"`
	Timestamp time.Time   `json:"timestamp"`
	Data      messageData `json:"data"`
}

type messageData struct {
	NoticeID   string     `json:"notice_id"`
	Kind       string     `json:"kind"`
	AppID      string     `json:"app_id"`
	TokenID    string     `json:"token_id,omitempty"`
	Text       string     `json:"text"`
	CreateTime time.Time  `json:"create_time"`
	DueTime    *time.Time `json:"due_time,omitempty"`
}

// KindName returns the name of a kind without its prefix: TOKEN_EXPIRES.
func KindName(kind countersignv1.NoticeKind) string {
	return strings.TrimPrefix(kind.String(), "NOTICE_KIND_")
}

// newEntry returns the entry of a notice that was found now.
func newEntry(n *countersignv1.Notice, now time.Time) ([]byte, error) {
	now = now.UTC().Truncate(time.Millisecond)
	m := message{
		Type: "countersign.notice." + strings.ToLower(KindName(n.GetKind())), Timestamp: now,
		Data: messageData{
			NoticeID: n.GetNoticeId(), Kind: KindName(n.GetKind()), AppID: n.GetAppId(), TokenID: n.GetTokenId(),
			Text: n.GetText(), CreateTime: now,
		},
	}
	if due := n.GetDueTime(); due != nil {
		at := due.AsTime()
		m.Data.DueTime = &at
	}
	payload, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return json.Marshal(entry{State: pending, CreatedMillis: now.UnixMilli(), Payload: payload})
}

// due reports whether a delivery is to be tried now.
func (e *entry) due(now time.Time) bool { return e.State == pending && e.NextMillis <= now.UnixMilli() }

// outdated reports whether a notice need not be remembered any more.
func (e *entry) outdated(now time.Time) bool {
	return e.State != pending && now.Sub(time.UnixMilli(e.DoneMillis)) > keptFor
}

// tried notes the result of a delivery.
func (e *entry) tried(err error, now time.Time) {
	e.Attempts++
	switch {
	case err == nil:
		e.State, e.DoneMillis = delivered, now.UnixMilli()
	case now.Sub(time.UnixMilli(e.CreatedMillis)) >= giveUpAfter:
		e.State, e.DoneMillis = givenUp, now.UnixMilli()
	default:
		e.NextMillis = now.Add(pauseAfter(e.Attempts)).UnixMilli()
	}
}

// pauseAfter returns the pause after a number of failed deliveries.
func pauseAfter(attempts int) time.Duration {
	pause := firstPause
	for range attempts - 1 {
		if pause *= 2; pause >= maxPause {
			return maxPause
		}
	}
	return pause
}
