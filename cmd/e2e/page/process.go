package page

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// addressVariable is the environment variable with the page's address. If it is set, a test's program runs the page, see [Main].
const addressVariable = "EWINDOW_TEST_PAGE"

// endLimit is how long a page's process may take to end before it is killed.
const endLimit = 20 * time.Second

// Main must be called by the TestMain of tests that use [StartCommand]. In a process that StartCommand started, it runs the page and exits.
// In other processes it does nothing.
func Main() {
	address := os.Getenv(addressVariable)
	if address == "" {
		return
	}
	if err := Run(address, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Page is a running page. Its methods may be called from any goroutine.
type Page struct {
	// Name is the page's name in messages of the test.
	Name string

	commands io.WriteCloser

	mu   sync.Mutex // guards last
	last Report
}

// Start runs the page at address, see [Run], in this process. It stops when the test ends.
func Start(t testing.TB, name, address string) *Page {
	t.Helper()
	read, commands := io.Pipe()
	reports, write := io.Pipe()
	p := &Page{Name: name, commands: commands}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		if err := Run(address, read, write); err != nil {
			t.Errorf("%s's page: %v", name, err)
		}
		_ = write.Close()
	})
	tasks.Go(func() { p.readReports(reports) })
	t.Cleanup(func() {
		_ = commands.Close()
		tasks.Wait()
	})
	return p
}

// StartCommand runs the page at address, see [Run], as a process. The command must run this test's own program
// ([os.Executable]); it may run it in a network namespace. The process stops when the test ends.
func StartCommand(t testing.TB, name, address string, cmd *exec.Cmd) *Page {
	t.Helper()
	cmd.Env = append(os.Environ(), addressVariable+"="+address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the process ends when its standard input is closed, also when the test is killed
	cmd.Stderr = os.Stderr
	commands, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	reports, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Page{Name: name, commands: commands}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.readReports(reports)
	}()
	t.Cleanup(func() {
		_ = commands.Close()
		hung := time.AfterFunc(endLimit, func() { _ = cmd.Process.Kill() })
		defer hung.Stop()
		<-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s's page: %v", name, err)
		}
	})
	return p
}

func (p *Page) readReports(from io.Reader) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		var r Report
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			p.mu.Lock()
			p.last = r
			p.mu.Unlock()
		}
	}
}

// Command sends a command to the page, see [Run].
func (p *Page) Command(t testing.TB, command string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.commands, command); err != nil {
		t.Fatal(err)
	}
}

// Report returns the newest report.
func (p *Page) Report() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// Await waits for a report for which ok returns true, and returns it. If none comes within limit, the test fails; what names what was awaited.
func (p *Page) Await(t testing.TB, limit time.Duration, what string, ok func(Report) bool) (r Report) {
	t.Helper()
	rig.Eventually(t, limit, func() error {
		if r = p.Report(); !ok(r) {
			return fmt.Errorf("%s at %s: %+v", what, p.Name, r)
		}
		return nil
	})
	return r
}
