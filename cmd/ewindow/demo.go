package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/bot/newnetwork"
	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/lifecycle"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "bring up a whole network on this machine: two hubs, two windows, real servers",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Usage: "keep accounts and keys in `DIR` for the next start"},
			&cli.BoolFlag{Name: "open", Usage: "open both windows at once"},
			&cli.BoolFlag{Name: "browser", Usage: "open both pages in a browser"},
			&cli.BoolFlag{Name: "two-foci", Usage: "give each hub a LiveKit of its own; a kept data folder remembers it"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return &usageError{fmt.Sprintf("%q is not expected here: \"ewindow help demo\" shows the arguments", c.Args().First())}
			}
			folder, kept := c.String("data"), true
			if folder == "" {
				made, err := os.MkdirTemp("", "ewindow-demo-")
				if err != nil {
					return fmt.Errorf("make a data folder: %w", err)
				}
				defer os.RemoveAll(made)
				folder, kept = made, false
			}
			return runDemo(c.Context, demoOptions{
				folder: folder, kept: kept, open: c.Bool("open"), browser: c.Bool("browser"), twoFoci: c.Bool("two-foci"), out: c.App.Writer,
			})
		},
	}
}

type demoOptions struct {
	folder                       string
	kept, open, browser, twoFoci bool
	out                          io.Writer
}

// demo is a running demonstration. Its hubs and kiosks are other processes of this program.
type demo struct {
	demoOptions
	state *demoState
	log   zerolog.Logger
	parts *lifecycle.Group

	printing sync.Mutex
}

// runDemo runs the demonstration until ctx ends.
func runDemo(ctx context.Context, o demoOptions) error {
	state, err := openDemo(o.folder, o.twoFoci)
	if err != nil {
		return err
	}
	if err := state.checkPorts(); err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(o.folder, "demo.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("write the demonstration's log: %w", err)
	}
	defer logFile.Close()
	d := &demo{demoOptions: o, state: state, log: newLog(config.LoggingConfig{Level: "info"}, logFile)}
	d.parts = lifecycle.NewGroup(d.log)
	defer d.parts.Close()
	// The hubs need these programs. They are found or built here first, so that people see the progress of a build, which takes minutes.
	for _, p := range []child.Program{child.Dendrite, child.LiveKit} {
		if _, err := child.Find(ctx, p, "", d.say); err != nil {
			return err
		}
	}
	d.say("Starting two homeservers, LiveKit and the TURN relays")
	if err := d.each(func(p *demoWindow) error { return d.start(ctx, p, "hub", p.hubReady) }); err != nil {
		return err
	}
	if err := d.each(func(p *demoWindow) error { return d.makeAccount(ctx, p, p.Username, p.Password, false) }); err != nil {
		return err
	}
	admin, err := d.makeNetwork(ctx)
	if err != nil {
		return err
	}
	d.say("Starting the two windows")
	if err := d.each(func(p *demoWindow) error { return d.start(ctx, p, "kiosk", p.pageReady) }); err != nil {
		return err
	}
	if err := d.invite(ctx, admin); err != nil {
		return err
	}
	if err := d.inviteHubs(ctx, admin); err != nil {
		return err
	}
	if err := d.list(); err != nil {
		return err
	}
	d.parts.Go("observers", d.watch)
	if o.browser {
		d.openPages()
	}
	return d.parts.Wait(ctx)
}

// say prints one line.
func (d *demo) say(line string) {
	d.printing.Lock()
	defer d.printing.Unlock()
	fmt.Fprintf(d.out, "%s  %s\n", time.Now().Format("15:04:05"), line)
}

// each calls f for both windows at the same time.
func (d *demo) each(f func(*demoWindow) error) error {
	var all sync.WaitGroup
	errs := make([]error, len(d.state.Windows))
	for i := range d.state.Windows {
		all.Go(func() { errs[i] = f(&d.state.Windows[i]) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// start starts another process of this program, as a hub or a kiosk.
func (d *demo) start(ctx context.Context, p *demoWindow, command string, ready func(context.Context) error) error {
	own, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own program: %w", err)
	}
	folder := d.folder
	c, err := child.New(child.Config{
		Name: p.Name + "'s " + command, Ready: ready, Output: filepath.Join(p.folder, command+".log"), Log: d.log,
		Command: func() (*exec.Cmd, error) {
			cmd := exec.Command(own, command, "-c", p.configFile())
			cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+caFile(folder), "SSL_CERT_DIR="+os.DevNull)
			return cmd, nil
		},
	})
	if err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	d.parts.OnClose(command, c.Close)
	return nil
}

func (p *demoWindow) hubReady(ctx context.Context) error {
	return reachable(ctx, p.local()+"/_matrix/client/versions")
}

func (p *demoWindow) pageReady(ctx context.Context) error {
	return reachable(ctx, "http://"+p.pageHost()+"/")
}

// reachable returns nil when an address answers with status 200.
func reachable(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, answer.Status)
	}
	return nil
}

// makeAccount makes a Matrix account, unless an earlier start has made it.
func (d *demo) makeAccount(ctx context.Context, p *demoWindow, name, password string, admin bool) error {
	_, err := homeserver.Register(ctx, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d", p.Matrix), p.Registration, name, password, admin)
	if err != nil && !errors.Is(err, mautrix.MUserInUse) {
		return fmt.Errorf("make the account %s: %w", name, err)
	}
	return nil
}

// makeNetwork logs the admin in and makes the network's Space, unless an earlier start has made it.
func (d *demo) makeNetwork(ctx context.Context) (*mautrix.Client, error) {
	host := &d.state.Windows[0]
	if err := d.makeAccount(ctx, host, d.state.Admin, d.state.Password, true); err != nil {
		return nil, err
	}
	admin, err := login(ctx, host.local(), d.state.Admin, d.state.Password)
	if err != nil {
		return nil, err
	}
	d.parts.OnClose("admin", func() error {
		limit, cancel := context.WithTimeout(context.Background(), lifecycle.StopLimit)
		defer cancel()
		_, err := admin.Logout(limit)
		return err
	})
	if d.state.Space != "" {
		_, err := newnetwork.Upgrade(ctx, admin, id.RoomID(d.state.Space))
		return admin, err
	}
	space, err := newnetwork.Create(ctx, admin, newnetwork.Options{Name: "Demo network", WindowsRoom: true})
	if err != nil {
		return nil, fmt.Errorf("make the network: %w", err)
	}
	d.state.Space = space.String()
	return admin, d.state.save()
}

// admitLimit is how long a window may take to join the network. admitPoll is how often the demonstration looks whether it has.
const (
	admitLimit = time.Minute
	admitPoll  = 50 * time.Millisecond
)

// windowsRoom is the room into which windows and hubs are invited. It is the Space if the demonstration's data are of an earlier version.
func (d *demo) windowsRoom(ctx context.Context, admin *mautrix.Client) (id.RoomID, error) {
	space := id.RoomID(d.state.Space)
	room, err := newnetwork.WindowsRoom(ctx, admin, space)
	if err != nil {
		return "", fmt.Errorf("look into the network: %w", err)
	}
	if room == "" {
		room = space
	}
	return room, nil
}

// hubAccount is the name of a hub's account.
var hubAccount = config.Default().Hub.Account.Username

// inviteHubs invites the hubs' accounts into the network, one after the other, and waits until they are there.
func (d *demo) inviteHubs(ctx context.Context, admin *mautrix.Client) error {
	room, err := d.windowsRoom(ctx, admin)
	if err != nil {
		return err
	}
	for i := range d.state.Windows {
		p := &d.state.Windows[i]
		user := id.NewUserID(hubAccount, p.serverName())
		if err := admit(ctx, admin, room, user, room, func(state mautrix.RoomStateMap) bool {
			return membership(state, user) == event.MembershipJoin
		}); err != nil {
			return fmt.Errorf("the hub of %s does not come into the network (%w): its log is in %s", p.Name, err, p.folder)
		}
	}
	return nil
}

// invite invites the windows into the network, which is all that an admin has to do. It invites one window after the other, as a person does: if
// a server joins a room while another event is sent there, Dendrite may never get the room's state.
func (d *demo) invite(ctx context.Context, admin *mautrix.Client) error {
	room, err := d.windowsRoom(ctx, admin)
	if err != nil {
		return err
	}
	for _, p := range d.state.Windows {
		user := id.UserID(p.userID())
		if err := admit(ctx, admin, room, user, id.RoomID(d.state.Space), func(state mautrix.RoomStateMap) bool {
			for _, child := range state[event.StateSpaceChild] { // the window has listed its room
				if child.Sender == user && len(child.Content.AsSpaceChild().Via) > 0 {
					return true
				}
			}
			return false
		}); err != nil {
			return fmt.Errorf("%s does not come into the network (%w): its log is in %s", p.Name, err, p.folder)
		}
	}
	return nil
}

// membership is a user's membership of a room with this state, "" for none.
func membership(state mautrix.RoomStateMap, user id.UserID) event.Membership {
	member := state[event.StateMember][user.String()]
	if member == nil {
		return ""
	}
	return member.Content.AsMember().Membership
}

// admit invites an account into a room, unless it was invited before, and waits until the state of another room says that the account has come.
func admit(ctx context.Context, admin *mautrix.Client, room id.RoomID, user id.UserID, where id.RoomID, came func(mautrix.RoomStateMap) bool) error {
	ctx, cancel := context.WithTimeout(ctx, admitLimit)
	defer cancel()
	state, err := admin.State(ctx, room)
	if err != nil {
		return fmt.Errorf("look into the network: %w", err)
	}
	if in := membership(state, user); in == "" || in == event.MembershipLeave {
		if _, err := admin.InviteUser(ctx, room, &mautrix.ReqInviteUser{UserID: user}); err != nil {
			return fmt.Errorf("invite it: %w", err)
		}
	}
	for {
		state, err := admin.State(ctx, where)
		if err == nil && came(state) {
			return nil
		}
		select {
		case <-time.After(admitPoll):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// list prints the addresses and the admin's account.
func (d *demo) list() error {
	addresses := make([]string, len(d.state.Windows))
	for i := range d.state.Windows {
		p := &d.state.Windows[i]
		key, err := kiosk.ReadKey(p.dataDir())
		if err != nil {
			return err
		}
		addresses[i] = kiosk.Address(p.pageHost(), key)
	}
	d.printing.Lock()
	defer d.printing.Unlock()
	fmt.Fprintln(d.out)
	for i, p := range d.state.Windows {
		fmt.Fprintf(d.out, "  %-8s %s\n", p.Name, addresses[i])
	}
	host := &d.state.Windows[0]
	fmt.Fprintf(d.out, "  %-8s account @%s:%s, password %s, homeserver %s\n", "Element", d.state.Admin, host.serverName(), d.state.Password, host.local())
	after := "kept"
	if !d.kept {
		after = "removed at the end; --data DIR keeps it"
	}
	fmt.Fprintf(d.out, "  %-8s %s (%s)\n\n", "Data", d.folder, after)
	if !d.open {
		fmt.Fprint(d.out, "Open both pages and press each once. ")
	}
	fmt.Fprint(d.out, "Ctrl-C ends everything.\n\n")
	return nil
}
