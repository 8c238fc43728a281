package snapshot_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/snapshot"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// When the file format gets a new version, make its files with the command below, and commit them:
//
//	go test ./pkg/snapshot -run TestFilesOfEarlierReleasesAreRead -golden v2
//
// An existing file is not changed.
var makeGolden = flag.String("golden", "", "make the files of a `version` in testdata, as this code writes them")

// golden returns a file that was written when its version of the format was new.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	return check.Must(os.ReadFile(filepath.Join("testdata", name)))(t)
}

// TestFilesOfEarlierReleasesAreRead: an upgrade keeps snapshots and backups readable. Files of every version
// give what was written, except for the tags of cursors, which are random.
func TestFilesOfEarlierReleasesAreRead(t *testing.T) {
	ring := fixedRing(t)
	made, want := smallReplica(t, ring)
	backup, wrote := smallBackup(t, ring, 100)
	if *makeGolden != "" {
		for name, file := range map[string][]byte{*makeGolden + ".snapshot": made, *makeGolden + ".backup": backup} {
			path := filepath.Join("testdata", name)
			if _, err := os.Stat(path); err == nil {
				continue
			}
			if err := os.WriteFile(path, file, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	kinds := map[string]int{}
	for _, path := range check.Must(filepath.Glob("testdata/v*.*"))(t) {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			file := golden(t, name)
			r := check.Must(snapshot.NewReader(bytes.NewReader(file), ring))(t)
			kinds[r.Kind().String()]++
			if created := r.CreateTime(); created.Before(time.UnixMilli(1)) || created.After(time.Now()) {
				t.Errorf("made at %v", created)
			}
			got, heard, err := read(bytes.NewReader(file), ring)
			if err != nil {
				t.Fatal(err)
			}
			if r.Kind() == snapshot.Backup {
				if r.Meta().StoreID != "backup" || r.Meta().Partitions != 2 || !slices.Equal(heard, wrote) {
					t.Errorf("of store %+v\n%q\nwant\n%q", r.Meta(), heard, wrote)
				}
				return
			}
			if r.Meta().StoreID != "replica" || r.Meta().Partitions != 3 || len(got) != len(want) {
				t.Fatalf("%d partitions of store %+v", len(got), r.Meta())
			}
			for i := range want {
				want := want
				if strings.HasPrefix(name, "v1.") {
					want = withoutMemory(t, want)
				}
				if !reflect.DeepEqual(withoutTags(t, got[i]), withoutTags(t, want[i])) {
					t.Errorf("partition %d:\n%+v\nwant\n%+v", i, got[i], want[i])
				}
			}
		})
	}
	if kinds[snapshot.OfReplica.String()] == 0 || kinds[snapshot.Backup.String()] == 0 {
		t.Errorf("files of earlier releases: %v", kinds)
	}
	checkWritten(t)
}

// checkWritten checks that the files hold something of everything, since nothing can be lost from empty
// contents.
func checkWritten(t *testing.T) {
	_, all := smallReplica(t, fixedRing(t))
	var apps, policies, tokens, revoked, links, orphans int
	for _, c := range all {
		apps, revoked, links, orphans = apps+len(c.Apps), revoked+len(c.Sticky), links+len(c.Links), orphans+len(c.Orphans)
		for _, app := range c.Apps {
			if p := app.Entry.Policy; p != nil {
				policies, tokens = policies+1, tokens+p.Len()
			}
		}
	}
	if want := [6]int{8, 5, 10, 3, 2, 1}; [6]int{apps, policies, tokens, revoked, links, orphans} != want {
		t.Errorf("there are %d apps, %d policies, %d tokens, %d tokens kept revoked, %d links, %d orphans; want %v",
			apps, policies, tokens, revoked, links, orphans, want)
	}
}

// withoutMemory returns contents whose policies remember no digests, since version 1 cannot hold them.
func withoutMemory(t testing.TB, all []replica.Contents) []replica.Contents {
	t.Helper()
	all = slices.Clone(all)
	for i := range all {
		all[i].Apps = slices.Clone(all[i].Apps)
		for j, app := range all[i].Apps {
			if p := app.Entry.Policy; p != nil {
				entry := *app.Entry
				entry.Policy = check.Must(policy.New(p.Enforcement(), p.Tokens(), p.Deleted()))(t)
				all[i].Apps[j].Entry = &entry
			}
		}
	}
	return all
}

// withoutTags checks that all cursors have tags, and returns contents without them.
func withoutTags(t testing.TB, c replica.Contents) replica.Contents {
	t.Helper()
	if c.Confirmed != c.Cursor || c.Base != c.Cursor {
		t.Errorf("at %v, confirmed %v, links from %v: want one cursor", c.Cursor, c.Confirmed, c.Base)
	}
	c.Forks = slices.Clone(c.Forks)
	all := []*record.Cursor{&c.Cursor, &c.Confirmed, &c.Base}
	for i := range c.Forks {
		all = append(all, &c.Forks[i])
	}
	for _, at := range all {
		if at.Tag == (record.Tag{}) {
			t.Errorf("%v has no tag", at)
		}
		at.Tag = record.Tag{}
	}
	return c
}
