package rig

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Serve serves HTTP until the test ends. At the end it waits for the handlers that still run, because a handler that logs into the test must not
// run longer than the test. The result is the URL for a listener without TLS.
func Serve(t testing.TB, l net.Listener, handler http.Handler) (url string) {
	t.Helper()
	g := &gate{handler: handler}
	server := &http.Server{Handler: g, ReadHeaderTimeout: 10 * time.Second, ErrorLog: discardLogger()}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		g.close()
	})
	return "http://" + l.Addr().String()
}

// gate passes requests to the handler until it is closed. It waits for the requests that still run.
type gate struct {
	handler http.Handler

	mu      sync.Mutex // guards closed, and Add against Wait
	closed  bool
	running sync.WaitGroup
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	g.running.Add(1)
	g.mu.Unlock()
	defer g.running.Done()
	g.handler.ServeHTTP(w, r)
}

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.running.Wait()
}
