package child_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestMain is also the program of the parent process that TestParentKilled kills, and that of the child that TestConnectTCP lets connect to an address.
// That one ends with 4 if it could connect, else with 3.
func TestMain(m *testing.M) {
	if address := os.Getenv("EWINDOW_TEST_CONNECT"); address != "" {
		if _, err := net.Dial("tcp", address); err != nil {
			os.Exit(3)
		}
		os.Exit(4)
	}
	if os.Getenv("EWINDOW_TEST_PARENT") != "" {
		c, err := child.New(child.Config{Name: "sleeper", Command: sleeper, Log: zerolog.Nop()})
		if err == nil {
			err = c.Start(context.Background())
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(c.Pid())
		select {}
	}
	os.Exit(m.Run())
}

func sleeper() (*exec.Cmd, error) { return exec.Command("sleep", "1000"), nil }

func alive(pid int) bool {
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(state), ") Z ")
}

func TestRestart(t *testing.T) {
	output := filepath.Join(t.TempDir(), "log")
	c, err := child.New(child.Config{
		Name: "sleeper", Output: output, Log: zerolog.Nop(),
		Command: func() (*exec.Cmd, error) { return exec.Command("sh", "-c", "echo started; exec sleep 1000"), nil },
		Ready: func(context.Context) error {
			if text, err := os.ReadFile(output); err != nil || len(text) == 0 {
				return errors.New("not yet")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := c.Pid()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 20*time.Second, func() error {
		if text, err := os.ReadFile(output); string(text) != "started\nstarted\n" {
			return fmt.Errorf("no second start: %q, %v", text, err)
		}
		return nil
	})
	second := c.Pid()
	if second == 0 || second == first {
		t.Errorf("the second process is %d, the first was %d", second, first)
	}
	_ = c.Close()
	_ = c.Close()
	if alive(second) {
		t.Error("the program runs after Close")
	}
}

// TestRestartAsked asks for a start with another command. That is no failure.
func TestRestartAsked(t *testing.T) {
	output := filepath.Join(t.TempDir(), "log")
	var log rig.Output
	starts := 0
	c, err := child.New(child.Config{
		Name: "sleeper", Output: output, Log: zerolog.New(&log),
		Command: func() (*exec.Cmd, error) {
			starts++
			return exec.Command("sh", "-c", fmt.Sprintf("echo start %d; exec sleep 1000", starts)), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := c.Pid()
	c.Restart()
	rig.Eventually(t, 20*time.Second, func() error {
		text, err := os.ReadFile(output)
		return rig.Check(strings.HasSuffix(string(text), "start 2\n") && c.Pid() != 0 && c.Pid() != first, "a second start", fmt.Sprintf("%q, %v", text, err))
	})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Contains(text, `"error"`) {
		t.Errorf("it is logged as a failure: %s", text)
	}
	if alive(first) {
		t.Error("the program before still runs")
	}
}

// TestHangs stops a program: it runs and does nothing. It is started again. One that is slow for a moment is not.
func TestHangs(t *testing.T) {
	const every = 100 * time.Millisecond
	var log rig.Output
	beat := filepath.Join(t.TempDir(), "beat")
	var slow atomic.Int32 // how often it is slow
	c, err := child.New(child.Config{
		Name: "beating", Log: zerolog.New(&log), CheckEvery: every,
		Command: func() (*exec.Cmd, error) {
			return exec.Command("sh", "-c", `while true; do echo beat > "$0"; sleep 0.02; done`, beat), nil
		},
		Ready: func(ctx context.Context) error { // it answers when the program has written
			if slow.Add(-1) >= 0 {
				return errors.New("slow")
			}
			_ = os.Remove(beat)
			for ctx.Err() == nil {
				if _, err := os.Stat(beat); err == nil {
					return nil
				}
				<-time.After(every / 20)
			}
			return ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	slow.Store(2)
	rig.Eventually(t, 20*time.Second, func() error { return rig.Check(slow.Load() < 0, "an answer after slow ones", slow.Load()) })
	first := c.Pid()
	if strings.Contains(log.String(), "hangs") {
		t.Fatalf("a program that is slow for a moment is ended: %s", log.String())
	}
	if err := syscall.Kill(-first, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	rig.Eventually(t, 20*time.Second, func() error { return rig.Check(c.Pid() != 0 && c.Pid() != first, "another process", c.Pid()) })
	if n := strings.Count(log.String(), "A program hangs"); n != 1 {
		t.Errorf("the log says %d times that it hangs: %s", n, log.String())
	}
	if err := c.Close(); err != nil || alive(first) {
		t.Errorf("the first process is alive: %t, %v", alive(first), err)
	}
}

// TestLeftBehind kills a program that has started another one. The other one has the same output. It ends, too, and the program is started again.
func TestLeftBehind(t *testing.T) {
	output := filepath.Join(t.TempDir(), "log")
	c, err := child.New(child.Config{
		Name: "parent", Output: output, Log: zerolog.Nop(),
		Command: func() (*exec.Cmd, error) {
			return exec.Command("sh", "-c", "sleep 1000 & echo $!; exec sleep 1000"), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	started := func(n int) (pids []int) {
		t.Helper()
		rig.Eventually(t, 20*time.Second, func() error {
			text, err := os.ReadFile(output)
			pids = nil
			for _, line := range strings.Fields(string(text)) {
				pid, _ := strconv.Atoi(line)
				pids = append(pids, pid)
			}
			return rig.Check(len(pids) == n, fmt.Sprint(n, " starts"), fmt.Sprintf("%q %v", text, err))
		})
		return pids
	}
	first := started(1)[0]
	if err := syscall.Kill(c.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := started(2)[1]
	// SIGKILL was sent by then, but the kernel ends a process only when it is its turn.
	ends := func(pid int, what string) {
		t.Helper()
		rig.Eventually(t, 20*time.Second, func() error { return rig.Check(!alive(pid), what, "it runs on") })
	}
	ends(first, "what a killed program had started ends")
	_ = c.Close()
	ends(second, "what the program has started ends with Close")
	if err := c.Start(t.Context()); err == nil {
		t.Error("started after Close")
	}
}

func TestClosedFirst(t *testing.T) {
	c, err := child.New(child.Config{Name: "sleeper", Command: sleeper, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := c.Start(t.Context()); err == nil {
		t.Error("started after Close")
	}
}

func TestStartFails(t *testing.T) {
	output := filepath.Join(t.TempDir(), "log")
	for _, command := range []string{"exit 3", "exec /nothing/here"} {
		c, err := child.New(child.Config{
			Name: "broken", Output: output, Log: zerolog.Nop(),
			Command: func() (*exec.Cmd, error) { return exec.Command("sh", "-c", command), nil },
			Ready:   func(context.Context) error { return errors.New("never") },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err == nil || !strings.Contains(err.Error(), output) {
			t.Errorf("%q: error %v does not name the log", command, err)
		}
		_ = c.Close()
	}
}

// TestParentKilled kills a parent with SIGKILL, and checks that its child dies.
func TestParentKilled(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(own)
	parent.Env = append(os.Environ(), "EWINDOW_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil || !alive(pid) {
		t.Fatalf("the parent said %q: %v", line, err)
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	rig.Eventually(t, 20*time.Second, func() error {
		if alive(pid) {
			return fmt.Errorf("the child %d is alive", pid)
		}
		return nil
	})
}

func TestFind(t *testing.T) {
	if _, err := child.Find(t.Context(), child.Dendrite, "/nothing/here", nil); err == nil || !strings.Contains(err.Error(), "/nothing/here") {
		t.Errorf("a configured program that is not there: %v", err)
	}
	folder := t.TempDir()
	path := filepath.Join(folder, child.Dendrite.Name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder)
	if found, err := child.Find(t.Context(), child.Dendrite, "", nil); err != nil || found != path {
		t.Errorf("found %q, %v", found, err)
	}
}

func TestPrograms(t *testing.T) {
	for _, p := range []child.Program{child.Dendrite, child.LiveKit} {
		if out, err := exec.Command(rig.Program(t, p), "--version").CombinedOutput(); err != nil {
			t.Errorf("%s --version: %v\n%s", p.Name, err, out)
		}
	}
}
