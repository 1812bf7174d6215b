//go:build full

package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/cmd/e2e/element"
	"multifactorymodel.org/ewindow/cmd/e2e/page"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
	"multifactorymodel.org/ewindow/cmd/e2e/synthetic"
	"multifactorymodel.org/ewindow/migrations"
)

// lurker is a member of the network with a program of their own. It joins calls with a confirmed device, gets media keys and decrypts what it can.
// It shows nothing.
type lurker struct {
	t       *testing.T
	bot     *bot.Bot
	manager *rtc.Manager
	local   *synthetic.Page

	mu      sync.Mutex // guards what follows
	members map[id.RoomID][]rtc.Member
	call    *rtc.Call
	session *callmedia.Session
	keys    []rtc.Event // that came before the session
}

// newLurker starts a member's program.
func newLurker(n *demoNetwork, account element.Account) *lurker {
	t := n.t.(*testing.T)
	t.Helper()
	l := &lurker{t: t, members: make(map[id.RoomID][]rtc.Member)}
	folder, log := t.TempDir(), zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	db, err := migrations.OpenKiosk(t.Context(), filepath.Join(folder, "kiosk.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	l.bot, err = bot.New(bot.Config{HomeserverURL: account.Homeserver, Username: account.User, Password: account.Password, DB: db, DataDir: folder, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	l.manager, err = rtc.NewManager(rtc.Config{Bot: l.bot, DB: db, Log: log, OnMembers: l.handleMembers})
	if err != nil {
		t.Fatal(err)
	}
	if l.local, err = synthetic.New(); err != nil {
		t.Fatal(err)
	}
	if err := l.bot.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.bot.Run(ctx) })
	running.Go(func() { _ = l.manager.Run(ctx) })
	running.Go(func() { l.local.Run(ctx) })
	t.Cleanup(func() {
		l.leave()
		cancel()
		running.Wait()
		_ = db.Close()
	})
	return l
}

func (l *lurker) handleMembers(room id.RoomID, members []rtc.Member, _ []bot.Device) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.members[room] = members
	l.watch(room)
}

// watch receives everybody in the call, and gives them our keys. mu is held.
func (l *lurker) watch(room id.RoomID) {
	var remotes []callmedia.Remote
	var devices []bot.Device
	for _, m := range l.members[room] {
		remotes = append(remotes, callmedia.Remote{Identity: m.Identity, Service: m.Service})
		devices = append(devices, bot.Device{User: m.User, ID: m.Device})
	}
	if l.session != nil {
		l.session.SetRemotes(remotes)
	}
	if l.call != nil {
		l.call.SetRecipients(devices)
	}
}

// join joins a room's call with camera and microphone off.
func (l *lurker) join(room id.RoomID) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	call, err := l.manager.Join(room, rtc.JoinOptions{Intent: "video", OnEvent: func(e rtc.Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch e.Kind {
		case rtc.Transport:
			session, err := callmedia.NewSession(callmedia.SessionConfig{
				Local: l.local, Service: e.Service, Token: l.call.Token, AllowLoopback: true, PictureLimit: 5 * time.Second,
				OnEvent: func(callmedia.SessionEvent) {}, Counters: new(callmedia.Counters), Log: zerolog.Nop(),
			})
			if err == nil {
				err = session.Start(context.Background())
			}
			if err != nil {
				l.t.Errorf("the lurker's media: %v", err)
				return
			}
			l.session = session
			l.watch(room)
			for _, key := range l.keys {
				l.use(key)
			}
		case rtc.Key, rtc.UseKey:
			l.keys = append(l.keys, e)
			l.use(e)
		case rtc.Failed:
			l.t.Errorf("the lurker's call: %v", e.Err)
		}
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.call = call
	l.watch(room)
}

// use gives the session a key, if there is a session. mu is held.
func (l *lurker) use(e rtc.Event) {
	switch {
	case l.session == nil:
	case e.Kind == rtc.Key:
		l.session.SetKey(e.Identity, e.Index, e.Material)
	default:
		l.session.UseKey(e.Index, e.Material)
	}
}

// leave leaves the call.
func (l *lurker) leave() {
	l.mu.Lock()
	call, session := l.call, l.session
	l.call, l.session, l.keys = nil, nil, nil
	l.mu.Unlock()
	if session != nil {
		_ = session.Close()
	}
	if call != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = call.Leave(ctx)
	}
}

// pictures returns how many pictures of others were decrypted, by tile.
func (l *lurker) pictures() (counts [2]uint64) {
	for tile := range counts {
		_, counts[tile], _ = l.local.Shown(tile)
	}
	return counts
}

// TestUnseenMember: two windows see each other. A member joins their call and shows nothing. Each window's picture reaches her for fifteen seconds at
// most, although the other window is seen, and not again when she comes a second time. Both screens say so. When she shows herself, she sees both.
func TestUnseenMember(t *testing.T) {
	t.Parallel()
	n := startDemo(t, t.TempDir())
	n.await("know each other", time.Minute)
	room := id.RoomID(n.windowRooms()[1]) // Munich's
	pages := n.startPages()
	// The call is in the room of the window that opens first. Mallory's homeserver is that window's.
	pages[0].Command(t, "open")
	pages[1].Await(t, time.Minute, "Munich's open window", func(r page.Report) bool { return len(r.Open) == 1 })
	pages[1].Command(t, "open")
	visit := func(what string) {
		t.Helper()
		for _, p := range pages {
			before := p.Report()
			p.Await(t, time.Minute, what, func(r page.Report) bool { return r.Screen == "visit" && r.Pictures > before.Pictures+30 })
		}
	}
	visit("the visit")
	mallory := newLurker(n, n.registerAccount(0, "mallory"))
	if _, err := n.admin().InviteUser(t.Context(), id.RoomID(n.Space), &mautrix.ReqInviteUser{UserID: mallory.bot.UserID()}); err != nil {
		t.Fatal(err)
	}
	for _, joined := range []string{n.Space, room.String()} {
		if _, err := mallory.bot.Client().JoinRoom(t.Context(), joined, nil); err != nil {
			t.Fatal(err)
		}
	}
	rig.Eventually(t, time.Minute, func() error {
		mallory.mu.Lock()
		defer mallory.mu.Unlock()
		return rig.Check(len(mallory.members[room]) == 2, "the windows' call", mallory.members)
	})
	mallory.join(room)

	rig.Eventually(t, time.Minute, func() error {
		got := mallory.pictures()
		return rig.Check(got[0] > 0 && got[1] > 0, "pictures for mallory, who is named", got)
	})
	<-time.After(25 * time.Second)
	const most = 15 * 30 // a page makes 30 pictures a second
	before := mallory.pictures()
	for tile, got := range before {
		if got > most {
			t.Errorf("tile %d: somebody who shows nothing got %d pictures, and so more than %d", tile, got, most)
		}
		t.Logf("tile %d: %d pictures", tile, got)
	}
	for i, w := range n.Windows {
		if state, err := n.state(i); err != nil || !slices.Equal(state.Unseen, []string{"mallory"}) || state.Screen != "visit" {
			t.Errorf("%s shows %q, %q, %v", w.Name, state.Screen, state.Unseen, err)
		}
	}
	visit("the visit while mallory gets nothing")
	mallory.leave()
	rig.Eventually(t, time.Minute, func() error {
		state, err := n.state(0)
		return rig.Check(err == nil && len(state.Guests) == 0, "mallory's leaving", fmt.Sprint(state.Guests, err))
	})
	again := mallory.pictures()
	mallory.join(room)
	rig.Eventually(t, time.Minute, func() error {
		state, err := n.state(0)
		return rig.Check(err == nil && len(state.Unseen) == 1, "mallory's second visit", fmt.Sprint(state.Unseen, err))
	})
	<-time.After(5 * time.Second)
	if now := mallory.pictures(); now != again {
		t.Errorf("the second visit within an hour got pictures: %v, then %v", again, now)
	}

	// She shows herself.
	mallory.mu.Lock()
	mallory.session.SetCamera(true)
	mallory.session.SetSending(true)
	mallory.mu.Unlock()
	rig.Eventually(t, time.Minute, func() error {
		now := mallory.pictures()
		return rig.Check(now[0] > again[0]+30 && now[1] > again[1]+30, "pictures for somebody who is seen", now)
	})
	for i, w := range n.Windows {
		if state, err := n.state(i); err != nil || len(state.Unseen) > 0 {
			t.Errorf("%s shows %q, %v", w.Name, state.Unseen, err)
		}
	}
}
