// Package lifecycle keeps the parts of a program together: it notices when one fails, and ends them all in the right order.
//
// [NewGroup] makes a [Group]. [Group.Go] runs a part in a goroutine, [Group.ServeHTTP] runs an HTTP server, and [Group.OnClose] adds
// something that only needs to be closed. [Group.Wait] blocks until its context ends or a part fails. [Group.Close] ends the
// parts, the last one added first, and waits for each one before it ends the next: a part may use the parts before it until its own end.
//
// errgroup and run.Group end all parts at the same moment. But a kiosk must leave its call before its bot ends, because the bot sends the
// leave, and the database must be closed last.
//
// The methods may be called from any goroutine. Each goroutine that a Group starts has ended when Close returns.
package lifecycle

import (
	"context"
	"errors"
	"sync"

	"github.com/rs/zerolog"
)

// Group is a set of running parts. Make one with NewGroup.
type Group struct {
	log    zerolog.Logger
	failed chan error // the first error with which a part ended by itself

	requests sync.WaitGroup // HTTP servers that still answer

	mu    sync.Mutex // guards what follows
	parts []part
	first []part // these end before all others
}

// part is something that must be ended.
type part struct {
	name string
	end  func() error
}

// NewGroup makes a Group without parts. The log gets the errors of Close.
func NewGroup(log zerolog.Logger) *Group {
	return &Group{log: log, failed: make(chan error, 1)}
}

// OnClose adds a part that needs no goroutine. Close calls end.
func (g *Group) OnClose(name string, end func() error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parts = append(g.parts, part{name, end})
}

// Go runs f in a goroutine. f's context ends when it is this part's turn to end. An error that f returns before that fails the group.
func (g *Group) Go(name string, f func(ctx context.Context) error) {
	g.OnClose(name, g.run(f))
}

// GoEndingFirst is Go for a part that must end before all others, those that are added later included.
func (g *Group) GoEndingFirst(name string, f func(ctx context.Context) error) {
	end := g.run(f)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.first = append(g.first, part{name, end})
}

// run starts f and returns the function that ends it.
func (g *Group) run(f func(ctx context.Context) error) (end func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var (
		ended sync.WaitGroup
		err   error
	)
	ended.Go(func() {
		if err = f(ctx); err == nil || ctx.Err() != nil {
			return
		}
		select {
		case g.failed <- err:
		default: // another part failed before
		}
	})
	return func() error {
		cancel()
		ended.Wait()
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
}

// Wait returns nil when ctx ends, or the error of the first part that failed.
func (g *Group) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-g.failed:
		return err
	}
}

// Close ends all parts and waits for them. A second call does nothing.
func (g *Group) Close() {
	g.mu.Lock()
	list := append(g.parts, g.first...)
	g.parts, g.first = nil, nil
	g.mu.Unlock()
	for i := len(list) - 1; i >= 0; i-- {
		if err := list[i].end(); err != nil {
			g.log.Error().Err(err).Str("part", list[i].name).Msg("A part did not end in order")
		}
	}
	g.requests.Wait()
}
