package lifecycle_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bridge/lifecycle"
)

// TestCloseOrder ends parts that were added with each of the methods. The part of GoEndingFirst ends first, then the others in reverse order.
func TestCloseOrder(t *testing.T) {
	var (
		mu    sync.Mutex
		ended []string
	)
	note := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		ended = append(ended, name)
	}
	until := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			<-ctx.Done()
			note(name)
			return ctx.Err()
		}
	}
	log := new(strings.Builder)
	g := lifecycle.NewGroup(zerolog.New(log))
	g.OnClose("database", func() error { note("database"); return nil })
	g.GoEndingFirst("bridge", until("bridge"))
	g.Go("bot", until("bot"))
	g.OnClose("screen", func() error { note("screen"); return errors.New("it is broken") })
	g.Close()
	if want := []string{"bridge", "screen", "bot", "database"}; !slices.Equal(ended, want) {
		t.Errorf("the parts ended in the order %v, want %v", ended, want)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `"part":"screen"`) || !strings.Contains(text, "it is broken") {
		t.Errorf("logged: %s", text)
	}
	g.Close()
	if len(ended) != 4 {
		t.Errorf("a second Close ends parts again: %v", ended)
	}
}

// TestWait checks that Wait returns the first of many errors, and that the parts with the other errors end, too.
func TestWait(t *testing.T) {
	g := lifecycle.NewGroup(zerolog.Nop())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Wait(ctx); err != nil {
		t.Errorf("an orderly end: %v", err)
	}
	g.Go("quiet", func(context.Context) error { return nil }) // it has done its work, which is no failure
	broken := errors.New("broken")
	for range 3 {
		g.Go("broken", func(context.Context) error { return broken })
	}
	if err := g.Wait(t.Context()); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	g.Close()
}

// TestServeHTTP checks that Close waits for a request that is being answered.
func TestServeHTTP(t *testing.T) {
	listener, err := lifecycle.Listen("listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	asked, goOn := make(chan struct{}), make(chan struct{})
	g := lifecycle.NewGroup(zerolog.Nop())
	g.ServeHTTP(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-goOn
		_, _ = io.WriteString(w, "answer")
	})}, listener)
	text := make(chan string, 1)
	go func() {
		answer, err := http.Get("http://" + address)
		if err != nil {
			text <- err.Error()
			return
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		text <- string(body)
	}()
	<-asked
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		g.Close()
	}()
	for { // until the server takes nobody new
		conn, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	close(goOn)
	if got := <-text; got != "answer" {
		t.Errorf("the request got %q", got)
	}
	<-closed
}

func TestListen(t *testing.T) {
	listener, err := lifecycle.Listen("hub.listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if _, err := lifecycle.Listen("hub.listen", listener.Addr().String()); err == nil ||
		!strings.Contains(err.Error(), "hub.listen") || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a port that is taken: %v", err)
	}
}
