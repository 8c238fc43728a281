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

// Middleware puts a question in front of an http.Handler. Its functions are called from many goroutines at
// once.
type Middleware struct {
	// Client asks.
	Client *Client
	// Scope is the endpoint that the handler is.
	Scope countersignv1.Scope
	// AppID finds the app in a request, for example in its path. One that is none is answered with 400.
	AppID func(*http.Request) string
	// Secret finds the secret that a request carries; nil is BearerSecret. HeaderSecret, QuerySecret and
	// FormSecret are for integrations that send it elsewhere. The zero value is a request without one. When
	// it returns an error, the question is asked about a token that is TOKEN_MALFORMED for every app: it
	// authenticates nothing, and what is not enforced is allowed all the same (B13). Its errors are not
	// shown, but for those of the functions named here.
	Secret func(*http.Request) (secret.Secret, error)
	// Source finds what sent a request; nil means an ordinary backend always.
	Source func(*http.Request) countersignv1.Source
	// Timeout is how long a question may take: 0 is DefaultTimeout. A request with a deadline should have
	// longer: at its own deadline it is answered with 503, and Undecided is not asked.
	Timeout time.Duration
	// Undecided answers a request about which nothing can be decided: an outage as the function Undecided
	// has it, and neither a denial nor an approval (B20). It gets the handler, so that it may let the
	// request through. Nil answers 503, so that the sender tries again.
	Undecided func(w http.ResponseWriter, r *http.Request, handler http.Handler, err error)
}

// Wrap returns a handler that accepts what a validator allows. A denial is 401 with the reason when another
// token would help (RFC 6750, section 3), and 403 when none would. An outage is for Undecided. A request
// that has ended while it was authorized reaches neither the handler nor Undecided, whatever the answer; if
// its sender is still there, it reads 503. An error that is no outage is 400 when the request is malformed,
// and else 500.
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
