package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// program is ewindow, lastKeys the same with media keys whose numbers soon end and begin anew, which otherwise takes 256 comings and goings.
var program, lastKeys = building("goolm"), building("goolm,lastkeys")

// building builds ewindow when it is needed first.
func building(tags string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		folder, err := os.MkdirTemp("", "ewindow-e2e-")
		if err != nil {
			return "", err
		}
		built = append(built, folder)
		path := filepath.Join(folder, "ewindow")
		cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "multifactorymodel.org/ewindow/cmd/ewindow")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build ewindow: %w\n%s", err, out)
		}
		return path, nil
	})
}

var built []string // folders of programs that were built

func TestMain(m *testing.M) {
	code := m.Run()
	for _, folder := range built {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

// demoNetwork is a running demonstration.
type demoNetwork struct {
	t       testing.TB
	folder  string
	begun   time.Time
	process *exec.Cmd
	ended   chan struct{}
	Admin   string
	// Password is the admin's; Space the network's room.
	Password, Space string
	Windows         []place

	mu    sync.Mutex // guards lines
	lines []string
}

// place is one window as demo.json describes it.
type place struct {
	Name     string
	Username string
	Public   int `json:"public_port"`
	Local    int `json:"local_port"`
	Page     int `json:"page_port"`
}

func (p place) url() string { return fmt.Sprintf("http://127.0.0.1:%d/", p.Page) }

// startDemo runs "ewindow demo" on a data folder and waits until both pages are served.
func startDemo(t testing.TB, folder string, args ...string) *demoNetwork {
	t.Helper()
	return startDemoOf(t, program, folder, args...)
}

// startDemoOf does so with another program.
func startDemoOf(t testing.TB, program func() (string, error), folder string, args ...string) *demoNetwork {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	rig.Program(t, child.Dendrite) // so that a first build counts for nothing below
	rig.Program(t, child.LiveKit)
	rig.Alone(t)
	n := &demoNetwork{t: t, folder: folder, begun: time.Now(), ended: make(chan struct{})}
	n.process = exec.Command(path, append([]string{"demo", "--data", folder}, args...)...)
	out, err := n.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	n.process.Stderr = &stderr
	n.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.process.Start(); err != nil {
		t.Fatal(err)
	}
	go n.read(out)
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("demo printed:\n%s\n%s", strings.Join(n.printed(), "\n"), stderr.String())
		}
		n.keepLogs()
	})
	n.await("Ctrl-C ends everything", 90*time.Second)
	data, err := os.ReadFile(filepath.Join(folder, "demo.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, n); err != nil || len(n.Windows) != 2 {
		t.Fatalf("demo.json: %v", err)
	}
	return n
}

// keepLogs copies the programs' logs to the folder that EWINDOW_SHOTS names.
func (n *demoNetwork) keepLogs() {
	to := os.Getenv("EWINDOW_SHOTS")
	if to == "" {
		return
	}
	for _, pattern := range []string{"*.log", "*/*.log", "*/data/*.log"} {
		files, _ := filepath.Glob(filepath.Join(n.folder, pattern))
		for _, file := range files {
			name, _ := filepath.Rel(n.folder, file)
			if data, err := os.ReadFile(file); err == nil {
				_ = os.WriteFile(filepath.Join(to, n.t.Name()+"-"+strings.ReplaceAll(name, "/", "-")), data, 0o600)
			}
		}
	}
}

func (n *demoNetwork) read(out io.Reader) {
	defer close(n.ended)
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		n.mu.Lock()
		n.lines = append(n.lines, scanner.Text())
		n.mu.Unlock()
	}
}

func (n *demoNetwork) printed() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.lines...)
}

// await waits until a line that contains text is printed, and returns it.
func (n *demoNetwork) await(text string, limit time.Duration) (line string) {
	n.t.Helper()
	waitFor(n.t, limit, "the demo's line "+strconv.Quote(text), func() (bool, any) {
		lines := n.printed()
		for _, line = range lines {
			if strings.Contains(line, text) {
				return true, nil
			}
		}
		select {
		case <-n.ended:
			n.t.Fatalf("the demo ended; it printed:\n%s", strings.Join(lines, "\n"))
		default:
		}
		return false, strings.Join(lines, "\n")
	})
	return line
}

// stop ends the demonstration as Ctrl-C does.
func (n *demoNetwork) stop() {
	if n.process.ProcessState != nil {
		return
	}
	_ = n.process.Process.Signal(os.Interrupt)
	done := make(chan error, 1)
	go func() { <-n.ended; done <- n.process.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			n.t.Errorf("the demo ended with %v", err)
		}
	case <-time.After(40 * time.Second):
		n.t.Error("the demo does not end")
		_ = n.process.Process.Kill()
		<-done
	}
}

// find returns the processes whose command line contains all of words.
func find(words ...string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(data) == 0 {
			continue
		}
		line := strings.ReplaceAll(string(data), "\x00", " ")
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			pids = append(pids, pid)
		}
	}
	return pids
}

// livekit, dendrite and kiosk find one program of the demonstration.
func (n *demoNetwork) livekit() []string { return []string{"livekit-server", n.folder} }

func (n *demoNetwork) dendrite(i int) []string {
	return []string{"/dendrite ", filepath.Join(n.folder, n.Windows[i].Username)}
}

func (n *demoNetwork) kiosk(i int) []string {
	return []string{"ewindow kiosk", filepath.Join(n.folder, n.Windows[i].Username)}
}

// kill kills one program hard and waits until another process stands in its place.
func (n *demoNetwork) kill(words []string) {
	n.t.Helper()
	pids := find(words...)
	if len(pids) != 1 {
		n.t.Fatalf("%d processes are %q", len(pids), words)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	waitFor(n.t, 30*time.Second, fmt.Sprintf("a new process of %q", words), func() (bool, any) {
		now := find(words...)
		return len(now) == 1 && now[0] != pids[0], now
	})
}

// pullPlug takes the power from a window, kiosk and page at once, until what it returns is called. Nothing that the demonstration itself does
// goes on meanwhile.
func (n *demoNetwork) pullPlug(i int, page *viewer) (back func()) {
	n.t.Helper()
	pids := find(n.kiosk(i)...)
	if len(pids) != 1 {
		n.t.Fatalf("%d processes are %s's kiosk", len(pids), n.Windows[i].Name)
	}
	if err := n.process.Process.Signal(syscall.SIGSTOP); err != nil { // it would start another kiosk
		n.t.Fatal(err)
	}
	_ = syscall.Kill(pids[0], syscall.SIGKILL)
	page.Kill()
	return func() { _ = n.process.Process.Signal(syscall.SIGCONT) }
}

// awaitLog waits until a kiosk's log says something.
func (n *demoNetwork) awaitLog(i int, text string) {
	n.t.Helper()
	path := filepath.Join(n.folder, n.Windows[i].Username, "kiosk.log")
	waitFor(n.t, 30*time.Second, fmt.Sprintf("%q in %s's log", text, n.Windows[i].Name), func() (bool, any) {
		data, err := os.ReadFile(path)
		return bytes.Contains(data, []byte(text)), err
	})
}

// waitFor polls until ok, and fails with the last reason when that takes too long.
func waitFor(t testing.TB, limit time.Duration, what string, ok func() (bool, any)) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		done, state := ok()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not happen within %v; last: %v", what, limit, state)
		}
	}
}

// viewer is a browser before a window.
type viewer struct {
	*browser.Page
	t      testing.TB
	name   string
	folder string // for screenshots that are only looked at
}

// look opens a window's page in a browser whose camera and microphone play source.
func (n *demoNetwork) look(i int, s source, width, height int) *viewer {
	n.t.Helper()
	browser.Need(n.t)
	video, audio := s.write(n.t, n.Windows[i].Username, width, height)
	v := &viewer{
		browser.Start(n.t, n.Windows[i].url(), browser.Options{Video: video, Audio: audio, Script: spy}), n.t, n.Windows[i].Name, n.t.TempDir(),
	}
	// A key that is pressed before the page has heard from its daemon is nobody's.
	waitFor(n.t, 30*time.Second, v.name+"'s page", func() (bool, any) {
		var connected bool
		err := v.eval("!!window.ewindow && ewindow.snapshot().connected", &connected)
		return connected, err
	})
	return v
}

// screen is the name of what the page shows now, empty while it loads.
func (v *viewer) screen() (name string) {
	_ = v.eval("document.querySelector('#window').dataset.screen", &name)
	return name
}

// eval asks the page; an error is a value that does not fit, for pages that are being loaded.
func (v *viewer) eval(expression string, into any) error {
	ctx, cancel := context.WithTimeout(v.t.Context(), 20*time.Second)
	defer cancel()
	return v.Eval(ctx, expression, into)
}

// press presses a key on the page.
func (v *viewer) press(key, code string, virtual int) {
	v.t.Helper()
	if err := v.Press(v.t.Context(), key, code, virtual); err != nil {
		v.t.Fatal(err)
	}
}

func (v *viewer) button() { v.press(" ", "Space", 32) }

// shot takes a screenshot, where EWINDOW_SHOTS names a folder for them.
func (v *viewer) shot(name string) {
	if folder := os.Getenv("EWINDOW_SHOTS"); folder != "" {
		if err := v.Screenshot(v.t.Context(), filepath.Join(folder, v.t.Name()+"-"+v.name+"-"+name+".png")); err != nil {
			v.t.Log(err)
		}
	}
}
