package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"maunium.net/go/mautrix"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/cmd/e2e/page"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// program builds ewindow at its first call, and returns its path.
var program = buildProgram("goolm")

// buildProgram returns a function that builds ewindow with build tags at its first call. It returns the program's path.
func buildProgram(tags string) func() (string, error) {
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

// pagePorts are the ports that "ewindow demo" prefers for its pages, and that keepPorts has taken.
var pagePorts struct {
	sync.Mutex
	taken [2]net.Listener
}

// keepPorts takes these ports until the end of the process, unless another program has them now. So the demonstrations of tests that run at the same time
// never choose the same ports, also not while one of their kiosks is being started again.
func keepPorts() {
	pagePorts.Lock()
	defer pagePorts.Unlock()
	for i := range pagePorts.taken {
		if pagePorts.taken[i] != nil {
			continue
		}
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 8470+i)); err == nil {
			pagePorts.taken[i] = listener
		}
	}
}

// demoNetwork is a running demonstration ("ewindow demo"): two homeservers, LiveKit and two kiosks.
type demoNetwork struct {
	t       testing.TB
	folder  string
	started time.Time
	process *exec.Cmd
	ended   chan struct{}
	Admin   string
	// Password is the admin's password. Space is the ID of the network's Space.
	Password, Space string
	Windows         []demoWindow

	mu    sync.Mutex // guards lines
	lines []string
}

// demoWindow is one window as demo.json describes it.
type demoWindow struct {
	Name     string
	Username string
	Password string
	Public   int `json:"public_port"`
	Local    int `json:"local_port"`
	Matrix   int `json:"homeserver_port"`
	Page     int `json:"page_port"`

	Registration string `json:"registration_secret"`
	TurnSecret   string `json:"turn_secret"`
}

// page returns the address of a window's page, as the demonstration has printed it.
func (n *demoNetwork) page(i int) string {
	n.t.Helper()
	prefix := fmt.Sprintf("http://127.0.0.1:%d/", n.Windows[i].Page)
	for word := range strings.FieldsSeq(n.await(prefix, 10*time.Second)) {
		if strings.HasPrefix(word, prefix) {
			return word
		}
	}
	n.t.Fatalf("the demo printed no address of %s", n.Windows[i].Name)
	return ""
}

// startDemo runs "ewindow demo" on a data folder and waits until both pages are served.
func startDemo(t testing.TB, folder string, args ...string) *demoNetwork {
	t.Helper()
	return startDemoProgram(t, program, folder, args...)
}

// startDemoProgram is the same as startDemo, with a program of the caller's choice.
func startDemoProgram(t testing.TB, program func() (string, error), folder string, args ...string) *demoNetwork {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	rig.Program(t, child.Dendrite) // build the servers first, so that the time limits below do not include it
	rig.Program(t, child.LiveKit)
	rig.Exclusive(t)
	keepPorts()
	n := &demoNetwork{t: t, folder: folder, started: time.Now(), ended: make(chan struct{})}
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
		rig.KeepLogs(n.t, n.folder, logLines)
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

// logLines is how many of each program's last lines are printed when a test has failed.
const logLines = 12

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

// await waits until the demonstration prints a line that contains text, and returns the line.
func (n *demoNetwork) await(text string, limit time.Duration) (line string) {
	n.t.Helper()
	rig.Eventually(n.t, limit, func() error {
		lines := n.printed()
		for _, line = range lines {
			if strings.Contains(line, text) {
				return rig.Check(true, "the demo's line "+strconv.Quote(text), nil)
			}
		}
		select {
		case <-n.ended:
			n.t.Fatalf("the demo ended; it printed:\n%s", strings.Join(lines, "\n"))
		default:
		}
		return fmt.Errorf("%s: %v", "the demo's line "+strconv.Quote(text), strings.Join(lines, "\n"))
	})
	return line
}

// stop ends the demonstration with SIGINT, as Ctrl-C does, and waits for its end.
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
		n.t.Error("the demo did not end within 40 s")
		_ = n.process.Process.Kill()
		<-done
	}
}

// findProcesses returns the IDs of the processes whose command line contains all of words.
func findProcesses(words ...string) (pids []int) {
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

// livekit, dendrite and kiosk return the words by which findProcesses finds one program of the demonstration.
func (n *demoNetwork) livekit() []string { return []string{"livekit-server", n.folder} }

func (n *demoNetwork) dendrite(i int) []string {
	return []string{"/dendrite ", filepath.Join(n.folder, n.Windows[i].Username)}
}

func (n *demoNetwork) kiosk(i int) []string {
	return []string{"ewindow kiosk", filepath.Join(n.folder, n.Windows[i].Username)}
}

// kill sends SIGKILL to one program and waits until the demonstration has started it again.
func (n *demoNetwork) kill(words []string) {
	n.t.Helper()
	pids := findProcesses(words...)
	if len(pids) != 1 {
		n.t.Fatalf("%d processes are %q", len(pids), words)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	rig.Eventually(n.t, 30*time.Second, func() error {
		now := findProcesses(words...)
		return rig.Check(len(now) == 1 && now[0] != pids[0], fmt.Sprintf("a new process of %q", words), now)
	})
}

// awaitLog waits until a kiosk's log contains text.
func (n *demoNetwork) awaitLog(i int, text string) {
	n.t.Helper()
	rig.Eventually(n.t, 30*time.Second, func() error {
		return rig.Check(strings.Contains(n.log(i), text), fmt.Sprintf("%q in %s's log", text, n.Windows[i].Name), nil)
	})
}

// log returns a kiosk's log.
func (n *demoNetwork) log(i int) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.folder, n.Windows[i].Username, "kiosk.log"))
	if err != nil {
		n.t.Fatal(err)
	}
	return string(data)
}

// startPages starts both windows' pages, and waits until each knows the other window.
func (n *demoNetwork) startPages() (pages [2]*page.Page) {
	n.t.Helper()
	for i, w := range n.Windows {
		pages[i] = page.Start(n.t, w.Name, n.page(i))
	}
	for _, p := range pages {
		p.Await(n.t, time.Minute, "the other window", func(r page.Report) bool { return r.Media && len(r.Joined) == 1 })
	}
	return pages
}

// configure changes the configuration of a window and its hub. They read it when they start.
func (n *demoNetwork) configure(i int, change func(text string) string) {
	n.t.Helper()
	path := filepath.Join(n.folder, n.Windows[i].Username, "config.yaml")
	before, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	after := change(string(before))
	if after == string(before) {
		n.t.Fatalf("nothing is changed in the configuration:\n%s", before)
	}
	if err := os.WriteFile(path, []byte(after), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// hub is a window's hub, for kill.
func (n *demoNetwork) hub(i int) []string {
	return []string{"ewindow hub", filepath.Join(n.folder, n.Windows[i].Username)}
}

// admin logs in as the network's admin.
func (n *demoNetwork) admin() *mautrix.Client {
	n.t.Helper()
	return n.login(0, n.Admin, n.Password)
}

// login logs in on a window's homeserver.
func (n *demoNetwork) login(i int, user, password string) *mautrix.Client {
	n.t.Helper()
	client, err := mautrix.NewClient(fmt.Sprintf("http://127.0.0.1:%d", n.Windows[i].Local), "", "")
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := client.Login(n.t.Context(), &mautrix.ReqLogin{
		Type:       mautrix.AuthTypePassword,
		Identifier: mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: user},
		Password:   password, StoreCredentials: true,
	}); err != nil {
		n.t.Fatal(err)
	}
	return client
}
