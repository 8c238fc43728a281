package client

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Middleware puts a question in front of an http.Handler.
type Middleware struct {
	// Client asks.
	Client *Client
	// Scope is the endpoint that the handler is.
	Scope countersignv1.Scope
	// AppID finds the app in a request, for example in its path. One that is none is answered with 400.
	AppID func(*http.Request) string
	// Source finds what sent a request; nil means an ordinary backend always.
	Source func(*http.Request) countersignv1.Source
	// Undecided answers a request about which nothing can be decided: an outage, and neither a denial nor an
	// approval (B20). It gets the handler, so that it may let the request through. Nil answers 503, so that the
	// sender tries again.
	Undecided func(w http.ResponseWriter, r *http.Request, handler http.Handler, err error)
}

// Wrap returns a handler that accepts what a validator allows. A denial is 401 with the reason when another token
// would help (RFC 6750, section 3), and 403 when none would.
func (m Middleware) Wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := Request{AppID: m.AppID(r), Token: BearerToken(r), Scope: m.Scope}
		if !policy.ValidAppID(request.AppID) {
			http.Error(w, "bad app id", http.StatusBadRequest)
			return
		}
		if m.Source != nil {
			request.Source = m.Source(r)
		}
		answer, err := m.Client.Authorize(r.Context(), request)
		switch {
		case status.Code(err) == codes.InvalidArgument:
			// A malformed request is no outage: whoever lets requests through in an outage must not let this one.
			http.Error(w, "bad request", http.StatusBadRequest)
		case err != nil && m.Undecided != nil:
			m.Undecided(w, r, handler, err)
		case err != nil:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the request cannot be authorized now", http.StatusServiceUnavailable)
		case !answer.Allow:
			deny(w, answer)
		default:
			handler.ServeHTTP(w, r)
		}
	})
}

func deny(w http.ResponseWriter, answer Answer) {
	reason := strings.TrimPrefix(answer.Reason.String(), "REASON_")
	switch answer.Reason {
	case countersignv1.Reason_REASON_SOURCE_NOT_SUPPORTED, countersignv1.Reason_REASON_SCOPE_NOT_GRANTED:
		http.Error(w, reason, http.StatusForbidden)
	case countersignv1.Reason_REASON_TOKEN_MISSING:
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, reason, http.StatusUnauthorized)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		http.Error(w, reason, http.StatusUnauthorized)
	}
}

// BearerToken returns the secret that a request carries in its Authorization header (RFC 6750, section 2.1); the zero
// value when it carries none. Credentials of another scheme are a token that nobody knows, not a missing one.
func BearerToken(r *http.Request) secret.Secret {
	value := r.Header.Get("Authorization")
	if scheme, rest, _ := strings.Cut(value, " "); strings.EqualFold(scheme, "Bearer") {
		value = strings.TrimSpace(rest)
	}
	return secret.New(value)
}
