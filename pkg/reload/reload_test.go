package reload

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is a value that cannot be parsed when it contains "bad". It is valid between two times if they are
// set.
type text struct {
	string
	from, until time.Time
}

func (t text) Begins() time.Time     { return t.from }
func (t text) Expires() time.Time    { return t.until }
func (t text) LogValue() slog.Value  { return slog.StringValue("the text " + t.string) }
func parse(c [][]byte) (text, error) { return parseUntil(c, time.Time{}) }

func parseUntil(contents [][]byte, until time.Time) (text, error) {
	joined := string(bytes.Join(contents, []byte("+")))
	if strings.Contains(joined, "bad") {
		return text{}, errors.New("it is bad")
	}
	return text{string: joined, until: until}, nil
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// kit are files that are reloaded in fake time.
type kit struct {
	*Files
	t      *testing.T
	folder string
	log    bytes.Buffer // written by Run and Reload, read while Run sleeps
}

const interval = 5 * time.Second

func start(t *testing.T) *kit {
	k := &kit{t: t, folder: t.TempDir()}
	k.Files = New(interval, slog.New(slog.NewTextHandler(&k.log, nil)))
	go k.Run(t.Context())
	return k
}

// between runs a function while no file is reloaded.
func (k *kit) between(do func()) {
	k.reloading.Lock()
	defer k.reloading.Unlock()
	do()
}

func (k *kit) path(name string) string { return filepath.Join(k.folder, name) }

// expect waits until a change has been found, then compares the value in use and the status.
func (k *kit) expect(what string, v *Value[text], want string, status Status) {
	k.t.Helper()
	time.Sleep(interval + maxRereads*rereadDelay + rereadDelay/2)
	synctest.Wait()
	if got := v.Get().string; got != want {
		k.t.Errorf("%s: %q is in use, want %q", what, got, want)
	}
	got := k.Status()[0]
	got.Name = ""
	if got != status {
		k.t.Errorf("%s: %+v, want %+v", what, got, status)
	}
}

// TestWaysOfChanging: every kind of change is found and put to use.
func TestWaysOfChanging(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, folder string){
		"in place": func(t *testing.T, folder string) {
			write(t, folder+"/a", "new a")
			write(t, folder+"/b", "new b")
		},
		"rename over": func(t *testing.T, folder string) {
			for _, name := range []string{"a", "b"} {
				write(t, folder+"/aside", "new "+name)
				rename(t, folder+"/aside", folder+"/"+name)
			}
		},
		"..data": func(t *testing.T, folder string) { // as the kubelet's AtomicWriter changes a volume
			if err := os.Mkdir(folder+"/..2", 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, folder+"/..2/a", "new a")
			write(t, folder+"/..2/b", "new b")
			link(t, "..2", folder+"/..data_tmp")
			rename(t, folder+"/..data_tmp", folder+"/..data")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := start(t)
				if err := os.Mkdir(k.path("..1"), 0o700); err != nil {
					t.Fatal(err)
				}
				link(t, "..1", k.path("..data"))
				for _, name := range []string{"a", "b"} {
					if strings.Contains(t.Name(), "data") {
						write(t, k.path("..1/"+name), "old "+name)
						link(t, "..data/"+name, k.path(name))
					} else {
						write(t, k.path(name), "old "+name)
					}
				}
				v, err := Read(k.Files, "pair", parse, k.path("a"), k.path("b"))
				if err != nil {
					t.Fatal(err)
				}
				k.expect("at the start", v, "old a+old b", Status{})
				change(t, k.folder)
				k.expect("after the change", v, "new a+new b", Status{Reloads: 1})
				if !strings.Contains(k.log.String(), "the text new a+new b") {
					t.Errorf("the log does not show the new value:\n%s", k.log.String())
				}
			})
		})
	}
}

// TestBadFiles: a file that is bad, empty, missing, unreadable or expired changes nothing. It is logged
// once, counted once, and the status shows it until the file is good.
func TestBadFiles(t *testing.T) {
	for name, spoil := range map[string]func(k *kit, path string){
		"bad":     func(k *kit, path string) { write(k.t, path, "bad") },
		"empty":   func(k *kit, path string) { write(k.t, path, "") },
		"missing": func(k *kit, path string) { rename(k.t, path, path+".away") },
		"expired": func(k *kit, path string) { write(k.t, path, "expired") },
		"not readable": func(k *kit, path string) {
			rename(k.t, path, path+".away")
			if err := os.Mkdir(path, 0o700); err != nil {
				k.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := start(t)
				path, later := k.path("a"), time.Now().Add(time.Hour)
				write(t, path, "old")
				v, err := Read(k.Files, "file", func(c [][]byte) (text, error) {
					switch string(c[0]) {
					case "":
						return text{}, errors.New("it is empty")
					case "expired":
						return parseUntil(c, time.Now())
					}
					return parseUntil(c, later)
				}, path)
				if err != nil {
					t.Fatal(err)
				}
				spoil(k, path)
				k.expect("while it is bad", v, "old", Status{Failures: 1, Refused: true, Expires: later})
				k.expect("while it is bad for longer", v, "old", Status{Failures: 1, Refused: true, Expires: later})
				if n := strings.Count(k.log.String(), "cannot be used"); n != 1 {
					t.Errorf("it is logged %d times, want once:\n%s", n, k.log.String())
				}
				k.Reload(t.Context())
				if n := strings.Count(k.log.String(), "cannot be used"); n != 2 {
					t.Errorf("Reload does not log it again:\n%s", k.log.String())
				}
				_ = os.RemoveAll(path)
				write(t, path, "new")
				k.expect("when it is good", v, "new", Status{Reloads: 1, Failures: 2, Expires: later})
				write(t, path, "bad")
				k.expect("when it is bad again", v, "new", Status{Reloads: 1, Failures: 3, Refused: true, Expires: later})
				write(t, path, "new")
				k.expect("when it is as before", v, "new", Status{Reloads: 1, Failures: 3, Expires: later})
			})
		})
	}
}

// TestTimeComes: a value that is not valid yet, or that looks expired to a wrong clock, is refused once. It
// is put to use later although the file does not change. Once the value in use has expired, no value is
// refused for its dates.
func TestTimeComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t)
		path, began, later := k.path("a"), time.Now(), time.Now().Add(3*time.Hour)
		dates := map[string]text{
			"the next": {from: began.Add(time.Hour), until: later},
			"expired":  {until: began},
		}
		write(t, path, "old")
		v, err := Read(k.Files, "file", func(c [][]byte) (text, error) {
			value, known := dates[string(c[0])]
			if !known {
				value.until = began.Add(2 * time.Hour)
			}
			value.string = string(c[0])
			return value, nil
		}, path)
		if err != nil {
			t.Fatal(err)
		}
		early := Status{Failures: 1, Refused: true, Expires: began.Add(2 * time.Hour)}
		write(t, path, "the next")
		k.expect("before its time", v, "old", early)
		k.expect("before its time, for longer", v, "old", early)
		k.between(func() {
			if n := strings.Count(k.log.String(), "it is not valid before"); n != 1 {
				t.Errorf("it is logged %d times, want once:\n%s", n, k.log.String())
			}
		})
		time.Sleep(time.Hour)
		k.expect("at its time", v, "the next", Status{Reloads: 1, Failures: 1, Expires: later})
		write(t, path, "expired")
		k.expect("expired", v, "the next", Status{Reloads: 1, Failures: 2, Refused: true, Expires: later})
		k.between(func() { dates["expired"] = text{until: later.Add(time.Hour)} }) // the effect of a clock that is set back
		k.expect("the clock is right", v, "expired", Status{Reloads: 2, Failures: 2, Expires: later.Add(time.Hour)})
		time.Sleep(4 * time.Hour)
		write(t, path, "the next")
		k.expect("both have expired", v, "the next", Status{Reloads: 3, Failures: 2, Expires: later})
	})
}

// TestHalfWrittenFiles: files that are still being written are neither put to use nor counted as bad.
func TestHalfWrittenFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t)
		write(t, k.path("a"), "old a")
		write(t, k.path("b"), "old b")
		var seen []string
		v, err := Read(k.Files, "pair", func(c [][]byte) (text, error) {
			seen = append(seen, string(c[0])+"+"+string(c[1]))
			if string(c[0][:3]) != string(c[1][:3]) {
				return text{}, errors.New("they do not belong together")
			}
			return parse(c)
		}, k.path("a"), k.path("b"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(interval - rereadDelay/2)
		for _, part := range []string{"new", "new line", "new line, an"} {
			write(t, k.path("a"), part)
			time.Sleep(rereadDelay * 3 / 4)
		}
		write(t, k.path("a"), "new line, and another")
		time.Sleep(3 * rereadDelay) // the other file is still the old one
		write(t, k.path("b"), "new too")
		k.expect("at the end", v, "new line, and another+new too", Status{Reloads: 1})
		for _, s := range seen[1:] {
			if !strings.HasPrefix(s, "new line, and another+") {
				t.Errorf("half a file was put to use: %q", s)
			}
		}
	})
}

// TestReload: Reload puts a change to use at once, and logs the outcome for each file.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := start(t)
		write(t, k.path("a"), "old")
		v, err := Read(k.Files, "file", parse, k.path("a"))
		if err != nil {
			t.Fatal(err)
		}
		pipe, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer pipe.Close()
		write(t, "/dev/fd/"+itoa(writer), "from a pipe")
		writer.Close()
		once, err := Read(k.Files, "pipe", parse, "/dev/fd/"+itoa(pipe))
		if err != nil || once.Get().string != "from a pipe" {
			t.Fatalf("a pipe holds %v, %v", once, err)
		}
		write(t, k.path("a"), "new")
		began := time.Now()
		k.Reload(t.Context())
		if v.Get().string != "new" || time.Since(began) > rereadDelay {
			t.Errorf("after %s %q is in use", time.Since(began), v.Get().string)
		}
		k.Reload(t.Context())
		for _, want := range []string{"file has changed and is in use", "file has not changed", "it needs a restart"} {
			if !strings.Contains(k.log.String(), want) {
				t.Errorf("the log does not contain %q:\n%s", want, k.log.String())
			}
		}
		if once.Get().string != "from a pipe" {
			t.Errorf("the value of the pipe is %q", once.Get().string)
		}
	})
}

func itoa(f *os.File) string { return strconv.Itoa(int(f.Fd())) }

// TestRead: Read fails for a missing file, a bad file, and two files of one name. It also works without
// Files.
func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if _, err := Read(nil, "file", parse, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	write(t, path, "bad")
	if _, err := Read(nil, "file", parse, path); err == nil {
		t.Error("a bad file: no error")
	}
	write(t, path, "good")
	f := New(interval, slog.New(slog.DiscardHandler))
	for i, files := range []*Files{nil, nil, f, f} {
		if v, err := Read(files, "file", parse, path); (err == nil) != (i < 3) || err == nil && v.Get().string != "good" {
			t.Errorf("%d: %v", i, err)
		}
	}
	if len((*Files)(nil).Status()) != 0 || len(f.Status()) != 1 {
		t.Errorf("the status is %v", f.Status())
	}
}
