package client

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/bearer"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Middleware asks a validator before it calls an http.Handler. Client, Scope and AppID are required. The
// functions must be safe for concurrent use.
type Middleware struct {
	// Client asks the validators.
	Client *Client
	// Scope is the endpoint that the handler serves.
	Scope countersignv1.Scope
	// AppID returns the app of a request, for example from its path. The sender gets 400 if the app id is
	// invalid.
	AppID func(*http.Request) string
	// Secret returns the secret of a request; the zero value means none. Nil means BearerSecret.
	// HeaderSecret, QuerySecret and FormSecret are for integrations that send the secret elsewhere. When the
	// function fails, the question carries a token that is TOKEN_MALFORMED for every app. Such a token
	// authenticates nothing, but a scope that is not enforced is still allowed (B13). In a 401 response the
	// sender sees the errors of these four functions, and no errors of other functions. When FormSecret
	// cannot read the body, no question is asked and the sender gets 400 or 413.
	Secret func(*http.Request) (secret.Secret, error)
	// Source returns the kind of sender of a request. Nil means an ordinary backend.
	Source func(*http.Request) countersignv1.Source
	// Timeout is how long a question may take. 0 means DefaultTimeout. A request's own deadline should be
	// later: when it passes, the sender gets 503 and Undecided is not called.
	Timeout time.Duration
	// Undecided answers a request in an outage: no validator can decide (see the function Undecided). An
	// outage is neither a denial nor an approval (B20). Undecided gets the handler, so that it can accept the
	// request by calling it. If it is nil, the sender gets 503 and may try again.
	Undecided func(w http.ResponseWriter, r *http.Request, handler http.Handler, err error)
}

// Wrap returns a handler that calls the given handler for requests that a validator allows. A denied request
// gets 401 and the reason (RFC 6750, section 3). It gets 403 and the reason when the token does not have the
// scope, or the source is not supported. An outage goes to Undecided. If the request ends before the
// validator's answer, neither the handler nor Undecided is called, whatever the answer is. The sender, if
// still connected, gets 503. Other errors get 400 when the request is malformed, and otherwise 500.
func (m Middleware) Wrap(handler http.Handler) http.Handler {
	if m.Timeout <= 0 {
		m.Timeout = DefaultTimeout
	}
	if m.Secret == nil {
		m.Secret = BearerSecret
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := Request{AppID: m.AppID(r), Scope: m.Scope}
		if !policy.ValidAppID(request.AppID) {
			http.Error(w, "bad app id", http.StatusBadRequest)
			return
		}
		if m.Source != nil {
			request.Source = m.Source(r)
		}
		token, refused := m.Secret(r)
		if unreadable := (*bodyError)(nil); errors.As(refused, &unreadable) {
			http.Error(w, "the body cannot be read", unreadable.status())
			return
		}
		if request.Token = token; refused != nil {
			request.Token = malformed
		}
		until := time.Now().Add(m.Timeout)
		ctx, cancel := context.WithDeadline(r.Context(), until)
		answer, err := m.Client.Authorize(ctx, request)
		cancel()
		switch {
		case over(r.Context(), err, until):
			later(w)
		case err == nil && answer.Allow:
			handler.ServeHTTP(w, r)
		case err == nil:
			deny(w, answer, refused)
		case Undecided(r.Context(), err):
			m.undecided(w, r, handler, err)
		case status.Code(err) == codes.InvalidArgument:
			http.Error(w, "bad request", http.StatusBadRequest)
		default:
			http.Error(w, "the request cannot be authorized", http.StatusInternalServerError)
		}
	})
}

func (m Middleware) undecided(w http.ResponseWriter, r *http.Request, handler http.Handler, err error) {
	if m.Undecided == nil {
		later(w)
		return
	}
	m.Undecided(w, r, handler, err)
}

// later asks the sender to try again.
func later(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, "the request cannot be authorized now", http.StatusServiceUnavailable)
}

func deny(w http.ResponseWriter, answer Answer, refused error) {
	reason := strings.TrimPrefix(answer.Reason.String(), "REASON_")
	switch answer.Reason {
	case countersignv1.Reason_REASON_SOURCE_NOT_SUPPORTED, countersignv1.Reason_REASON_SCOPE_NOT_GRANTED:
		http.Error(w, reason, http.StatusForbidden)
		return
	case countersignv1.Reason_REASON_TOKEN_MISSING:
		w.Header().Set("WWW-Authenticate", "Bearer")
	default:
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	if why := bearer.Error(""); errors.As(refused, &why) {
		reason += ": " + why.Error()
	}
	http.Error(w, reason, http.StatusUnauthorized)
}
