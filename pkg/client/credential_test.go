package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// enforcing returns a validator whose app has one token with the secret cs_x, and enforces the scope if
// enforced is true. It decides as a real validator does.
func enforcing(enforced bool) *fake {
	return &fake{call: func(_ context.Context, r *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
		reason := countersignv1.Reason_REASON_TOKEN_UNKNOWN
		switch {
		case r.GetToken() == "":
			reason = countersignv1.Reason_REASON_TOKEN_MISSING
		case r.GetToken() == "cs_x":
			reason = countersignv1.Reason_REASON_TOKEN_VALID
		case len(r.GetToken()) > secret.MaxLength:
			reason = countersignv1.Reason_REASON_TOKEN_MALFORMED
		}
		if !enforced || reason == countersignv1.Reason_REASON_TOKEN_VALID {
			return answer(allow, reason), nil
		}
		return answer(deny, reason), nil
	}}
}

type credentialCase struct {
	name        string
	find        func(*http.Request) (secret.Secret, error)
	target      string
	header      http.Header
	contentType string
	body        string
	want        int
	says        string
}

const form = "application/x-www-form-urlencoded"

var credentialCases = []credentialCase{
	{name: "bearer: one header", header: http.Header{"Authorization": {"Bearer cs_x"}}, want: 200},
	{name: "bearer: no header", want: 401, says: "TOKEN_MISSING"},
	{
		name: "bearer: no scheme", header: http.Header{"Authorization": {"cs_x"}}, want: 401,
		says: "TOKEN_MALFORMED: authorization: want Bearer",
	},
	{
		name:   "bearer: two headers, the first is right",
		header: http.Header{"Authorization": {"Bearer cs_x", "Bearer other"}}, want: 401,
		says: "TOKEN_MALFORMED: authorization: want one value",
	},
	{
		name:   "bearer: two headers, the second is right",
		header: http.Header{"Authorization": {"Basic eDp5", "Bearer cs_x"}}, want: 401,
		says: "want one value",
	},

	{
		name: "custom header: one header",
		find: client.HeaderSecret("X-App-Token"), header: http.Header{"X-App-Token": {"cs_x"}}, want: 200,
	},
	{name: "custom header: no header", find: client.HeaderSecret("x-app-token"), want: 401, says: "TOKEN_MISSING"},
	{
		name: "custom header: only Authorization is set", find: client.HeaderSecret("X-App-Token"),
		header: http.Header{"Authorization": {"Bearer cs_x"}}, want: 401, says: "TOKEN_MISSING",
	},
	{
		name: "custom header: two headers with the same secret",
		find: client.HeaderSecret("X-App-Token"), header: http.Header{"X-App-Token": {"cs_x", "cs_x"}},
		want: 401, says: "TOKEN_MALFORMED: header X-App-Token: want one value",
	},

	{
		name: "query: one parameter, other parameters badly encoded",
		find: client.QuerySecret("app_token"), target: "/?a=1&app_token=cs%5Fx&b=%zz;", want: 200,
	},
	{
		name: "query: no such parameter",
		find: client.QuerySecret("app_token"), target: "/?a=1", want: 401, says: "TOKEN_MISSING",
	},
	{
		name: "query: empty value",
		find: client.QuerySecret("app_token"), target: "/?app_token=", want: 401, says: "TOKEN_MISSING",
	},
	{
		name: "query: two parameters of the same name",
		find: client.QuerySecret("app_token"), target: "/?app_token=cs_x&app_token=other", want: 401,
		says: "TOKEN_MALFORMED: query parameter app_token: want one value",
	},
	{
		name: "query: same name, one percent-encoded",
		find: client.QuerySecret("app_token"), target: "/?app_token=cs_x&app%5Ftoken=other",
		want: 401, says: "want one value",
	},
	{
		name: "query: two parameters, one badly encoded",
		find: client.QuerySecret("app_token"), target: "/?app_token=cs_x&app_token=%zz",
		want: 401, says: "want it percent-encoded",
	},
	{
		name: "query: a semicolon between two parameters",
		find: client.QuerySecret("app_token"), target: "/?app_token=cs_x;app_token=other", want: 401,
		says: "want it percent-encoded",
	},
	{
		name: "query: only the form has the field",
		find: client.QuerySecret("app_token"), contentType: form, body: "app_token=cs_x", want: 401,
		says: "TOKEN_MISSING",
	},

	{
		name: "form: one field, another field badly encoded",
		find: client.FormSecret("app_token", 0), contentType: form + "; charset=utf-8",
		body: "event=a&app_token=cs_x&b=%zz", want: 200,
	},
	{
		name: "form: no such field", find: client.FormSecret("app_token", 0), contentType: form, body: "event=a", want: 401,
		says: "TOKEN_MISSING",
	},
	{
		name: "form: two fields of the same name", find: client.FormSecret("app_token", 0), contentType: form,
		body: "app_token=cs_x&event=a&app_token=cs_x", want: 401, says: "form field app_token: want one value",
	},
	{
		name: "form: only the query has the parameter",
		find: client.FormSecret("app_token", 0), target: "/?app_token=cs_x", contentType: form,
		body: "event=a", want: 401, says: "TOKEN_MISSING",
	},
	{
		name: "form: content type is not a form",
		find: client.FormSecret("app_token", 0), contentType: "application/json", body: "app_token=cs_x",
		want: 401, says: "TOKEN_MISSING",
	},
	{
		name: "form: exactly at the size limit", find: client.FormSecret("app_token", 20), contentType: form,
		body: "app_token=cs_x&a=123", want: 200,
	},
	{
		name: "form: one byte over the size limit",
		find: client.FormSecret("app_token", 20), contentType: form, body: "app_token=cs_x&a=1234",
		want: 401, says: "TOKEN_MALFORMED: form: want at most 20 bytes",
	},

	{name: "own function: an error that contains the secret", find: func(*http.Request) (secret.Secret, error) {
		return secret.New("cs_x"), errors.New("cs_x is in the words")
	}, want: 401, says: "TOKEN_MALFORMED\n"},
}

// B13, B19: a request can carry its token in a header, the query or the form. If the token is rejected, an
// app that enforces the scope denies the request, and an app that does not enforce it allows the request. No
// response repeats the secret. When the request is allowed, the handler can read the whole body.
func TestB13_WhereTheTokenStands(t *testing.T) {
	for _, enforced := range []bool{true, false} {
		c := client.New(serve(t, enforcing(enforced)))
		for _, tt := range credentialCases {
			for _, length := range []string{"known", "unknown"} {
				name := tt.name + ", length " + length
				if tt.target == "" {
					tt.target = "/"
				}
				r := httptest.NewRequest("POST", tt.target, strings.NewReader(tt.body))
				if length == "unknown" {
					r.ContentLength = -1
				}
				for key, values := range tt.header {
					r.Header[key] = values
				}
				r.Header.Set("Content-Type", tt.contentType)
				var seen string
				w := httptest.NewRecorder()
				client.Middleware{
					Client: c,
					Scope:  countersignv1.Scope_SCOPE_EVENTS,
					Secret: tt.find,
					AppID:  func(*http.Request) string { return "app1" },
				}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					seen = string(body)
					if err := r.Body.Close(); err != nil {
						t.Error(err)
					}
				})).ServeHTTP(w, r)
				want, says := tt.want, tt.says
				if !enforced {
					want, says = 200, ""
				}
				if w.Code != want || !strings.Contains(w.Body.String(), says) || strings.Contains(w.Body.String(), "cs_x") {
					t.Errorf("%s, enforced %t: got %d %q; want %d with %q and without the secret",
						name, enforced, w.Code, w.Body, want, says)
				}
				if want == 200 && seen != tt.body {
					t.Errorf("%s, enforced %t: the handler read the body %q, want %q", name, enforced, seen, tt.body)
				}
			}
		}
	}
}

// If the request's form was parsed before (ParseForm), FormSecret takes the secret from the parsed form. It
// ignores the query parameter of the same name.
func TestFormThatWasReadBefore(t *testing.T) {
	r := httptest.NewRequest("POST", "/?app_token=other", strings.NewReader("app_token=cs_x"))
	r.Header.Set("Content-Type", form)
	if err := r.ParseForm(); err != nil {
		t.Fatal(err)
	}
	if got, err := client.FormSecret("app_token", 0)(r); got.Reveal() != "cs_x" || err != nil {
		t.Errorf("FormSecret after ParseForm: got %q, error %v; want cs_x, the form field", got.Reveal(), err)
	}
}

// When the body with the form cannot be read, the sender gets an error, the client asks no validator, and the
// handler is not called. The app enforces nothing, so a question would be allowed.
func TestBodyThatCannotBeRead(t *testing.T) {
	f := enforcing(false)
	c := client.New(serve(t, f))
	for name, tt := range map[string]struct {
		body io.Reader
		want int
	}{
		"the connection breaks": {iotest.ErrReader(io.ErrUnexpectedEOF), 400},
		"the body is too large": {http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("app_token=cs_x")), 5), 413},
	} {
		r := httptest.NewRequest("POST", "/", tt.body)
		r.Header.Set("Content-Type", form)
		w := httptest.NewRecorder()
		client.Middleware{
			Client: c,
			Scope:  countersignv1.Scope_SCOPE_EVENTS,
			Secret: client.FormSecret("app_token", 0),
			AppID:  func(*http.Request) string { return "app1" },
		}.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })).ServeHTTP(w, r)
		if w.Code != tt.want || f.calls.Load() != 0 {
			t.Errorf("%s: got status %d and %d questions, want %d and none", name, w.Code, f.calls.Load(), tt.want)
		}
	}
}

// FormSecret finds no secret in the parts of a multipart form, whether the form was parsed before or not.
func TestMultipartFormCarriesNoSecret(t *testing.T) {
	const part = "--x\r\nContent-Disposition: form-data; name=app_token\r\n\r\ncs_x\r\n--x--\r\n"
	for _, parsed := range []bool{false, true} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(part))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		if parsed && r.PostFormValue("app_token") != "cs_x" {
			t.Fatal("PostFormValue: the form was not parsed")
		}
		if got, err := client.FormSecret("app_token", 0)(r); got.Reveal() != "" || err != nil {
			t.Errorf("parsed before %t: got %q, error %v; want no secret and no error", parsed, got.Reveal(), err)
		}
	}
}
