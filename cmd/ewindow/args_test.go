package main

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// record replaces what all commands do: it notes the command's name, its arguments and one option.
func record(commands []*cli.Command, called *[]string) {
	for _, c := range commands {
		c.Action = func(c *cli.Context) error {
			*called = append(*called, strings.TrimPrefix(c.Command.HelpName, "ewindow ")+" ["+strings.Join(c.Args().Slice(), " ")+"] "+cmp.Or(c.String("secret-file"), c.String("config")))
			return nil
		}
		record(c.Subcommands, called)
	}
}

// called returns what a command line calls.
func called(t *testing.T, words ...string) string {
	t.Helper()
	var called []string
	app := newApp(io.Discard, io.Discard)
	record(app.Commands, &called)
	if err := app.RunContext(t.Context(), arrange(app.Commands, append([]string{"ewindow"}, words...))); err != nil {
		return err.Error()
	}
	return strings.Join(called, "; ")
}

func TestOrderOfWords(t *testing.T) {
	for _, test := range []struct{ line, calls string }{
		{"turn check turn.example.org --secret-file secret", "turn check [turn.example.org] secret"},
		{"turn check --secret-file secret turn.example.org", "turn check [turn.example.org] secret"},
		{"turn check turn.example.org --secret-file=secret", "turn check [turn.example.org] secret"},
		{"hub account anna -c hub.yaml", "hub account [anna] hub.yaml"},
		{"hub account -c hub.yaml -- -anna -c", "hub account [-anna -c] hub.yaml"},
		{"hub account hub", "hub account [hub] config.yaml"},
		{"hub -c hub.yaml", "hub [] hub.yaml"},
		{"kiosk --browser", "flag provided but not defined: -browser: \"ewindow help\" shows the commands and flags"},
	} {
		if got := called(t, strings.Fields(test.line)...); got != test.calls {
			t.Errorf("%q calls %q, not %q", test.line, got, test.calls)
		}
	}
}

func TestHelp(t *testing.T) {
	for line, shows := range map[string]string{
		"help":             "run a window",
		"help hub":         "account  make a Matrix account",
		"hub --help":       "account  make a Matrix account",
		"help turn":        "check    check whether",
		"help hub snippet": "synapse|nginx|caddy",
		"help network":     "create",
	} {
		if code, out, _ := command(t, strings.Fields(line)...); code != 0 || !strings.Contains(out, shows) {
			t.Errorf("%q ends with %d and prints %s", line, code, out)
		}
	}
}

// TestManuals runs each command that a manual names, except for what it does.
func TestManuals(t *testing.T) {
	named := regexp.MustCompile("(?m)`ewindow ([^`]+)`|^(?:go run -tags goolm \\./cmd/)?ewindow ([^#\n]+)")
	word := regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "../../README.md", "../../CHANGELOG.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			found++
			words := word.FindAllString(match[1]+match[2], -1)
			for i := range words {
				words[i] = strings.Trim(words[i], `'"`)
			}
			// A sentence may name a command or an option only, without what it needs.
			got := called(t, words...)
			if name := words[0] == "help" || strings.Contains(got, "needs an argument") || strings.HasPrefix(got, "Required flags"); !name && !strings.Contains(got, " [") {
				t.Errorf("%s names \"ewindow %s\": %s", file, match[1]+match[2], got)
			}
		}
	}
	if found < 20 {
		t.Errorf("the manuals name only %d commands", found)
	}
}
