package homeserver

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

const (
	outboundConnect = 10 * time.Second
	// outboundIdle is how long a tunnel may be silent. Dendrite keeps idle connections for five minutes.
	outboundIdle = 6 * time.Minute
	// maxOutbound is how many tunnels there may be.
	maxOutbound = 512
)

// Outbound is the proxy through which Dendrite connects to other servers. It is an http.Handler that answers CONNECT only (RFC 9110, section
// 9.3.6). Before each connection it asks an address policy about the very address. Dendrite itself has such a policy only for a part of what
// it does: not for files of other homeservers, .well-known files and push gateways.
//
// Go's programs never use a proxy for localhost and addresses in 127.0.0.0/8. So the Outbound listens at an address of that network that nobody can
// guess, and [DendriteConfig.Outbound] makes Dendrite's own policy refuse all others. What has no such policy, push gateways and .well-known files that
// redirect, ends at the kernel: see [Dendrite.ConnectTCP].
type Outbound struct {
	dialer   net.Dialer
	secret   string // of the proxy's user
	running  chan struct{}
	listener net.Listener
}

// ListenOutbound opens the port of an Outbound that connects where allowed returns true. The caller serves [Outbound.Listener], and closes it.
func ListenOutbound(allowed func(netip.Addr) bool) (*Outbound, error) {
	var place [3]byte
	_, _ = rand.Read(place[:]) // never fails
	address := netip.AddrFrom4([4]byte{127, place[0] | 0x80, place[1], place[2] | 1})
	listener, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		return nil, fmt.Errorf("open the port of the proxy for Dendrite: %w", err)
	}
	return &Outbound{
		dialer: net.Dialer{Timeout: outboundConnect, Control: addrpolicy.Control(allowed)},
		secret: rand.Text(), running: make(chan struct{}, maxOutbound), listener: listener,
	}, nil
}

// Listener is the proxy's port.
func (o *Outbound) Listener() net.Listener { return o.listener }

// URL is the proxy's address with its password, as programs expect it in the environment.
func (o *Outbound) URL() *url.URL {
	return &url.URL{Scheme: "http", User: url.UserPassword("dendrite", o.secret), Host: o.listener.Addr().String()}
}

// ServeHTTP implements http.Handler.
func (o *Outbound) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("dendrite:"+o.secret))
	switch {
	case subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(want)) != 1:
		http.Error(w, "this proxy is Dendrite's", http.StatusProxyAuthRequired)
		return
	case r.Method != http.MethodConnect:
		http.Error(w, "only CONNECT is allowed", http.StatusMethodNotAllowed)
		return
	}
	select {
	case o.running <- struct{}{}:
		defer func() { <-o.running }()
	default:
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	far, err := o.dialer.DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, "the address can't be reached, or may not be connected to", http.StatusForbidden)
		return
	}
	defer far.Close()
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "the connection can't be taken over", http.StatusInternalServerError)
		return
	}
	defer near.Close()
	if _, err := near.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
		return
	}
	// What Dendrite has sent already is in the buffer.
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	if _, err := far.Write(early); err != nil {
		return
	}
	tunnel(near, far)
}

// tunnel copies both ways until one side ends or both are silent for long.
func tunnel(near, far net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	idle := time.AfterFunc(outboundIdle, cancel)
	defer idle.Stop()
	stop := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer stop()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			defer cancel()
			_, _ = io.Copy(activeWriter{pair[0], idle}, pair[1])
		})
	}
	both.Wait()
}

// activeWriter notes when something is written.
type activeWriter struct {
	io.Writer
	idle *time.Timer
}

// Write implements io.Writer.
func (w activeWriter) Write(b []byte) (int, error) {
	w.idle.Reset(outboundIdle)
	return w.Writer.Write(b)
}
