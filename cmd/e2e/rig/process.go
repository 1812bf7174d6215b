package rig

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/child"
)

const (
	// startLimit is how long a server may take until it is ready, on a machine that is busy with other tests.
	startLimit = time.Minute
	// startAttempts is how many starts are tried. Another program may take a port before the server opens it.
	startAttempts = 3
)

// process is a server's program. A test can kill it and start it again.
type process struct {
	name    string
	output  string
	command func() (*exec.Cmd, error)
	ready   func(context.Context) error
	connect func() []uint16 // the TCP ports that it may connect to; nil: all

	mu      sync.Mutex // guards running
	running *child.Child
}

// Kill sends SIGKILL to the program, which ends it as a power cut does. It stays down until Restart.
func (p *process) Kill(t testing.TB) {
	t.Helper()
	if err := p.stop(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// Restart starts the program again on the same ports and waits until it is ready. If the program still runs, Restart first stops it with SIGTERM.
func (p *process) Restart(t testing.TB) {
	t.Helper()
	if err := p.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.start(t.Context()); err != nil {
		p.logTail(t)
		t.Fatal(err)
	}
}

// Pid returns the program's process ID, or 0 while it is down.
func (p *process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return 0
	}
	return p.running.Pid()
}

// stopAtCleanup kills the program when the test ends. If the test has failed, it prints the end of the program's log. SIGKILL is enough, because
// nobody reads the program's data afterwards.
func (p *process) stopAtCleanup(t testing.TB) {
	t.Cleanup(func() {
		_ = p.stop(syscall.SIGKILL)
		if t.Failed() {
			p.logTail(t)
		}
	})
}

func (p *process) start(ctx context.Context) error {
	cfg := child.Config{Name: p.name, Command: p.command, Ready: p.ready, Output: p.output, Log: zerolog.Nop()}
	if p.connect != nil {
		cfg.ConnectTCP = p.connect()
	}
	running, err := child.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := running.Start(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	p.running = running
	p.mu.Unlock()
	return nil
}

func (p *process) stop(signal syscall.Signal) error {
	p.mu.Lock()
	running := p.running
	p.running = nil
	p.mu.Unlock()
	if running == nil {
		return nil
	}
	if pid := running.Pid(); pid != 0 {
		_ = syscall.Kill(pid, signal)
	}
	return running.Close()
}

func (p *process) logTail(t testing.TB) {
	t.Helper()
	text, err := os.ReadFile(p.output)
	if err != nil {
		return
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	t.Logf("the last lines of %s's output:\n%s", p.name, bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}
