package management_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/rules"
)

// pages lists an app's tokens page by page. between is called after each page.
func (w *world) pages(t *testing.T, app string, size int32, ended bool, between func()) (tokens []*pb.Token, count int) {
	t.Helper()
	request := &pb.ListTokensRequest{AppId: app, PageSize: size, ShowRevoked: ended}
	for {
		page := check.Must(w.ListTokens(t.Context(), request))(t)
		tokens = append(tokens, page.GetTokens()...)
		count++
		if len(page.GetTokens()) > int(size) || page.GetNextPageToken() != "" && len(page.GetTokens()) == 0 {
			t.Fatalf("a page of %d has %d tokens", size, len(page.GetTokens()))
		}
		if count > 1000 {
			t.Fatal("there is no end of pages")
		}
		if page.GetNextPageToken() == "" {
			return tokens, count
		}
		request.PageToken = page.GetNextPageToken()
		between()
	}
}

func TestB06_Lists(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	if tokens := w.list(t, app, true); len(tokens) != 0 {
		t.Errorf("an app never heard of has %v", tokens)
	}
	var all, live []string
	for i := range 10 {
		token := w.create(t, app, fmt.Sprint(i), events).GetToken()
		all = append(all, token.GetTokenId())
		switch i % 5 {
		case 1:
			check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: app, TokenId: token.GetTokenId()}))(t)
			continue
		case 2:
			check.Must(w.update(t.Context(), app, &pb.Token{TokenId: token.GetTokenId(), ExpireTime: in(-time.Second)},
				"expire_time"))(t)
			continue
		case 3:
			check.Must(w.update(t.Context(), app, &pb.Token{TokenId: token.GetTokenId(), State: disabled}, "state"))(t)
		}
		live = append(live, token.GetTokenId())
	}
	for _, ended := range []bool{false, true} {
		want := live
		if ended {
			want = all
		}
		for _, size := range []int32{1, 2, 3, 5, 9, 10, 11, 100, 1000, 1001, 2_000_000_000} {
			got, pages := w.pages(t, app, size, ended, func() {})
			if !slices.Equal(ids(got), want) {
				t.Errorf("pages of %d, ended ones too: %t: got %v, want %v", size, ended, ids(got), want)
			}
			if least := (len(want) + int(size) - 1) / int(size); pages != least {
				t.Errorf("%d tokens on pages of %d make %d pages", len(want), size, pages)
			}
		}
	}
	counts := w.app(t, app)
	if counts.GetActiveTokenCount() != 4 || counts.GetDisabledTokenCount() != 2 || counts.GetRevokedTokenCount() != 2 ||
		counts.GetExpiredTokenCount() != 2 {
		t.Errorf("the app counts %v", counts)
	}

	page := check.Must(w.ListTokens(t.Context(), &pb.ListTokensRequest{AppId: app, PageSize: 1}))(t).GetNextPageToken()
	for name, request := range map[string]*pb.ListTokensRequest{
		"other app":    {AppId: newApp(), PageToken: page},
		"other filter": {AppId: app, PageToken: page, ShowRevoked: true},
	} {
		if _, err := w.ListTokens(t.Context(), request); failureOf(err) != invalid("page_token") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := w.ListApps(t.Context(), &pb.ListAppsRequest{PageToken: page})
	wantFailure(t, err, invalid("page_token"))
	other := check.Must(w.ListTokens(t.Context(), &pb.ListTokensRequest{AppId: app, PageSize: 3, PageToken: page}))(t)
	if !slices.Equal(ids(other.GetTokens()), live[1:4]) {
		t.Errorf("another page size: got %v, want %v", ids(other.GetTokens()), live[1:4])
	}
}

func TestB06_DefaultPageSize(t *testing.T) {
	w := newWorld(t)
	f := w.fixture(t)
	for asked, want := range map[int32]int{0: 100, 1000: 1000, 5000: 1000, 999: 999} {
		if got := check.Must(w.ListTokens(t.Context(), &pb.ListTokensRequest{
			AppId:    f.full,
			PageSize: asked,
		}))(t); len(got.GetTokens()) != want {
			t.Errorf("page size %d: got %d tokens, want %d", asked, len(got.GetTokens()), want)
		}
	}
}

// TestB06_LargeTokens: a page ends early so that it fits into a gRPC message.
func TestB06_LargeTokens(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	var want []string
	w.write(t, app, func(d *record.Document) {
		for i := range 1000 {
			id := rules.NewTokenID()
			want = append(want, id)
			d.Tokens = append(d.Tokens, record.Token{
				Token: policy.Token{ID: id, Digest: secret.DigestOf(id), State: policy.Active},
				Name:  fmt.Sprintf("%3d%s", i, long(97)), Note: strings.Repeat("\U0001f511", 1000),
			})
		}
	})
	got, pages := w.pages(t, app, 1000, false, func() {})
	if !slices.Equal(ids(got), want) || pages != 2 {
		t.Errorf("%d tokens on %d pages", len(got), pages)
	}
}

// TestB06_StableWhileOthersWrite: a token that exists throughout is listed exactly once, in order of
// creation, whatever other tokens do meanwhile.
func TestB06_StableWhileOthersWrite(t *testing.T) {
	w := newWorld(t)
	for _, ended := range []bool{false, true} {
		t.Run(fmt.Sprintf("ended ones too: %t", ended), func(t *testing.T) {
			app := newApp()
			var stay, leave []string
			for i := range 60 {
				id := w.create(t, app, fmt.Sprint(i), events).GetToken().GetTokenId()
				if i%3 == 0 {
					leave = append(leave, id)
				} else {
					stay = append(stay, id)
				}
			}
			step := 0
			// Each step makes one write of each kind: tokens are created, rotated, renamed, disabled,
			// revoked, and expire. One of them is the last token of the page before.
			churn := func() {
				step++
				made := w.create(t, app, fmt.Sprint("new ", step), events).GetToken().GetTokenId()
				check.Must(w.RotateToken(t.Context(), &pb.RotateTokenRequest{AppId: app, TokenId: made}))(t)
				check.Must(w.update(t.Context(), app, &pb.Token{TokenId: stay[step%len(stay)], Name: fmt.Sprint("renamed ", step)},
					"name"))(t)
				check.Must(w.update(t.Context(), app, &pb.Token{TokenId: stay[(7*step)%len(stay)], State: disabled}, "state"))(t)
				if len(leave) > 1 {
					check.Must(w.RevokeToken(t.Context(), &pb.RevokeTokenRequest{AppId: app, TokenId: leave[0]}))(t)
					check.Must(w.update(t.Context(), app, &pb.Token{TokenId: leave[1], ExpireTime: in(-400 * 24 * time.Hour)},
						"expire_time"))(t)
					leave = leave[2:]
				}
			}
			var got []*pb.Token
			request := &pb.ListTokensRequest{AppId: app, PageSize: 4, ShowRevoked: ended}
			for range 100 {
				page := check.Must(w.ListTokens(t.Context(), request))(t)
				got = append(got, page.GetTokens()...)
				if request.PageToken = page.GetNextPageToken(); request.PageToken == "" || len(got) > 75 {
					break
				}
				churn()
			}
			seen := map[string]int{}
			var order []string
			for _, id := range ids(got) {
				seen[id]++
				if slices.Contains(stay, id) {
					order = append(order, id)
				}
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("%s is listed %d times", id, n)
				}
			}
			if !slices.Equal(order, stay) {
				t.Errorf("of those that were there all the time got %v, want %v", order, stay)
			}
		})
	}
}

// TestListApps: all apps with a policy are listed by id, page by page, while others are created.
func TestListApps(t *testing.T) {
	w := newWorld(t)
	if got := check.Must(w.ListApps(t.Context(), &pb.ListAppsRequest{}))(t); len(got.GetApps()) != 0 ||
		got.GetNextPageToken() != "" {
		t.Errorf("an empty store has %v", got)
	}
	var stay []string
	for range 25 {
		app := newApp()
		w.create(t, app, "a", events)
		stay = append(stay, app)
	}
	slices.Sort(stay)
	w.enforce(t, stay[3], events)
	gone := newApp()
	w.create(t, gone, "a")
	check.Must(w.DeleteApp(t.Context(), &pb.DeleteAppRequest{AppId: gone}))(t)
	request := &pb.ListAppsRequest{PageSize: 4}
	var got []string
	fresh := map[string]bool{}
	for {
		page := check.Must(w.ListApps(t.Context(), request))(t)
		for _, app := range page.GetApps() {
			if !fresh[app.GetAppId()] {
				got = append(got, app.GetAppId())
			}
			if want := w.app(t, app.GetAppId()); !proto.Equal(app, want) {
				t.Errorf("listed as %v, read as %v", app, want)
			}
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" || len(fresh) > 100 {
			break
		}
		app := newApp()
		w.create(t, app, "a")
		fresh[app] = true
	}
	if !slices.Equal(got, stay) {
		t.Errorf("got %v, want %v", got, stay)
	}
}
