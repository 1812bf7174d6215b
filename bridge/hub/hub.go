package hub

import (
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"multifactorymodel.org/ewindow/bot/members"
	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/bridge/lifecycle"
	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/turnserver"
)

// hub is a hub that is starting or running. Only start, and the functions that it calls, write its fields. Afterwards they are only read.
type hub struct {
	cfg          Config
	told         atomic.Pointer[Config] // cfg with the addresses that clients are told now
	parts        *lifecycle.Group
	certificates *certificates

	livekit    *livekitChild      // nil without one
	relay      *turnserver.Server // nil without one
	service    *focus.Service     // nil without a focus
	proxy      *focus.Proxy       // the same
	members    *members.Members   // nil without an account
	homeserver *child.Child       // the Dendrite that is a child; nil without one
	// dendrite is the address of the hub's own homeserver, local that of the front before it for the hub itself, registration the secret for new accounts.
	dendrite, local, registration string
	admitted                      atomic.Pointer[map[string]bool] // who may make allocations at the relay; nil: not known yet
	mux                           *http.ServeMux                  // what the ports serve
}

// Run runs a hub until ctx ends, and returns nil then, or the error of the part that did not start or failed.
func Run(ctx context.Context, cfg Config) error {
	h := &hub{cfg: cfg, parts: lifecycle.NewGroup(cfg.Log), mux: http.NewServeMux()}
	defer h.parts.Close()
	if err := h.start(ctx); err != nil {
		return err
	}
	if cfg.Focus == nil && cfg.Homeserver == nil { // only the relay, which has logged that it listens
		return h.parts.Wait(ctx)
	}
	cfg.Log.Info().Str("public_url", cfg.PublicURL).Bool("turnserver", cfg.Relay != nil).Bool("focus", cfg.Focus != nil).
		Bool("homeserver", cfg.Homeserver != nil).Msg("The hub is up")
	return h.parts.Wait(ctx)
}

// start starts the parts that are configured, each after the parts that it needs are ready. After an error, the caller must close the parts that
// run.
func (h *hub) start(ctx context.Context) error {
	if err := h.findAddress(ctx); err != nil {
		return err
	}
	h.certificates = newCertificates(&h.cfg)
	if h.cfg.Focus != nil {
		if err := h.startFocus(ctx); err != nil {
			return err
		}
	}
	if h.cfg.Relay != nil {
		if err := h.startRelay(ctx); err != nil {
			return err
		}
	}
	if h.cfg.Homeserver != nil {
		if err := h.startHomeserver(ctx); err != nil {
			return err
		}
	}
	if err := h.startMembers(ctx); err != nil {
		return err
	}
	if h.cfg.Focus != nil || h.cfg.Homeserver != nil {
		if err := h.openPorts(); err != nil {
			return err
		}
	}
	if err := h.certificates.start(h.parts); err != nil {
		return err
	}
	if h.local != "" {
		h.parts.Go("the homeserver's name", h.watchName)
	}
	h.parts.Go("addresses", h.followAddresses)
	return h.startMetrics()
}

// server is the configuration of a program that the hub runs as a child.
type server interface {
	Command(program string) (*exec.Cmd, error)
	Ready(context.Context) error
}

// checkEvery is how often a child is asked whether it works. One that has not answered for about half a minute hangs.
const checkEvery = 8 * time.Second

// startChild runs a program as a part of the hub and waits until it is ready. Its output goes into a file in the data folder.
func (h *hub) startChild(
	ctx context.Context, program child.Program, path, output string, s server, connect []uint16,
) (*child.Child, error) {
	c, err := child.New(child.Config{
		Name: program.Name, Ready: s.Ready, CheckEvery: checkEvery, Output: filepath.Join(h.cfg.DataDir, output), ConnectTCP: connect, Log: h.cfg.Log,
		Command: func() (*exec.Cmd, error) { return s.Command(path) },
	})
	if err != nil {
		return nil, err
	}
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	h.parts.OnClose(program.Name, c.Close)
	return c, nil
}

// find looks for the program of a child, or builds it. Its progress is logged.
func (h *hub) find(ctx context.Context, program child.Program, configured string) (string, error) {
	return child.Find(ctx, program, configured, func(line string) { h.cfg.Log.Info().Str("step", line).Msg("Preparing a program") })
}

// choosePorts replaces zeros by free ports, each by another one.
func choosePorts(ports ...*int) error {
	taken := make(map[int]bool)
	for _, port := range ports {
		taken[*port] = true
	}
	for _, port := range ports {
		for *port == 0 {
			free, err := child.FreePort()
			if err != nil {
				return err
			}
			if !taken[free] {
				taken[free] = true
				*port = free
			}
		}
	}
	return nil
}
