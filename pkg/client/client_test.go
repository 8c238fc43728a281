package client_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// scripted is a validator that gives a fixed answer.
type scripted struct {
	countersignv1.UnimplementedValidatorServiceServer
	response *countersignv1.AuthorizeResponse
	err      error
	asked    *countersignv1.AuthorizeRequest
}

func (s *scripted) Authorize(
	_ context.Context, r *countersignv1.AuthorizeRequest,
) (*countersignv1.AuthorizeResponse, error) {
	s.asked = r
	return s.response, s.err
}

// dial returns a client of a scripted validator.
func scriptedClient(t *testing.T, s *scripted) *client.Client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	countersignv1.RegisterValidatorServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	connection, err := grpc.NewClient("passthrough:///validator", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = connection.Close()
		server.Stop()
		<-served
	})
	return client.New(connection)
}

func answer(d countersignv1.Decision, r countersignv1.Reason) *countersignv1.AuthorizeResponse {
	return &countersignv1.AuthorizeResponse{Decision: d, Reason: r}
}

// malformed is the token that the middleware sends in place of a rejected credential: no app can have it
// (B03).
var malformed = strings.Repeat("?", secret.MaxLength+1)

const (
	allow = countersignv1.Decision_DECISION_ALLOW
	deny  = countersignv1.Decision_DECISION_DENY
)

// B19, B20: the responses of the middleware to senders. A denial, an outage and an approval have different
// responses.
func TestB20_Middleware(t *testing.T) {
	letThrough := func(w http.ResponseWriter, r *http.Request, h http.Handler, _ error) { h.ServeHTTP(w, r) }
	unavailable := apierr.Unavailable(apierr.NotLoaded, "not loaded")
	tests := []struct {
		name     string
		script   scripted
		header   string
		through  func(http.ResponseWriter, *http.Request, http.Handler, error)
		want     int
		wantSent string
		wantAuth string
	}{
		{
			"allowed",
			scripted{response: answer(allow, countersignv1.Reason_REASON_TOKEN_VALID)},
			"Bearer cs_x", nil, 200, "cs_x",
			"",
		},
		{
			"scheme in any case",
			scripted{response: answer(allow, countersignv1.Reason_REASON_TOKEN_VALID)},
			"bearer  cs_x ", nil,
			200, "cs_x", "",
		},
		{"none sent", scripted{response: answer(deny, countersignv1.Reason_REASON_TOKEN_MISSING)}, "", nil, 401, "", "Bearer"},
		{
			"another scheme is a token nobody knows",
			scripted{response: answer(deny, countersignv1.Reason_REASON_TOKEN_MALFORMED)},
			"Basic eDp5", nil, 401, malformed, `Bearer error="invalid_token"`,
		},
		{
			"revoked",
			scripted{response: answer(deny, countersignv1.Reason_REASON_TOKEN_REVOKED)},
			"Bearer cs_x", nil, 401, "cs_x",
			`Bearer error="invalid_token"`,
		},
		{
			"wrong scope",
			scripted{response: answer(deny, countersignv1.Reason_REASON_SCOPE_NOT_GRANTED)},
			"Bearer cs_x", nil, 403,
			"cs_x", "",
		},
		{
			"unsupported source",
			scripted{response: answer(deny, countersignv1.Reason_REASON_SOURCE_NOT_SUPPORTED)},
			"", nil, 403,
			"", "",
		},
		{
			"not UTF-8",
			scripted{response: answer(deny, countersignv1.Reason_REASON_TOKEN_MALFORMED)},
			"Bearer \xff", letThrough,
			401, "?", `Bearer error="invalid_token"`,
		},
		{"malformed is no outage", scripted{err: apierr.Invalid("scope", "want one")}, "Bearer cs_x", letThrough, 400, "cs_x", ""},
		{"outage", scripted{err: unavailable}, "Bearer cs_x", nil, 503, "cs_x", ""},
		{"outage, let through by choice", scripted{err: unavailable}, "Bearer cs_x", letThrough, 200, "cs_x", ""},
		{
			"an answer that is none is no approval",
			scripted{response: &countersignv1.AuthorizeResponse{}},
			"Bearer cs_x", nil, 500,
			"cs_x", "",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := client.Middleware{
				Client: scriptedClient(t, &tt.script), Scope: countersignv1.Scope_SCOPE_EVENTS, Undecided: tt.through,
				AppID: func(r *http.Request) string { return r.PathValue("app") },
			}
			mux := http.NewServeMux()
			mux.Handle("POST /{app}/events", m.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			r := httptest.NewRequest("POST", "/app1/events", nil)
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if w.Code != tt.want || w.Header().Get("WWW-Authenticate") != tt.wantAuth {
				t.Errorf("got status %d, WWW-Authenticate %q; want %d, %q",
					w.Code, w.Header().Get("WWW-Authenticate"), tt.want, tt.wantAuth)
			}
			if tt.script.asked.GetToken() != tt.wantSent || tt.script.asked.GetAppId() != "app1" ||
				tt.script.asked.GetScope() != countersignv1.Scope_SCOPE_EVENTS {
				t.Errorf("the validator was asked about token %q of app %q", tt.script.asked.GetToken(), tt.script.asked.GetAppId())
			}
			if strings.Contains(w.Body.String(), "cs_x") {
				t.Error("the response contains the secret")
			}
		})
	}
}

// B03: the client shortens a token that is too long, so that the message is not too large. The shortened
// token is still too long to be valid.
func TestB03_OverlongTokenIsCut(t *testing.T) {
	s := &scripted{response: answer(deny, countersignv1.Reason_REASON_TOKEN_MALFORMED)}
	got, err := scriptedClient(
		t, s,
	).Authorize(t.Context(), client.Request{AppID: "a", Token: secret.New(strings.Repeat("x", 1<<20))})
	if err != nil || got.Allow || len(s.asked.GetToken()) != secret.MaxLength+1 {
		t.Errorf("the client sent a token of %d bytes, and got answer %+v, error %v", len(s.asked.GetToken()), got, err)
	}
}

// The middleware rejects a request with an invalid app id without a question to a validator. It does so even
// if its Undecided accepts requests in an outage.
func TestB19_MiddlewareRefusesBadApps(t *testing.T) {
	s := &scripted{response: answer(allow, countersignv1.Reason_REASON_APP_NOT_CONFIGURED)}
	handler := client.Middleware{
		Client: scriptedClient(
			t, s,
		),
		Scope:     countersignv1.Scope_SCOPE_EVENTS,
		AppID:     func(*http.Request) string { return "bad app" },
		Undecided: func(w http.ResponseWriter, r *http.Request, h http.Handler, _ error) { h.ServeHTTP(w, r) },
	}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	if w.Code != http.StatusBadRequest || s.asked != nil {
		t.Errorf("got status %d; the validator was asked %v", w.Code, s.asked)
	}
}

func TestReason(t *testing.T) {
	_, err := scriptedClient(
		t, &scripted{err: apierr.Unavailable(apierr.DataTooOld, "old")},
	).Authorize(t.Context(), client.Request{AppID: "a"})
	if got := client.Reason(err); got != apierr.DataTooOld {
		t.Errorf("Reason = %q, want %q", got, apierr.DataTooOld)
	}
	_, err = scriptedClient(t, &scripted{err: context.Canceled}).Authorize(t.Context(), client.Request{AppID: "a"})
	if got := client.Reason(err); got == "" {
		t.Error("Reason of an error without a stable reason: want the name of its gRPC code")
	}
}
