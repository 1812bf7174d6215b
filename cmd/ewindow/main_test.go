package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestMain runs ewindow itself if the environment variable is set. So a test can start ewindow as a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("EWINDOW_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// patient is the limit for what a command prints, on a busy machine.
const patient = 30 * time.Second

// command runs a command line and returns its exit code and what it printed. A command that does not end is an error.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs rig.Output
	code = run(ctx, append([]string{"ewindow"}, args...), &out, &errs)
	if ctx.Err() != nil {
		t.Errorf("ewindow %s goes on; it printed:\n%s", strings.Join(args, " "), errs.String())
	}
	return code, out.String(), errs.String()
}

// write makes a configuration file in a folder of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// takenPort returns an address of this machine that is in use until the test ends.
func takenPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// kioskConfig is a valid configuration, to which a test adds more. Nobody runs its homeserver.
func kioskConfig(more string) string {
	text := "homeserver: {url: \"http://127.0.0.1:1\", username: window, password: very secret}\nwindow: {name: Dresden}\n"
	if !strings.Contains(more, "kiosk:") {
		text += "kiosk: {listen: \"127.0.0.1:0\"}\n"
	}
	return text + more
}

const externalFocus = `hub:
  listen: ""
  local_listen: %s
  public_url: https://hub.example.org
  focus: {enabled: true, open: true, livekit_url: "ws://127.0.0.1:1", key: key, secret: "0123456789012345678901234567890123456789", full_access_homeservers: [example.org]}
`

// TestFaults makes mistakes that people make before anything runs. Each gives one clear sentence and an exit code.
func TestFaults(t *testing.T) {
	taken := takenPort(t)
	file := write(t, "")
	for _, test := range []struct {
		name   string
		args   []string
		config string
		code   int
		want   []string
	}{
		{"no such command", []string{"wave"}, "", 2, []string{`there is no command "wave"`, "ewindow help"}},
		{"no such flag", []string{"kiosk", "--loud"}, "", 2, []string{"-loud", "ewindow help"}},
		{"too much said", []string{"kiosk", "now"}, "", 2, []string{`"now" is not expected here`}},
		{"no file", []string{"kiosk", "-c", "/nothing/here.yaml"}, "", 1, []string{"/nothing/here.yaml", "copy example-config.yaml"}},
		{"unknown key", []string{"kiosk"}, "window:\n  nmae: Dresden\n", 1, []string{"line 2", "nmae"}},
		{"wrong type", []string{"kiosk"}, "media:\n  max_video_bitrate_kbit: much\n", 1, []string{"max_video_bitrate_kbit"}},
		{"no password", []string{"kiosk"}, strings.Replace(kioskConfig(""), ", password: very secret", "", 1), 1, []string{"homeserver.password is empty"}},
		{"no folder for data", []string{"kiosk"}, kioskConfig("data_dir: " + file + "/data\n"), 1, []string{file + "/data", "data_dir"}},
		{"page's port taken", []string{"kiosk"}, kioskConfig("kiosk: {listen: \"" + taken + "\"}\n"), 1, []string{"kiosk.listen", taken}},
		{"page for everybody", []string{"kiosk"}, kioskConfig("kiosk: {listen: \"0.0.0.0:0\"}\n"), 1, []string{"kiosk.listen", "127.0.0.1"}},
		{"hub's port taken", []string{"hub"}, fmt.Sprintf(externalFocus, taken), 1, []string{"hub.local_listen", taken}},
		{"nothing to run", []string{"hub"}, "data_dir: data\n", 1, []string{"every part is off"}},
		{"relay's port taken", []string{"turn"}, "hub: {turnserver: {enabled: true, listen: [\"tcp://" + taken + "\"], public_ip: 192.0.2.1, secret: 0123456789abcdef, allowed_peers: [192.0.2.2]}}\n", 1, []string{taken}},
		{"relay switched off", []string{"turn"}, "data_dir: data\n", 1, []string{"hub.turnserver.enabled"}},
		{"certificate missing", []string{"hub"}, strings.Replace(fmt.Sprintf(externalFocus, `""`), `listen: ""`, "listen: 127.0.0.1:0\n  tls_certificate: /nothing.pem\n  tls_key: /nothing.key", 1), 1, []string{"hub.tls_certificate"}},
		{"relay's certificate missing", []string{"turn"}, "hub: {turnserver: {enabled: true, listen: [\"tls://127.0.0.1:0\"], tls_certificate: /nothing.pem, tls_key: /nothing.key, public_ip: 192.0.2.1, secret: 0123456789abcdef, allowed_peers: [192.0.2.2]}}\n", 1, []string{"hub.turnserver.tls_certificate", "/nothing.pem"}},
		{"port for the authority taken", []string{"turn"}, "hub: {public_url: \"https://turn.example.org\", acme: {enabled: true, http_listen: \"" + taken + "\"}, turnserver: {enabled: true, listen: [\"tls://127.0.0.1:0\"], public_ip: 192.0.2.1, secret: 0123456789abcdef, allowed_peers: [192.0.2.2]}}\n", 1, []string{"hub.acme.http_listen", taken}},
		{"account without homeserver", []string{"hub", "account", "anna"}, "", 1, []string{"runs no homeserver of its own"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := test.args
			if test.config != "" || args[0] == "hub" {
				path := write(t, test.config)
				if len(args) > 2 {
					args = []string{args[0], args[1], "-c", path, args[2]}
				} else {
					args = append(args, "-c", path)
				}
			}
			code, _, stderr := command(t, args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q is missing in:\n%s", want, stderr)
				}
			}
			if strings.Contains(stderr, "very secret") || strings.Contains(stderr, "0123456789") {
				t.Errorf("a secret is printed:\n%s", stderr)
			}
		})
	}
}

// background runs a command until the returned function is called, which returns its exit code.
func background(t *testing.T, args ...string) (printed *rig.Output, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	printed = new(rig.Output)
	code := make(chan int, 1)
	go func() { code <- run(ctx, append([]string{"ewindow"}, args...), printed, printed) }()
	stop = sync.OnceValue(func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(20 * time.Second):
			t.Error("the command does not end")
			return -1
		}
	})
	t.Cleanup(func() { stop() })
	return printed, stop
}

// TestSecondKiosk starts a kiosk, which waits for its homeserver, and then a second one with the same data folder. The second one is refused.
func TestSecondKiosk(t *testing.T) {
	path := write(t, kioskConfig(""))
	printed, stop := background(t, "kiosk", "-c", path)
	printed.Await(t, patient, "page is served")
	printed.Await(t, patient, "homeserver")
	code, _, stderr := command(t, "kiosk", "-c", path)
	if code != 1 || !strings.Contains(stderr, "kiosk.db") {
		t.Errorf("a second one ends with %d:\n%s", code, stderr)
	}
	if code := stop(); code != 0 {
		t.Errorf("the first one ends with %d:\n%s", code, printed)
	}
	if strings.Contains(printed.String(), "very secret") {
		t.Error("the password is in the log")
	}
}

// TestWrongPassword starts a kiosk with a wrong password. It ends and says why.
func TestWrongPassword(t *testing.T) {
	hs := rig.StartHomeserver(t)
	hs.Register(t, "window")
	path := write(t, fmt.Sprintf("homeserver: {url: %q, username: window, password: not it}\nwindow: {name: Dresden}\nkiosk: {listen: \"127.0.0.1:0\"}\n", hs.URL))
	code, _, stderr := command(t, "kiosk", "-c", path)
	if code != 1 || !strings.Contains(stderr, "password") || strings.Contains(stderr, "not it") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}
