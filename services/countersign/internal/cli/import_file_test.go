package cli

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/cmdline"
)

// importing is an authority that takes every token, apart from those with the name bad.
type importing struct {
	scripted
	mu    sync.Mutex
	names []string
	stop  func() // called by the first import
}

// ImportTokens implements countersignv1.AuthorityServiceServer.
func (f *importing) ImportTokens(_ context.Context, r *countersignv1.ImportTokensRequest,
) (*countersignv1.ImportTokensResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop != nil {
		f.stop()
	}
	response := &countersignv1.ImportTokensResponse{ConsistencyToken: "position " + r.GetAppId()}
	for i, item := range r.GetImports() {
		if item.GetName() == "bad" {
			return nil, apierr.AlreadyExists("NAME_TAKEN", "imports[%d].name: an active token has the name %q", i, "bad")
		}
		response.Tokens = append(response.Tokens, &countersignv1.Token{TokenId: item.GetName()})
	}
	for _, item := range r.GetImports() {
		f.names = append(f.names, r.GetAppId()+"/"+item.GetName())
	}
	return response, nil
}

// WaitForPropagation implements countersignv1.AuthorityServiceServer.
func (f *importing) WaitForPropagation(_ context.Context, r *countersignv1.WaitForPropagationRequest,
) (*countersignv1.WaitForPropagationResponse, error) {
	entry := &countersignv1.ReceiptEntry{
		ValidatorId: "slow", State: countersignv1.PropagationState_PROPAGATION_STATE_PENDING,
	}
	return &countersignv1.WaitForPropagationResponse{Receipt: &countersignv1.Receipt{
		Complete: !strings.HasSuffix(r.GetConsistencyToken(), "late"), Validators: []*countersignv1.ReceiptEntry{entry},
	}}, nil
}

func newImporting() *importing {
	return &importing{scripted: scripted{tokens: map[string]*countersignv1.ListTokensResponse{"": {}}}}
}

// table returns a file of CSV with tokens of some apps.
func table(t *testing.T, apps ...string) string {
	t.Helper()
	text := "app_id,name,secret\n"
	for i, app := range apps {
		app, name, _ := strings.Cut(app, "/")
		text += fmt.Sprintf("%s,%s,%x\n", app, name, sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	file := filepath.Join(t.TempDir(), "tokens.csv")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestB11_ReportFile: refused lines make the command fail and are in the report, next to the file.
func TestB11_ReportFile(t *testing.T) {
	f := newImporting()
	f.serve(t, f)
	file := table(t, "one/a", "two/bad", "one/b", "two/c", "o ne/d")
	got := run(t, "token", "import", "--file", file)
	if got.code != cmdline.ExitFailed || !strings.HasSuffix(got.errors,
		"Refused: line 3: name: an active or disabled token of the app has this name\n"+
			"Refused: line 6: app_id: want 1 to 64 characters of A-Z a-z 0-9 - _\n"+
			"countersign: 2 lines refused; "+file+".refused.csv says why\n") || strings.Contains(got.errors, "\r") {
		t.Errorf("%+v", got)
	}
	report, err := os.ReadFile(file + ".refused.csv")
	const want = "line,field,reason\n3,name,an active or disabled token of the app has this name\n" +
		"6,app_id,want 1 to 64 characters of A-Z a-z 0-9 - _\n"
	if err != nil || string(report) != want {
		t.Errorf("%q, %v", report, err)
	}
	if len(f.names) != 3 {
		t.Errorf("imported %q", f.names)
	}
	if got := run(t, "token", "import", "--file", table(t, "one/a"), "-o=json"); got.code != cmdline.ExitDone ||
		!strings.Contains(got.out, `"imported": 1`) || !strings.Contains(got.out, `"reportFile": ""`) {
		t.Errorf("%+v", got)
	}
}

// The receipt of an import covers all its apps.
func TestB24_ImportReceipt(t *testing.T) {
	f := newImporting()
	f.serve(t, f)
	if got := run(t, "token", "import", "--wait", "--file", table(t, "one/a", "two/b")); got.code != cmdline.ExitDone ||
		!strings.Contains(got.out, "VALIDATOR") {
		t.Errorf("%+v", got)
	}
	got := run(t, "token", "import", "--wait", "--file", table(t, "late/a", "two/b"), "-o=json")
	if got.code != exitIncomplete || !strings.Contains(got.errors, "slow is PENDING") ||
		!strings.Contains(got.out, `"complete": false`) {
		t.Errorf("%+v", got)
	}
}

// On a terminal a bar shows the progress.
func TestImportProgress(t *testing.T) {
	f := newImporting()
	f.serve(t, f)
	code, said := atTerminal(t, "", "token", "import", "--file", table(t, "one/a", "two/bad", "two/b"))
	if code != cmdline.ExitFailed || !strings.Contains(said, "] 3 of 3, 1 refused") || !strings.Contains(said, "\r[") {
		t.Errorf("%d, %q", code, said)
	}
}

// An interrupt finishes the calls in flight, and says how far the import came and how to go on.
func TestB11_InterruptedImport(t *testing.T) {
	f := newImporting()
	var once sync.Once
	f.stop = func() {
		once.Do(func() {
			this, _ := os.FindProcess(os.Getpid())
			if err := this.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		})
	}
	f.serve(t, f)
	apps := make([]string, 2000)
	for i := range apps {
		apps[i] = fmt.Sprintf("app%d/a", i)
	}
	got := run(t, "token", "import", "--file", table(t, apps...))
	said := fmt.Sprintf("countersign: interrupted after %d of 2,000 tokens\nThe same command with --resume goes on.\n",
		len(f.names))
	if got.code != cmdline.ExitFailed || got.errors != said {
		t.Errorf("%q, want %q", got.errors, said)
	}
	if !strings.Contains(got.out, "Not tried") {
		t.Errorf("%q", got.out)
	}
}
