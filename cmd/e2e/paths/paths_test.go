//go:build full

package paths_test

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"multifactorymodel.org/ewindow/cmd/e2e/page"
	"multifactorymodel.org/ewindow/cmd/e2e/paths"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

const (
	openLimit  = 45 * time.Second // from opening to both pictures, on a machine that is busy with other tests
	backLimit  = 60 * time.Second // from a change of address to both pictures
	stay       = 4 * time.Second  // how long both must show moving pictures
	maxUnseen  = 60               // pictures that the other sends, of 30 in a second, while none comes; then the page counts the picture as frozen
	gap        = time.Second      // between two pictures: a longer gap shows the effect of a changed address
	settleTime = 5 * time.Second  // without such a gap: then the effect is over
)

// TestNameOfNothing visits in a network whose homeserver has a name that leads to nothing. Only users of other homeservers would need it.
func TestNameOfNothing(t *testing.T) {
	v := startVisit(t, world{serverName: "workshops.invalid"})
	v.open(t)
	v.staysConnected(t, stay, 0, nil)
}

// TestPaths opens a window between two kiosks over difficult networks. Each scenario logs the route that media took, and the time from opening to
// the first picture.
func TestPaths(t *testing.T) {
	v := startVisit(t, world{})
	near := v.Sides[0]
	// LiveKit must not listen at the second address. If it did, it would answer from either address by chance.
	if conn, err := v.Hub.ListenPacket(fmt.Sprintf("%s:%d", paths.OtherIP, paths.SFUUDP)); err != nil {
		t.Errorf("LiveKit listens at an address that the hub does not announce: %v", err)
	} else {
		_ = conn.Close()
	}
	lossy := func(loss float64, delay time.Duration) func(testing.TB) {
		return func(testing.TB) { near.Link.Set(loss, delay) }
	}
	tcp := []paths.Route{paths.TurnTCP, paths.TurnTLS, paths.ICETCP}
	for _, s := range []struct {
		name   string
		impair func(testing.TB) // sets the network's difficulty
		routes []paths.Route    // routes that the first kiosk's media may take; nil: any
		stay   time.Duration
		change func(testing.TB) // happens during the visit
		again  bool             // a second visit follows at once
		side   int              // whose network is difficult and whose routes are checked
		after  []paths.Route    // routes after the change; nil: as before
	}{
		{name: "symmetric NATs", stay: stay},
		{name: "no UDP", stay: stay, impair: func(t testing.TB) { near.SetFirewall(t, paths.NoUDP) },
			routes: []paths.Route{paths.TurnTCP, paths.TurnTLS, paths.ICETCP}},
		{name: "TCP 443 alone", stay: stay, impair: func(t testing.TB) { near.SetFirewall(t, paths.Only443) },
			routes: []paths.Route{paths.TurnTLS}, again: true},
		{name: "1 % loss, 80 ms there and back", stay: 2 * stay, impair: lossy(0.01, 40*time.Millisecond)},
		{name: "5 % loss, 80 ms there and back", stay: 2 * stay, impair: lossy(0.05, 40*time.Millisecond)},
		{name: "5 % loss, 80 ms each way", stay: 2 * stay, impair: lossy(0.05, 80*time.Millisecond)},
		{name: "MTU 1280", stay: stay, impair: func(t testing.TB) { near.SetMTU(t, 1280) }},
		{name: "another address", stay: stay / 2, change: near.ChangeAddress},
		{name: "another uplink", stay: stay / 2, change: near.ChangeUplink},
		// The flood takes a core, so nobody else may visit meanwhile. It is the last, because it may wait for that.
		{name: "the relay alone, flooded", stay: 2 * stay, routes: []paths.Route{paths.TurnUDP}, impair: func(t testing.TB) {
			rig.Exclusive(t)
			near.SetFirewall(t, paths.NoSFU)
			v.flood(t)
		}},
		// A kiosk that has lost UDP in this way uses TCP for an hour. So these are the last ones of their sides.
		{name: "UDP forgotten every 3 s", stay: stay / 2, change: func(testing.TB) { near.Link.SetMapping(3 * time.Second) }, after: tcp, again: true},
		{name: "UDP forgotten every 200 ms", stay: stay, side: 1, routes: tcp, impair: func(testing.TB) { v.Sides[1].Link.SetMapping(200 * time.Millisecond) }},
	} {
		t.Run(s.name, func(t *testing.T) {
			defer v.repair(t)
			if s.impair != nil {
				s.impair(t)
			}
			defer v.shut(t)
			lost, passed := near.Link.Lost(), near.Link.Passed()
			all, marked := near.Link.Marked()
			v.open(t)
			v.staysConnected(t, s.stay, s.side, s.routes)
			// pion makes TCP connections to the SFU itself: their packets have no mark.
			if now, with := near.Link.Marked(); !slices.Contains(s.routes, paths.ICETCP) && 2*(with-marked) < now-all {
				t.Errorf("%d of %d packets have the mark of interactive pictures", with-marked, now-all)
			}
			if lost, passed := near.Link.Lost()-lost, near.Link.Passed()-passed; lost > 0 {
				t.Logf("the line lost %d of %d datagrams", lost, lost+passed)
			}
			if s.change != nil {
				v.recovers(t, s.change)
				if s.after != nil {
					s.routes = s.after
				}
				v.staysConnected(t, stay, s.side, s.routes)
			}
			if s.again { // connection attempts of the first visit, which the firewall drops, must not delay the second one
				v.shut(t)
				v.open(t)
				v.staysConnected(t, stay/2, s.side, s.routes)
			}
		})
	}
}

// flood sends forged Allocate requests to the relay until the test ends: 10,000 a second from 400 source addresses.
func (v *visit) flood(t testing.TB) {
	t.Helper()
	var sources []*net.UDPConn
	for i := range 400 {
		conn, err := v.Hub.ListenPacket(fmt.Sprintf("127.1.%d.%d:0", i>>8, i&255))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, conn)
	}
	relay := &net.UDPAddr{IP: net.ParseIP(paths.HubIP), Port: paths.TurnPort}
	allocate := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), stun.RawAttribute{
		Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0},
	}).Raw
	_ = sources[0].SetReadDeadline(time.Now().Add(answerLimit))
	if _, err := sources[0].WriteToUDP(allocate, relay); err != nil {
		t.Fatal(err)
	}
	if _, err := sources[0].Read(make([]byte, 1500)); err != nil { // it gets there
		t.Fatal(err)
	}
	sent, failed := 0, 0
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for {
			for _, conn := range sources {
				if _, err := conn.WriteToUDP(allocate, relay); err != nil {
					failed++
				} else {
					sent++
				}
			}
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() {
		close(end)
		<-ended
		for _, conn := range sources {
			_ = conn.Close()
		}
		if t.Logf("%d forged Allocate requests were sent, %d could not be sent", sent, failed); sent == 0 {
			t.Error("no forged request was sent")
		}
	})
}

// repair removes the network's difficulties.
func (v *visit) repair(t *testing.T) {
	t.Helper()
	for _, s := range v.Sides {
		s.SetFirewall(t, "")
		s.SetMTU(t, 1500)
		s.Link.Set(0, 0)
		s.Link.SetMapping(0)
	}
}

// open opens both windows, one after the other, and waits until both show the other's picture.
func (v *visit) open(t *testing.T) {
	t.Helper()
	host, guest := v.pages[1], v.pages[0]
	host.Command(t, "open")
	host.Await(t, openLimit, "the open window", func(r page.Report) bool { return r.Screen == "alone" })
	guest.Await(t, openLimit, "the open window of the other", func(r page.Report) bool { return len(r.Open) == 1 })
	guest.Command(t, "open")
	var reports [2]page.Report
	for i, p := range v.pages {
		reports[i] = p.Await(t, openLimit, "the visit", func(r page.Report) bool { return r.Screen == "visit" && !r.First.IsZero() })
	}
	opened := reports[0].Pressed
	t.Logf("first picture after opening: %s after %.2f s, %s after %.2f s", windows[0], reports[0].First.Sub(opened).Seconds(),
		windows[1], reports[1].First.Sub(opened).Seconds())
}

// shut shuts both windows and waits until each knows that the other is shut.
func (v *visit) shut(t *testing.T) {
	t.Helper()
	for _, p := range v.pages {
		p.Command(t, "shut")
	}
	for _, p := range v.pages {
		p.Await(t, openLimit, "the shut window", func(r page.Report) bool { return r.Screen == "shut" && r.Shutter == "shut" && len(r.Open) == 0 })
	}
}

// staysConnected checks that both windows stay in the visit for a while, and that each receives at least two of three pictures that the other sends,
// without a gap of maxUnseen. It logs the routes of media. At one kiosk, that of side, the route must be one of allowed; nil allows all.
func (v *visit) staysConnected(t *testing.T, limit time.Duration, side int, allowed []paths.Route) {
	t.Helper()
	var before [2]paths.Traffic
	var begun [2]page.Report
	for i, p := range v.pages {
		p.Command(t, "gap")
		before[i], begun[i] = v.Sides[i].Traffic(t), p.Report()
	}
	at := time.Now()
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var latest [2]struct{ received, sent uint64 } // how many pictures a page had received, and the other had sent, when the latest one came
	for i := range latest {
		latest[i].received, latest[i].sent = begun[i].Pictures, begun[1-i].Sent
	}
	for over := false; !over; {
		select {
		case <-end.C:
			over = true
		case <-tick.C:
		}
		for i, p := range v.pages {
			r, sent := p.Report(), v.pages[1-i].Report().Sent
			if r.Pictures > latest[i].received {
				latest[i].received, latest[i].sent = r.Pictures, sent
			}
			if r.Screen != "visit" || sent > latest[i].sent+maxUnseen {
				t.Fatalf("%s does not see the other any more, %.1f s after it did: %+v", p.Name, time.Since(at).Seconds(), r)
			}
		}
	}
	now := [2]page.Report{v.pages[0].Report(), v.pages[1].Report()}
	for i, p := range v.pages {
		r, traffic := now[i], v.Sides[i].Traffic(t).Since(before[i])
		sent, received := now[1-i].Sent-begun[1-i].Sent, r.Pictures-begun[i].Pictures
		seconds := time.Since(at).Seconds()
		t.Logf("%s: %s; %d of %d pictures and %.0f sounds a second, longest gap %.2f s", p.Name, traffic, received, sent,
			float64(r.Sounds-begun[i].Sounds)/seconds, r.Gap.Seconds())
		if 3*received < 2*sent {
			t.Errorf("%s received %d pictures while the other sent %d", p.Name, received, sent)
		}
		if r.Broken != begun[i].Broken {
			t.Errorf("%s received %d pictures that differ from all pictures that were sent", p.Name, r.Broken-begun[i].Broken)
		}
		if i != side || len(allowed) == 0 {
			continue
		}
		up, down := traffic.Media()
		for _, route := range []paths.Route{up, down} {
			if !slices.Contains(allowed, route) {
				t.Errorf("%s's media goes by %q, not by one of %q", p.Name, route, allowed)
			}
		}
	}
}

// recovers changes something during the visit and waits until both windows show moving pictures. It logs how long the pictures froze.
func (v *visit) recovers(t *testing.T, change func(testing.TB)) {
	t.Helper()
	for _, p := range v.pages {
		p.Command(t, "gap")
	}
	change(t)
	changed := time.Now()
	settled := changed
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(settled) < settleTime {
		<-tick.C
		for _, p := range v.pages {
			if r := p.Report(); r.Screen != "visit" || time.Since(r.Last) > gap {
				settled = time.Now()
			}
		}
		if time.Since(changed) > backLimit {
			t.Fatalf("the visit is not back %v after the change: %+v, %+v", backLimit, v.pages[0].Report(), v.pages[1].Report())
		}
	}
	for _, p := range v.pages {
		t.Logf("%s: the picture froze for %.2f s", p.Name, p.Report().Gap.Seconds())
	}
}
