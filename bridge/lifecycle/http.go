package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"syscall"
	"time"
)

// StopLimit is how long a server that ends may still take for the requests that it is answering.
const StopLimit = 3 * time.Second

// Listen opens a TCP listener. The errors name key, the configuration's name for the address, and say what to do.
func Listen(key, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is used by another program: end that one, or choose another port", key, address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: this user may not open %s: let systemd give the service CAP_NET_BIND_SERVICE, or choose a port above 1023", key, address)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return listener, nil
}

// ServeHTTP runs an HTTP server on a listener as a part of the group. When its turn to end comes, the server takes no more requests. Requests
// that it is answering may go on for [StopLimit] while older parts end, because a long-polling request such as Matrix's /sync ends only when
// the homeserver behind the server ends. Close waits for these requests at its end.
//
// The server's own log is thrown away, because it only tells what clients do wrong.
func (g *Group) ServeHTTP(server *http.Server, listener net.Listener) {
	server.ErrorLog = log.New(io.Discard, "", 0)
	g.Go("HTTP server", func(ctx context.Context) error {
		g.requests.Add(1)
		stop := context.AfterFunc(ctx, func() {
			defer g.requests.Done()
			limit, cancel := context.WithTimeout(context.Background(), StopLimit)
			defer cancel()
			if server.Shutdown(limit) != nil {
				_ = server.Close()
			}
		})
		err := server.Serve(listener)
		if stop() { // it failed by itself
			g.requests.Done()
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
}
