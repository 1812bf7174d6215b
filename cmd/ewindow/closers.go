package main

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"sync"

	"github.com/rs/zerolog"
)

// discardLog is for servers whose own log only repeats what clients do wrong.
var discardLog = stdlog.New(io.Discard, "", 0)

// closers ends the parts of a program in the reverse order of their start. It is used by one goroutine.
type closers struct {
	list   []part
	failed chan error // what run's functions end with before their time
}

func newClosers() *closers { return &closers{failed: make(chan error, 16)} }

type part struct {
	name string
	end  func() error
}

// add notes how a part is ended.
func (c *closers) add(name string, end func() error) {
	c.list = append(c.list, part{name, end})
}

// run runs a part in a goroutine of its own, until its turn to end comes. When it ends before with an error, wait returns that.
func (c *closers) run(name string, f func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var (
		ended sync.WaitGroup
		err   error
	)
	ended.Go(func() {
		if err = f(ctx); err != nil && ctx.Err() == nil {
			c.failed <- err
		}
	})
	c.add(name, func() error {
		early := ctx.Err() == nil
		cancel()
		ended.Wait()
		if early && errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
}

// wait returns nil when ctx ends, or the error of a part that has ended by itself.
func (c *closers) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-c.failed:
		return err
	}
}

// close ends all parts, the youngest first.
func (c *closers) close(log zerolog.Logger) {
	for i := len(c.list) - 1; i >= 0; i-- {
		if err := c.list[i].end(); err != nil {
			log.Error().Err(err).Str("part", c.list[i].name).Msg("A part did not end in order")
		}
	}
	c.list = nil
}
