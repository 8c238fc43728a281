//go:build unix

package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ownedInfo is a file with an owner and a group that the test may be unable to set.
type ownedInfo struct {
	fs.FileInfo
	uid, gid uint32
}

func (o ownedInfo) Sys() any {
	stat := *o.FileInfo.Sys().(*syscall.Stat_t)
	stat.Uid, stat.Gid = o.uid, o.gid
	return &stat
}

func TestKeepOwner(t *testing.T) {
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	type owner struct{ uid, gid int }
	for name, tt := range map[string]struct {
		was     ownedInfo
		o       Options
		refused error
		gives   *owner
		mode    fs.FileMode
		fails   bool
	}{
		"the same": {was: ownedInfo{uid: uid, gid: gid}, mode: 0o640},
		"another group": {
			was: ownedInfo{uid: uid, gid: gid + 7}, gives: &owner{int(uid), int(gid) + 7},
			mode: 0o640,
		},
		"another owner": {
			was: ownedInfo{uid: uid + 7, gid: gid}, gives: &owner{int(uid) + 7, int(gid)},
			mode: 0o640,
		},
		"an owner that cannot be given": {
			was: ownedInfo{uid: uid + 7, gid: gid}, refused: syscall.EPERM,
			gives: &owner{int(uid) + 7, int(gid)}, mode: 0o600, fails: true,
		},
		"a service takes the file over": {
			was: ownedInfo{uid: uid, gid: gid + 7}, o: Options{Mode: 0o600, TakeOver: true},
			refused: syscall.EPERM, gives: &owner{int(uid), int(gid) + 7}, mode: 0o600,
		},
		"a service keeps the owner if it may": {
			was: ownedInfo{uid: uid, gid: gid + 7}, o: Options{Mode: 0o600, TakeOver: true},
			gives: &owner{int(uid), int(gid) + 7}, mode: 0o640,
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			put(t, path, "", 0o640)
			before, err := os.Stat(path)
			check(t, err)
			tt.was.FileInfo = before
			aside, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY, 0o600)
			check(t, err)
			defer aside.Close()
			check(t, aside.Chown(int(uid), int(gid))) // the folder may give its own group
			var gives *owner
			err = keep(aside, tt.was, tt.o, func(_ *os.File, uid, gid int) error {
				gives = &owner{uid, gid}
				return tt.refused
			})
			if (err != nil) != tt.fails || err != nil && !strings.Contains(err.Error(), "cannot be kept; nothing was changed") {
				t.Errorf("%v", err)
			}
			if (gives == nil) != (tt.gives == nil) || gives != nil && *gives != *tt.gives {
				t.Errorf("gives %v, want %v", gives, tt.gives)
			}
			want(t, path+".new", "", tt.mode)
		})
	}
}

// With the real call: a group that this process may set.
func TestWriteKeepsTheGroup(t *testing.T) {
	group := os.Getgid()
	if others, err := os.Getgroups(); err == nil && len(others) > 0 {
		group = others[len(others)-1]
	}
	if os.Getuid() == 0 {
		group = 12345
	}
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "old", 0o600)
	check(t, os.Chown(path, -1, group))
	check(t, os.Chmod(path, 0o640))
	check(t, Write(path, []byte("new"), Options{Mode: 0o600}))
	info, err := os.Stat(path)
	check(t, err)
	if is := int(info.Sys().(*syscall.Stat_t).Gid); is != group {
		t.Errorf("group %d, want %d", is, group)
	}
	want(t, path, "new", 0o640)
}
