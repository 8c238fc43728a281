package settings

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestBindEnv(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		env  map[string]string
		file string
		wait time.Duration
		list string
		err  string
	}{
		"defaults": {file: "default", wait: time.Second, list: "a"},
		"environment": {
			env:  map[string]string{"COUNTERSIGN_KEYRING_FILE": "env", "COUNTERSIGN_WAIT": "2s", "COUNTERSIGN_LIST": "b,c"},
			file: "env", wait: 2 * time.Second, list: "b c",
		},
		"flag wins": {
			args: []string{"--keyring-file=flag", "--wait=3s", "--list=d"},
			env:  map[string]string{"COUNTERSIGN_KEYRING_FILE": "env", "COUNTERSIGN_WAIT": "2s", "COUNTERSIGN_LIST": "b,c"},
			file: "flag", wait: 3 * time.Second, list: "d",
		},
		"flag wins with its default and over a bad value": {
			args: []string{"--keyring-file=", "--wait=1s"},
			env:  map[string]string{"COUNTERSIGN_KEYRING_FILE": "env", "COUNTERSIGN_WAIT": "bad"},
			file: "", wait: time.Second, list: "a",
		},
		"empty is unset where the default is none": {
			env:  map[string]string{"COUNTERSIGN_FILE": "", "COUNTERSIGN_FILES": ""},
			file: "default", wait: time.Second, list: "a",
		},
		"empty in the place of a default": {
			env: map[string]string{
				"COUNTERSIGN_KEYRING_FILE": "", "COUNTERSIGN_WAIT": "", "COUNTERSIGN_LIST": "",
				"COUNTERSIGN_COUNT": "", "COUNTERSIGN_YES": "",
			},
			err: emptyVariable("count") + "\n" + emptyVariable("keyring-file") + "\n" + emptyVariable("list") + "\n" +
				emptyVariable("wait") + "\n" + emptyVariable("yes"),
		},
		"flag wins over an empty variable": {
			args: []string{"--keyring-file=flag", "--wait=3s", "--list=d"},
			env:  map[string]string{"COUNTERSIGN_KEYRING_FILE": "", "COUNTERSIGN_WAIT": "", "COUNTERSIGN_LIST": ""},
			file: "flag", wait: 3 * time.Second, list: "d",
		},
		"other variables": {
			env:  map[string]string{"KEYRING_FILE": "x", "COUNTERSIGN_KEYRING": "x", "COUNTERSIGN_HELP": "x"},
			file: "default", wait: time.Second, list: "a",
		},
		"bad value": {
			env: map[string]string{"COUNTERSIGN_WAIT": "2"},
			err: `--wait (COUNTERSIGN_WAIT): "2": want a duration, such as 250ms, 10s or 1h30m`,
		},
		"all bad values": {
			env: map[string]string{"COUNTERSIGN_WAIT": "2h", "COUNTERSIGN_COUNT": "many"},
			err: `--count (COUNTERSIGN_COUNT): "many": strconv.ParseInt: parsing "many": invalid syntax` + "\n" +
				`--wait (COUNTERSIGN_WAIT): "2h": want a duration from 0s to 1h0m0s`,
		},
		"bad flag": {
			args: []string{"--wait=2h"},
			err:  `--wait: "2h": want a duration from 0s to 1h0m0s`,
		},
		"no such flag": {
			args: []string{"--none"},
			err:  `unknown flag: --none`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range tt.env {
				t.Setenv(variable, value)
			}
			var file *string
			var wait *time.Duration
			var list *[]string
			ran := false
			c := command(func(flags *pflag.FlagSet) {
				file = flags.String("keyring-file", "default", "the keys")
				wait = Duration(flags, "wait", time.Second, 0, time.Hour, "how long")
				list = flags.StringSlice("list", []string{"a"}, "a list")
				flags.Int("count", 0, "a number")
				flags.Bool("yes", false, "a switch")
				flags.String("file", "", "none")
				flags.StringSlice("files", nil, "none")
			})
			c.PreRun = func(*cobra.Command, []string) { ran = true }
			_, err := run(c, tt.args...)
			expect(t, "error", words(err), tt.err)
			expect(t, "the command ran", ran, tt.err == "")
			if tt.err == "" {
				expect(t, "--keyring-file", *file, tt.file)
				expect(t, "--wait", *wait, tt.wait)
				expect(t, "--list", strings.Join(*list, " "), tt.list)
			}
		})
	}
}

func emptyVariable(flag string) string {
	return "--" + flag + " (COUNTERSIGN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) +
		"): the variable is set but empty; give it a value, or unset it for the default"
}

func TestHelpNamesVariables(t *testing.T) {
	t.Setenv("COUNTERSIGN_WAIT", "not even valid")
	t.Setenv("COUNTERSIGN_KEYRING_FILE", "from the environment")
	help, err := run(command(func(flags *pflag.FlagSet) {
		flags.String("keyring-file", "", "where the `keys` are")
		Duration(flags, "wait", time.Second, 0, time.Hour, "how long")
	}), "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"--keyring-file keys   where the keys are (env COUNTERSIGN_KEYRING_FILE)\n",
		"--wait duration       how long (env COUNTERSIGN_WAIT) (default 1s)\n",
		"help for test\n",
	} {
		if !strings.Contains(help, want) {
			t.Errorf("help lacks %q:\n%s", want, help)
		}
	}
	for _, not := range []string{"COUNTERSIGN_HELP", "from the environment", "not even valid"} {
		if strings.Contains(help, not) {
			t.Errorf("help has %q:\n%s", not, help)
		}
	}
}

// TestCommandsBelow: variables set the flags of parents and children before any hook runs, whichever command
// has the hook.
func TestCommandsBelow(t *testing.T) {
	t.Setenv("COUNTERSIGN_SERVER", "s")
	t.Setenv("COUNTERSIGN_APP", "a")
	for name, hook := range map[string]func(child *cobra.Command, note func()){
		"none": func(*cobra.Command, func()) {},
		"hook": func(c *cobra.Command, note func()) { c.PersistentPreRun = func(*cobra.Command, []string) { note() } },
		"hook of E": func(c *cobra.Command, note func()) {
			c.PersistentPreRunE = func(*cobra.Command, []string) error { note(); return nil }
		},
	} {
		for place := range 2 {
			t.Run(name, func(t *testing.T) {
				nothing := func(*cobra.Command, []string) {}
				root := &cobra.Command{Use: "root", SilenceUsage: true, SilenceErrors: true}
				child := &cobra.Command{Use: "child", Run: nothing}
				other := &cobra.Command{Use: "other", Run: nothing}
				root.AddCommand(child, other)
				server := root.PersistentFlags().String("server", "", "")
				app := child.Flags().String("app", "", "")
				if err := child.MarkFlagRequired("app"); err != nil {
					t.Fatal(err)
				}
				seen := ""
				hook([]*cobra.Command{root, child}[place], func() { seen = *server + *app })
				BindEnv(root)
				if _, err := run(root, "child"); err != nil {
					t.Fatal(err)
				}
				expect(t, "--server", *server, "s")
				expect(t, "--app", *app, "a")
				if name != "none" {
					expect(t, "what the hook saw", seen, "sa")
				}
				if usage := root.PersistentFlags().Lookup("server").Usage; strings.Count(usage, "COUNTERSIGN_SERVER") != 1 {
					t.Errorf("usage = %q, want the variable once", usage)
				}
			})
		}
	}
}

func TestHookFails(t *testing.T) {
	failure := errors.New("failed")
	root := &cobra.Command{
		Use: "root", SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return failure },
		Run:               func(*cobra.Command, []string) { t.Error("ran") },
	}
	BindEnv(root)
	if _, err := run(root); !errors.Is(err, failure) {
		t.Errorf("error = %v, want the hook's error", err)
	}
}
