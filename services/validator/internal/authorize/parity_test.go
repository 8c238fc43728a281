package authorize_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// B19, B20: every question gets the same answer over a stream as in a call, or the same error with the same
// code, reason and details, also among other questions.
func TestB19_StreamAndCallSayTheSame(t *testing.T) {
	var logged log
	w := startDemo(t, func(o *cluster.Options) { o.Log = &logged })
	calls := countersignv1.NewValidatorServiceClient(w.connection)
	bulk := countersignv1.NewBulkValidatorServiceClient(w.connection)
	sdkCalls, sdkStreams := client.New(w.connection), client.NewStreaming(w.connection, client.StreamOptions{})
	defer sdkStreams.Close()
	stream, err := bulk.AuthorizeStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	question := rapid.Custom(func(t *rapid.T) *countersignv1.AuthorizeRequest {
		return &countersignv1.AuthorizeRequest{
			AppId: rapid.OneOf(rapid.SampledFrom([]string{
				fuzzApp, fuzzApp, "other", "", "no app", strings.Repeat("a", 64), strings.Repeat("a", 65),
			}), rapid.String()).Draw(t, "app"),
			Token: rapid.OneOf(rapid.SampledFrom([]string{
				w.secret, "", "cs_", secret.Mint().Reveal(), strings.Repeat("x", 4097),
			}), rapid.String()).Draw(t, "token"),
			Scope:       countersignv1.Scope(rapid.Int32Range(-1, 9).Draw(t, "scope")),
			Source:      countersignv1.Source(rapid.Int32Range(-1, 3).Draw(t, "source")),
			MinRevision: rapid.SampledFrom([]string{"", "", "", w.position, "AAAA"}).Draw(t, "min_revision"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		asked := rapid.SliceOfN(question, 1, 8).Draw(t, "asked")
		if err := stream.Send(&countersignv1.AuthorizeStreamRequest{Sequence: 7, Request: asked[0], More: asked[1:]}); err != nil {
			t.Fatal(err)
		}
		message, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		results := []streamResult{message}
		for _, further := range message.GetMore() {
			results = append(results, further)
		}
		if len(results) != len(asked) {
			t.Fatalf("%d answers to %d questions", len(results), len(asked))
		}
		for _, got := range results {
			r := asked[got.GetSequence()-7]
			answer, err := calls.Authorize(w.ctx, r)
			if !proto.Equal(timeless(got.GetResponse()), timeless(answer)) {
				t.Errorf("%v by stream, %v by call", got, answer)
			}
			s, e := status.Convert(err).Proto(), got.GetError()
			if e.GetCode() != s.GetCode() || e.GetMessage() != s.GetMessage() || e.GetReason() != reasonOf(err) ||
				len(e.GetDetails()) != len(s.GetDetails()) {
				t.Errorf("%v by stream, %v by call", e, s)
			}

			q := client.Request{
				AppID: r.GetAppId(), Token: secret.New(r.GetToken()), Scope: r.GetScope(), Source: r.GetSource(),
				MinRevision: r.GetMinRevision(),
			}
			byCall, callErr := sdkCalls.Authorize(w.ctx, q)
			byStream, streamErr := sdkStreams.Authorize(w.ctx, q)
			byCall.DataAge, byStream.DataAge = 0, 0
			if byCall != byStream || client.Reason(callErr) != client.Reason(streamErr) ||
				!proto.Equal(status.Convert(callErr).Proto(), status.Convert(streamErr).Proto()) {
				t.Errorf("the SDK has %v %v by stream, %v %v by call", byStream, streamErr, byCall, callErr)
			}
		}
	})
	// B02: the log holds no secret.
	if logged.contains(w.secret) || logged.contains(strings.Repeat("x", 100)) {
		t.Error("a secret was logged")
	}
}

// log keeps the logged lines.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

type streamResult interface {
	GetSequence() uint64
	GetResponse() *countersignv1.AuthorizeResponse
	GetError() *countersignv1.AuthorizeError
}

// timeless clears the age of an answer, which differs between two answers.
func timeless(r *countersignv1.AuthorizeResponse) *countersignv1.AuthorizeResponse {
	if r != nil {
		r = proto.CloneOf(r)
		if age := r.GetDataAge().AsDuration(); age < 0 || age > time.Minute {
			return nil
		}
		r.DataAge = nil
	}
	return r
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return client.Reason(err)
}
