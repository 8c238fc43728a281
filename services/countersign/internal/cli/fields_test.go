package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/cmdline"
)

// find returns a command by its path.
func find(t *testing.T, path string) *cobra.Command {
	t.Helper()
	command, rest, err := newRoot(nil).Find(strings.Fields(path))
	if err != nil || len(rest) > 0 {
		t.Fatalf("%s: %v, %v", path, rest, err)
	}
	return command
}

// A server's error about fields names the flags.
func TestFieldsAreNamedAsFlags(t *testing.T) {
	invalid := func(field string) error { return apierr.Invalid(field, "is wrong") }
	for _, tt := range []struct {
		command string
		given   []string
		err     error
		want    string
	}{
		{"token create", nil, invalid("app_id"), "INVALID_ARGUMENT: --app: is wrong"},
		{"token create", nil, invalid("expire_time"), "INVALID_ARGUMENT: --expires: is wrong"},
		{"token create", nil, invalid("request_id"), "INVALID_ARGUMENT: --request-id: is wrong"},
		{"token create", nil, apierr.Invalid("scopes", "[1]: want one of"), "INVALID_ARGUMENT: --scopes: [1]: want one of"},
		{"token update", nil, invalid("token.expire_time"), "INVALID_ARGUMENT: --expires: is wrong"},
		{"token update", []string{"no-expiry"}, invalid("token.expire_time"), "INVALID_ARGUMENT: --no-expiry: is wrong"},
		{"token update", nil, invalid("token.token_id"), "INVALID_ARGUMENT: --token: is wrong"},
		{"token update", nil, invalid("token.state"), "INVALID_ARGUMENT: --state: is wrong"},
		{"token revoke", nil, invalid("secret"), "INVALID_ARGUMENT: --secret-file: is wrong"},
		{
			"token revoke", nil, apierr.Precondition("LOCKOUT", "x", "set allow_lockout to do it"),
			"FAILED_PRECONDITION: set --allow-lockout to do it",
		},
		{"token import", nil, invalid("imports[0].sha256"), "INVALID_ARGUMENT: --sha256: is wrong"},
		{"token import", nil, invalid("imports"), "INVALID_ARGUMENT: --file: is wrong"},
		{"app enforce", nil, invalid("trial_end_time"), "INVALID_ARGUMENT: --until: is wrong"},
		{"app enforce", []string{"for"}, invalid("trial_end_time"), "INVALID_ARGUMENT: --for: is wrong"},
		{"app enforce", []string{"off"}, invalid("scopes"), "INVALID_ARGUMENT: --off: is wrong"},
		{"authorize", nil, invalid("min_revision"), "INVALID_ARGUMENT: --min-revision: is wrong"},
		{"fleet forget", nil, invalid("validator_id"), "INVALID_ARGUMENT: VALIDATOR: is wrong"},
		{"fleet list", nil, invalid("app_id"), "INVALID_ARGUMENT: app_id: is wrong"},
	} {
		command := find(t, tt.command)
		for _, flag := range tt.given {
			command.Flags().Lookup(flag).Changed = true
		}
		if got := explain(tt.err, command); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.command, got, tt.want)
		}
	}
}

// Every field of a request that a command sends has a flag, or is set by the program only.
func TestEveryFieldHasAFlag(t *testing.T) {
	setByProgram := map[string]bool{
		"page_size": true, "page_token": true, "update_mask": true,
		"consistency_token": true, "end_time": true, "start_time": true,
		"validator_id": true, "skip_total": true,
	}
	commands := map[protoreflect.Name]string{
		"CreateToken": "token create", "UpdateToken": "token update", "RevokeToken": "token revoke",
		"RevokeSecret": "token revoke",
		"RotateToken":  "token rotate", "ImportTokens": "token import", "SetEnforcement": "app enforce", "DeleteApp": "app delete",
		"GetApp": "app get", "ListTokens": "token list", "Authorize": "authorize", "GetToken": "token get",
		"FindToken": "token find", "GetReadiness": "app readiness", "ListReadiness": "app readiness",
	}
	for _, service := range []protoreflect.ServiceDescriptor{
		countersignv1.File_countersign_v1_authority_proto.Services().ByName("AuthorityService"),
		countersignv1.File_countersign_v1_validator_proto.Services().ByName("ValidatorService"),
	} {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			path, has := commands[method.Name()]
			if !has {
				continue
			}
			command := find(t, path)
			fields := method.Input().Fields()
			for j := range fields.Len() {
				field := string(fields.Get(j).Name())
				if field == "token" && method.Name() == "UpdateToken" {
					continue // its own fields follow
				}
				if _, known := flagFor(field, command); !known && !setByProgram[field] {
					t.Errorf("%s: no flag for %s", path, field)
				}
			}
		}
	}
}

// A flag that takes its value only after "=" says so. The error does not repeat a value that may be a secret.
func TestValueAfterASpace(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"token create --app a --name n --wait 5s", "countersign: --wait takes no value after a space: write --wait=5s\n"},
		{"app delete --app a --yes true", "countersign: --yes takes no value after a space: write --yes=true\n"},
		{"token create --app a --name n --wait cs_5s", "countersign: 'countersign token create' takes flags only\n"},
		{"token create --app a --name n 5s", "countersign: 'countersign token create' takes flags only\n"},
	} {
		if got := run(t, strings.Fields(tt.args)...); got.code != cmdline.ExitMisused || !strings.HasPrefix(got.errors, tt.want) {
			t.Errorf("%s: %+v", tt.args, got)
		}
	}
}
