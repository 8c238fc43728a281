package notify

import (
	"encoding/json"
	"errors"
	"fmt"
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
	// keptFor is how long a notice is remembered after it was last found, so that it is not sent again when
	// it is found once more.
	keptFor = 36 * 24 * time.Hour
	// renewAfter is how old the time in an entry, at which its notice was last found, gets while the notice
	// holds. An entry is written that often and no more.
	renewAfter = 24 * time.Hour
	// idleAfter is when an entry may give its room to a new notice. Until then its notice may still hold: the
	// time in the entry may be renewAfter old, and a large store takes several rounds to look at.
	idleAfter = 2 * renewAfter
)

// state is how far the delivery of a notice is.
type state string

const (
	pending   state = "pending"
	delivered state = "delivered"
	givenUp   state = "given_up"
)

// entry is one notice in the outbox. One that was delivered or given up is only remembered: it has no
// payload. Times are in milliseconds since the Unix epoch.
type entry struct {
	State    state `json:"state"`
	Attempts int   `json:"attempts,omitempty"`
	// NextMillis is when the next delivery is due. DoneMillis is when the notice was delivered or given up.
	NextMillis    int64 `json:"next_millis,omitempty"`
	DoneMillis    int64 `json:"done_millis,omitempty"`
	CreatedMillis int64 `json:"created_millis,omitempty"`
	// FoundMillis is when the notice was last found, at most renewAfter ago while it is found.
	FoundMillis int64 `json:"found_millis,omitempty"`
	// Payload is the body of every delivery.
	Payload json.RawMessage `json:"payload,omitempty"`

	// raw is the entry as it is in Redis. changed says that it is to be written although no delivery was
	// tried.
	raw     string
	changed bool
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
func newEntry(n *countersignv1.Notice, now time.Time) (*entry, error) {
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
	e := &entry{State: pending, CreatedMillis: now.UnixMilli(), FoundMillis: now.UnixMilli(), Payload: payload}
	e.raw, err = e.text()
	return e, err
}

// parse reads an entry of the outbox.
func parse(raw string) (*entry, error) {
	e := &entry{raw: raw}
	if err := json.Unmarshal([]byte(raw), e); err != nil {
		return nil, err
	}
	switch {
	case e.State == pending && len(e.Payload) == 0:
		return nil, errors.New("a pending notice without a payload")
	case e.State != pending && e.State != delivered && e.State != givenUp:
		return nil, fmt.Errorf("a notice in the unknown state %q", e.State)
	}
	if e.FoundMillis == 0 { // an entry of an earlier release
		e.FoundMillis = max(e.CreatedMillis, e.DoneMillis)
	}
	if e.State != pending && e.Payload != nil { // another one
		e.Payload, e.changed = nil, true
	}
	return e, nil
}

// text returns the entry as it is to be in Redis.
func (e *entry) text() (string, error) {
	raw, err := json.Marshal(e)
	return string(raw), err
}

// holds notes that the notice was found now. The next delivery writes a pending entry anyway.
func (e *entry) holds(now time.Time) {
	if e.State == pending || e.unfound(now).Abs() >= renewAfter {
		e.FoundMillis, e.changed = now.UnixMilli(), e.State != pending
	}
}

// unfound returns for how long the notice was not found.
func (e *entry) unfound(now time.Time) time.Duration { return now.Sub(time.UnixMilli(e.FoundMillis)) }

// due reports whether a delivery is to be tried now. No pause is longer than maxPause: an entry that is due
// later was written by an authority whose clock was ahead.
func (e *entry) due(now time.Time) bool {
	wait := time.UnixMilli(e.NextMillis).Sub(now)
	return e.State == pending && (wait <= 0 || wait > maxPause)
}

// dueMillis is since when a delivery is due.
func (e *entry) dueMillis() int64 { return max(e.CreatedMillis, e.NextMillis) }

// outdated reports whether a notice need not be remembered any more.
func (e *entry) outdated(now time.Time) bool {
	return e.State != pending && e.unfound(now) > keptFor+renewAfter
}

// idle reports whether a notice may be forgotten to make room for another one.
func (e *entry) idle(now time.Time) bool { return e.State != pending && e.unfound(now) > idleAfter }

// tried notes the result of a delivery.
func (e *entry) tried(err error, now time.Time) {
	e.Attempts++
	switch {
	case err == nil:
		e.end(delivered, now)
	case now.Sub(time.UnixMilli(e.CreatedMillis)) >= giveUpAfter:
		e.end(givenUp, now)
	default:
		e.NextMillis = now.Add(pauseAfter(e.Attempts)).UnixMilli()
	}
}

// end notes that the notice is delivered or given up. DoneMillis is for authorities of an earlier release,
// which forget a notice by it.
func (e *entry) end(how state, now time.Time) {
	e.State, e.DoneMillis = how, now.UnixMilli()
	e.NextMillis, e.CreatedMillis, e.Payload = 0, 0, nil
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
