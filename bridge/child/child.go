// Package child runs other programs as parts of ours: it finds or builds them, starts them, and starts them again when they end. They end
// when our program ends, also when it is killed.
//
// [Find] gets a program's path, [New] and [Child.Start] run one, [Child.Close] ends it. A running Child has one goroutine, which owns
// the process and which Close waits for. The package works on Linux only: PR_SET_PDEATHSIG lets the kernel kill a program
// when its parent dies.
package child

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bot/backoff"
)

const (
	stopGrace   = 10 * time.Second
	outputGrace = time.Second // for output that comes after the program's end, from programs that it has started
	readyLimit  = 60 * time.Second
	readyPoll   = 20 * time.Millisecond
	// maxUnready is how often in a row Ready may fail while the program runs.
	maxUnready = 4
)

// Config is what a Child is made of. Name and Command are required.
type Config struct {
	// Name is the program's name in the log.
	Name string
	// Command makes a new command that is not started. It is called for each start. The Child sets the command's SysProcAttr.
	Command func() (*exec.Cmd, error)
	// Ready returns nil once the program does its work. After each start it is called again and again until it does. nil: ready at once.
	Ready func(ctx context.Context) error
	// CheckEvery is how often Ready is called while the program runs, and how long it may take then. If it fails a few times in a row, the program hangs,
	// and is started again. 0: never.
	CheckEvery time.Duration
	// ConnectTCP are the only TCP ports that the program, and what it starts, may connect to, on any address. Empty: all. A kernel before Linux 6.7 can't hold
	// it to that: the log says so.
	ConnectTCP []uint16
	// Output is the path of a file for what the program prints. At 8 MiB the file is renamed, so that its name ends in ".old", and a new
	// file is begun. "" leaves the command's own Stdout and Stderr.
	Output string
	Log    zerolog.Logger
}

// Child is one program that is kept running. Its methods may be called from any goroutine.
type Child struct {
	cfg    Config
	cancel context.CancelFunc
	again  chan struct{} // Restart asks by it
	done   chan struct{}
	once   sync.Once

	mu      sync.Mutex // guards what follows
	process *exec.Cmd
}

// New checks a configuration. It starts nothing.
func New(cfg Config) (*Child, error) {
	if cfg.Name == "" || cfg.Command == nil {
		return nil, errors.New("child: name and command are needed")
	}
	if cfg.Ready == nil {
		cfg.Ready = func(context.Context) error { return nil }
	}
	return &Child{cfg: cfg, again: make(chan struct{}, 1), done: make(chan struct{})}, nil
}

// Start starts the program and waits until it is ready. After an error nothing is left running. After nil the program is started again
// whenever it ends, until Close. ctx ends only the waiting.
func (c *Child) Start(ctx context.Context) error {
	if c.cancel != nil {
		return fmt.Errorf("start %s: started twice", c.cfg.Name)
	}
	select {
	case <-c.done:
		return fmt.Errorf("start %s: closed before", c.cfg.Name)
	default:
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	first := make(chan error, 1)
	go c.keep(life, first)
	var err error
	select {
	case err = <-first:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		_ = c.Close()
		return fmt.Errorf("start %s: %w", c.cfg.Name, err)
	}
	return nil
}

// Restart kills the program, as soon as it is ready, and starts it at once with a new command. It does not wait for that.
func (c *Child) Restart() {
	select {
	case c.again <- struct{}{}:
	default: // it is asked for already
	}
}

// Close ends the program, and what it has started, with SIGTERM, and after ten seconds with SIGKILL. It waits for the end, and may be called twice.
func (c *Child) Close() error {
	c.once.Do(func() {
		if c.cancel == nil {
			close(c.done)
			return
		}
		c.cancel()
	})
	<-c.done
	return nil
}

// Pid is the running program's process id, 0 while there is none.
func (c *Child) Pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil || c.process.Process == nil {
		return 0
	}
	return c.process.Process.Pid
}

// keep runs the program again and again. It locks its thread, because PR_SET_PDEATHSIG watches the thread that started the process: if Go
// ended that thread, the kernel would kill the program. It never unlocks the thread, which may be confined: no other goroutine runs on it then.
func (c *Child) keep(ctx context.Context, first chan<- error) {
	defer close(c.done)
	runtime.LockOSThread()
	if len(c.cfg.ConnectTCP) > 0 {
		switch err := confine(c.cfg.ConnectTCP); {
		case errors.Is(err, errNoConfinement):
			c.cfg.Log.Warn().Err(err).Str("program", c.cfg.Name).Msg("Nothing keeps a program from connecting to other programs of this machine")
		case err != nil:
			first <- err
			return
		}
	}
	output := newLogFile(c.cfg.Output)
	defer output.Close()
	again := newBackoff()
	for ctx.Err() == nil {
		ready, worked, err := c.run(ctx, output, first)
		if ready {
			first = nil
		}
		if ctx.Err() != nil {
			return
		}
		if first != nil {
			first <- err
			return
		}
		if errors.Is(err, errAsked) {
			continue
		}
		again.Ran(worked)
		pause := again.Next()
		c.cfg.Log.Error().Err(err).Str("program", c.cfg.Name).Dur("again_in_ms", pause).Msg("A program has ended and is started again")
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// newBackoff decides how long to wait before a program that has ended is started again. If the program was ready for ten seconds, the wait is
// the shortest one: then it was probably killed, and does not fail because of its configuration.
func newBackoff() backoff.Backoff {
	return backoff.Backoff{Min: 250 * time.Millisecond, Max: 10 * time.Second, Steady: 10 * time.Second}
}

// errAsked is why a program ended that [Child.Restart] has ended.
var errAsked = errors.New("it has to start again")

// run runs the program once. It sends nil to first when the program is ready. It returns whether the program was ever ready, for how long,
// and why it ended.
func (c *Child) run(ctx context.Context, output *logFile, first chan<- error) (ready bool, worked time.Duration, err error) {
	select {
	case <-c.again: // this start is the one that was asked for
	default:
	}
	cmd, err := c.cfg.Command()
	if err != nil {
		return false, 0, err
	}
	if c.cfg.Output != "" {
		cmd.Stdout, cmd.Stderr = output, output
	}
	// The program gets a process group of its own. Ctrl-C in a terminal then reaches only us, and we end the program in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// A program that the program has started, and that outlives it, would hold the output's pipe for ever.
	cmd.WaitDelay = outputGrace
	if err := cmd.Start(); err != nil {
		return false, 0, err
	}
	group := -cmd.Process.Pid
	c.setProcess(cmd)
	defer c.setProcess(nil)
	c.cfg.Log.Info().Str("program", c.cfg.Name).Int("pid", cmd.Process.Pid).Msg("Program started")

	var readySince time.Time
	var asked bool
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		if err := c.awaitReady(ctx, ended); err == nil {
			ready, readySince = true, time.Now()
			if first != nil {
				first <- nil
			}
		} else if ctx.Err() == nil {
			select {
			case <-ended:
			default: // it runs but does not work
				c.cfg.Log.Error().Err(err).Str("program", c.cfg.Name).Msg("The program does not get ready")
				_ = syscall.Kill(group, syscall.SIGKILL)
			}
		}
		checking, stop := context.WithCancel(ctx)
		hung := make(chan error, 1)
		var checks sync.WaitGroup
		checks.Go(func() {
			if err := c.check(checking); err != nil {
				hung <- err
			}
		})
		defer func() {
			stop()
			checks.Wait()
		}()
		select {
		case <-ended:
		case err := <-hung:
			c.cfg.Log.Error().Err(err).Str("program", c.cfg.Name).Msg("A program hangs, and is ended")
			_ = syscall.Kill(group, syscall.SIGKILL)
		case <-c.again:
			asked = true
			_ = syscall.Kill(group, syscall.SIGKILL)
		case <-ctx.Done():
			_ = syscall.Kill(group, syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(stopGrace):
				_ = syscall.Kill(group, syscall.SIGKILL)
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	<-watched
	_ = syscall.Kill(group, syscall.SIGKILL) // what the program has started and left behind
	switch {
	case asked:
		err = errAsked
	case err == nil:
		err = errors.New("it ended by itself")
	}
	if ready {
		return true, time.Since(readySince), err
	}
	if c.cfg.Output != "" {
		err = fmt.Errorf("%w; what it printed is in %s", err, c.cfg.Output)
	}
	return false, 0, err
}

func (c *Child) awaitReady(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := c.cfg.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return err
		}
	}
}

// check calls Ready again and again. It returns the error when the program hangs, and nil when ctx ends.
func (c *Child) check(ctx context.Context) error {
	if c.cfg.CheckEvery == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(c.cfg.CheckEvery)
	defer tick.Stop()
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, c.cfg.CheckEvery)
		err := c.cfg.Ready(asking)
		cancel()
		if failed++; err == nil || ctx.Err() != nil {
			failed = 0
		}
		if failed == maxUnready {
			return err
		}
	}
}

func (c *Child) setProcess(cmd *exec.Cmd) {
	c.mu.Lock()
	c.process = cmd
	c.mu.Unlock()
}
