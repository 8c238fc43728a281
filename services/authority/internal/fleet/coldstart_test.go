package fleet_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	authority "github.com/countersign/countersign/services/authority/server"
	"github.com/countersign/countersign/services/internal/floorfile"
	"github.com/countersign/countersign/services/store/tools"
	"github.com/countersign/countersign/services/test/cluster"
	validator "github.com/countersign/countersign/services/validator/server"
)

// floored is a cluster whose authority has a floor file.
type floored struct {
	*world
	path string
}

func startFloored(t *testing.T, options cluster.Options) *floored {
	t.Helper()
	f := &floored{world: start(t, options), path: filepath.Join(t.TempDir(), "floor")}
	f.restart()
	return f
}

// restart restarts the authority. Calls wait until it serves.
func (f *floored) restart() {
	f.t.Helper()
	f.AuthorityProcesses[0].Stop()
	f.AuthorityProcesses[0] = f.StartAuthorityWith(f.t, f.Authority, func(c *authority.Config) { c.FloorFile = f.path })
}

func partitionOf(app string) int {
	hash := policy.HashApp(app)
	return hash.Partition(record.DefaultPartitions)
}

// awaitFloor waits until the floor file has at least a revision in the partition of an app.
func (f *floored) awaitFloor(app string, revision uint64) {
	f.t.Helper()
	check.Eventually(f.t, "the floor file", func() error {
		floor, err := floorfile.Read(f.path, f.Ring)
		if err == nil && floor.Cursors[partitionOf(app)].Revision < revision {
			err = fmt.Errorf("at %s", floor.Cursors[partitionOf(app)])
		}
		return err
	})
}

func (f *floored) create(app, name string) (*pb.CreateTokenResponse, error) {
	return f.authorities[0].CreateToken(f.admin(), &pb.CreateTokenRequest{AppId: app, Name: name})
}

// readyz returns the authority's answer to /readyz.
func (f *floored) readyz() string {
	f.t.Helper()
	response, err := http.Get("http://" + f.AuthorityProcesses[0].HTTPAddress + "/readyz")
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(body)
}

// lose creates a token of an app and revokes it. Then it stops the authority, and replaces the store by a
// copy from before the revocation, or from before the token. It returns the secret.
func (f *floored) lose(app string, everything bool) string {
	f.t.Helper()
	client := f.redis()
	before := copyOf(f.t, client)
	var made *pb.CreateTokenResponse
	check.Eventually(f.t, "the authority", func() (err error) { made, err = f.create(app, "leaked"); return err })
	if !everything {
		before = copyOf(f.t, client)
	}
	if _, err := f.authorities[0].RevokeToken(f.admin(), &pb.RevokeTokenRequest{
		AppId:   app,
		TokenId: made.GetToken().GetTokenId(),
	}); err != nil {
		f.t.Fatal(err)
	}
	f.awaitFloor(app, 2)
	f.AuthorityProcesses[0].Stop()
	putBack(f.t, client, before)
	return made.GetSecret()
}

// TestB08_ColdStartOverAnOlderStore: the authority and a validator start over a store that has lost changes,
// and only the floor file shows the loss. They do not use the lost app's partition, and report that, until an
// operator adopts the store.
func TestB08_ColdStartOverAnOlderStore(t *testing.T) {
	for name, everything := range map[string]bool{"an old copy": false, "an empty store": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFloored(t, cluster.Options{})
			const app, other = "app", "another-app"
			secret := f.lose(app, everything)
			f.restart()
			fresh := f.StartValidator(t, func(c *validator.Config) { c.Fleet = f.Fleet("fresh", f.Authority) })
			check.Eventually(t, "a change of another app", func() error { _, err := f.create(other, "x"); return err })
			check.Eventually(t, "the alarm", func() error {
				if got := metric(t, f.AuthorityProcesses[0].HTTPAddress, "countersign_below_floor_partitions"); got != "1" {
					return fmt.Errorf("%s partitions are below the floor", got)
				}
				if got := f.readyz(); !strings.Contains(got, "below the floor in 1 partitions:") ||
					!strings.Contains(got, "adopt --above-epoch 1") {
					return fmt.Errorf("/readyz: %s", got)
				}
				return nil
			})
			_, err := f.create(app, "x")
			if status.Code(err) != codes.Unavailable || apierr.ReasonOf(err) != apierr.StoreForked {
				t.Errorf("a change of the lost app: got %v, want UNAVAILABLE, STORE_FORKED", err)
			}
			_, err = f.authorities[0].GetApp(f.admin(), &pb.GetAppRequest{AppId: app})
			if status.Code(err) != codes.Unavailable || apierr.ReasonOf(err) != apierr.StoreForked {
				t.Errorf("a read of the lost app: got %v, want UNAVAILABLE, STORE_FORKED", err)
			}
			check.Eventually(t, "the floor of a validator", func() error {
				if got := metric(t, fresh.HTTPAddress, "countersign_floor_unverified"); got != "0" {
					return fmt.Errorf("floor_unverified %s", got)
				}
				return nil
			})
			if answer, err := f.ask(fresh.Address, app, secret); err == nil {
				t.Errorf("the validator decides from the old store: got %v, want an error", answer)
			}

			tools := tools.New(f.redis(), f.Ring)
			floor, err := floorfile.Read(f.path, f.Ring)
			if err != nil {
				t.Fatal(err)
			}
			tools.UseFloor(floor)
			look, err := tools.Status(t.Context())
			if err != nil || len(look.BelowFloor) != 1 || !strings.Contains(strings.Join(look.Warnings, "\n"),
				"below the floor in 1 partition:") {
				t.Errorf("status: got below floor %+v, %v, want one partition and a warning", look.BelowFloor, err)
			}
			plan, err := tools.PlanAdoption(t.Context(), 0)
			if err == nil {
				err = tools.Adopt(t.Context(), plan)
			}
			if err != nil {
				t.Fatal(err)
			}
			check.Eventually(t, "a change after the adoption", func() error { _, err := f.create(app, "after"); return err })
			check.Eventually(t, "a decision after the adoption",
				func() error { _, err := f.ask(fresh.Address, app, secret); return err })
			if got := metric(t, f.AuthorityProcesses[0].HTTPAddress, "countersign_below_floor_partitions"); got != "0" {
				t.Errorf("after the adoption: got %s partitions below the floor, want 0", got)
			}
			f.awaitFloor(app, 1_000_000_000)
		})
	}
}

// TestB08_ColdStartIsHealedByWhoKnows: the authority has only the floor of the lost changes, and a validator
// that kept running has the changes. The authority heals the store.
func TestB08_ColdStartIsHealedByWhoKnows(t *testing.T) {
	f := startFloored(t, cluster.Options{Validators: 1})
	secret := f.lose("app", false)
	f.restart()
	check.Eventually(t, "a change after the healing", func() error { _, err := f.create("app", "after"); return err })
	if answer, err := f.ask(f.Validators[0], "app", secret); err != nil ||
		answer.GetReason() != pb.Reason_REASON_TOKEN_REVOKED {
		t.Errorf("got %v, %v, want the token revoked", answer, err)
	}
}

// TestUnusedStoreThatIsOld: without a floor file, an authority reports a store without changes if the store
// is older than an hour. It does not report a newer one.
func TestUnusedStoreThatIsOld(t *testing.T) {
	for age, odd := range map[time.Duration]bool{time.Minute: false, 2 * time.Hour: true} {
		f := &floored{world: start(t, cluster.Options{})}
		meta := f.meta()
		meta.CreateTime = time.Now().Add(-age)
		raw, err := record.SealMeta(f.Ring, meta)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.redis().Set(t.Context(), record.MetaKey, raw, 0).Err(); err != nil {
			t.Fatal(err)
		}
		f.restart()
		check.Eventually(t, "the authority", func() error {
			_, err := f.authorities[0].ListApps(f.admin(), &pb.ListAppsRequest{})
			return err
		})
		value := map[bool]string{false: "0", true: "1"}
		if got := metric(t, f.AuthorityProcesses[0].HTTPAddress, "countersign_store_empty"); got != value[odd] {
			t.Errorf("store of age %v: got countersign_store_empty %s", age, got)
		}
		if got := f.readyz(); strings.Contains(got, "came back empty") != odd {
			t.Errorf("store of age %v: got /readyz %s", age, got)
		}
		look, err := tools.New(f.redis(), f.Ring).Status(t.Context())
		if err != nil || strings.Contains(strings.Join(look.Warnings, "\n"), "came back empty") != odd {
			t.Errorf("store of age %v: got warnings %v, %v", age, look.Warnings, err)
		}
		if _, err := f.create("app", "first"); err != nil {
			t.Fatal(err)
		}
		check.Eventually(t, "the end of the alarm", func() error {
			if got := metric(t, f.AuthorityProcesses[0].HTTPAddress, "countersign_store_empty"); got != "0" {
				return fmt.Errorf("countersign_store_empty %s", got)
			}
			return nil
		})
	}
}
