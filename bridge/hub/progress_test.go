package hub

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are made by dial.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, open := <-p
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial() net.Conn {
	near, far := net.Pipe()
	p <- far
	return near
}

// TestProgress demands that clients which send or take nothing, or almost nothing, lose their connection, and that slow and waiting ones do not.
func TestProgress(t *testing.T) {
	const size = 100 << 10
	for _, c := range []struct {
		name string
		// The client sends a body of size bytes in pieces, each after a pause.
		piece int
		pause time.Duration
		// It reads the answer in pieces, too.
		take  int
		slept time.Duration
		alive bool
	}{
		{name: "fast", piece: size, take: size, alive: true},
		{name: "sends 2 KiB a second", piece: 10 << 10, pause: 5 * time.Second, take: size, alive: true},
		{name: "takes its answer slowly", piece: size, take: 1 << 10, slept: 3 * time.Second, alive: true},
		{name: "sends nothing more", piece: 10 << 10, pause: time.Hour, take: size},
		{name: "sends a byte now and then", piece: 1, pause: 15 * time.Second, take: size},
		{name: "takes nothing", piece: size, take: 1 << 10, slept: time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := make(pipes)
				server := &http.Server{Handler: demandProgress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						panic(http.ErrAbortHandler)
					}
					<-time.After(time.Minute) // as /sync does
					_, _ = w.Write(make([]byte, size))
				}))}
				go func() { _ = server.Serve(listener) }()
				conn := listener.dial()
				ended := make(chan struct{})
				served := false // valid when ended is closed
				go func() {
					defer close(ended)
					buffered := bufio.NewReaderSize(conn, 16)
					for range 2 { // the second request uses the same connection
						if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size); err != nil {
							return
						}
						for sent := 0; sent < size; sent += c.piece {
							if _, err := io.WriteString(conn, strings.Repeat("x", min(c.piece, size-sent))); err != nil {
								return
							}
							<-time.After(c.pause)
						}
						answer, err := http.ReadResponse(buffered, nil)
						if err != nil {
							return
						}
						piece, took := make([]byte, c.take), 0
						for took < size {
							n, err := answer.Body.Read(piece)
							took += n
							if err != nil && took < size {
								return
							}
							<-time.After(c.slept)
						}
						if _, err := io.Copy(io.Discard, answer.Body); err != nil {
							return
						}
					}
					served = true
				}()
				if c.alive {
					<-ended
				} else {
					<-time.After(4 * time.Minute)
					if _, err := conn.Write([]byte("x")); err == nil {
						t.Error("it still has its connection")
					}
				}
				_ = conn.Close()
				close(listener)
				_ = server.Close()
				<-ended
				if served != c.alive {
					t.Errorf("served: %t", served)
				}
			})
		})
	}
}
