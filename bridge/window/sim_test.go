package window

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// The simulation runs the rules of several windows against each other. States and memberships arrive after delays, media takes a moment to
// connect, and pictures arrive while their sender sends.
const (
	simTick    = 50 * time.Millisecond
	mediaDelay = 700 * time.Millisecond // from entering a call until frames can flow
	frameDelay = 100 * time.Millisecond
)

type simNode struct {
	room   id.RoomID
	m      *Rules
	plan   Plan
	alive  bool
	cutOff bool // its media is cut off
	let    bool // somebody at this ajar window has let somebody in

	guests map[id.UserID]time.Time // in its own call, since when
	got    ledger

	inCall   id.RoomID
	since    time.Time // in that call
	told     directory.State
	state    map[id.RoomID]directory.Window        // what it knows
	calls    map[id.RoomID]map[id.RoomID]time.Time // what it knows: who is in which call, since when
	lastSeen map[id.RoomID]time.Time
}

type sim struct {
	t          *testing.T
	now        time.Time
	rnd        *rand.Rand
	delay      func() time.Duration
	nodes      []*simNode
	deliveries []simDelivery
	ways       map[[2]id.RoomID]time.Time
}

type simDelivery struct {
	at time.Time
	do func()
}

func newSim(t *testing.T, seed uint64, delay func(*rand.Rand) time.Duration, rooms ...id.RoomID) *sim {
	s := &sim{t: t, now: epoch, rnd: rand.New(rand.NewPCG(seed, 1)), ways: make(map[[2]id.RoomID]time.Time)}
	s.delay = func() time.Duration { return delay(s.rnd) }
	for _, room := range rooms {
		n := &simNode{
			room: room, m: New(testCountdown, maxPictures), alive: true, state: make(map[id.RoomID]directory.Window),
			calls: make(map[id.RoomID]map[id.RoomID]time.Time), lastSeen: make(map[id.RoomID]time.Time),
		}
		n.m.SetPage(s.now, true)
		s.nodes = append(s.nodes, n)
		for _, other := range rooms {
			if other != room {
				n.state[other] = windowOf(other, directory.Shut, epoch)
			}
		}
		n.read()
	}
	return s
}

// read gives the rules what the node knows.
func (n *simNode) read() {
	var windows []directory.Window
	for _, w := range n.state {
		windows = append(windows, w)
	}
	slices.SortFunc(windows, func(a, b directory.Window) int { return a.Since.Compare(b.Since.Time) })
	n.m.SetDirectory(n.room, true, windows)
	for call, members := range n.calls {
		var order []id.RoomID
		for who := range members {
			order = append(order, who)
		}
		slices.SortFunc(order, func(a, b id.RoomID) int { return members[a].Compare(members[b]) })
		list := make([]Member, 0, len(order))
		for _, who := range order {
			list = append(list, kioskIn(who))
		}
		n.m.SetMembers(call, append(list, n.guestMembers(call)...))
	}
	if n.calls[n.room] == nil {
		n.m.SetMembers(n.room, n.guestMembers(n.room))
	}
}

func (n *simNode) guestMembers(call id.RoomID) (list []Member) {
	for user, since := range n.guests {
		if call == n.room {
			member := memberOf(user)
			member.Created = since
			list = append(list, member)
		}
	}
	slices.SortFunc(list, func(a, b Member) int { return a.Created.Compare(b.Created) })
	return list
}

// post delivers something after a delay. Things that are sent from one node to another arrive in order, as in a Matrix room.
func (s *sim) post(from, to *simNode, do func()) {
	way := [2]id.RoomID{from.room, to.room}
	s.ways[way] = later(s.ways[way], s.now.Add(s.delay()))
	s.deliveries = append(s.deliveries, simDelivery{s.ways[way], do})
}

func (s *sim) node(room id.RoomID) *simNode {
	i := slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.room == room })
	return s.nodes[i]
}

func (s *sim) open(room id.RoomID) { s.node(room).m.SetShutter(s.now, directory.Open) }
func (s *sim) shut(room id.RoomID) { s.node(room).m.SetShutter(s.now, directory.Shut) }

// die is a power cut: the membership ends after 18 seconds (MSC4140), the window's state stays.
func (s *sim) die(room id.RoomID) {
	n := s.node(room)
	n.alive = false
	call := n.inCall
	n.inCall = ""
	s.deliveries = append(s.deliveries, simDelivery{s.now.Add(18 * time.Second), func() { s.membership(n, call, false) }})
}

func (s *sim) membership(n *simNode, call id.RoomID, in bool) {
	for _, other := range s.nodes {
		if other == n {
			continue
		}
		since := s.now
		s.post(n, other, func() {
			if other.calls[call] == nil {
				other.calls[call] = make(map[id.RoomID]time.Time)
			}
			if delete(other.calls[call], n.room); in {
				other.calls[call][n.room] = since
			}
			other.read()
		})
	}
}

// act does what a node's plan says.
func (s *sim) act(n *simNode) {
	n.plan = decide(n.m, s.now)
	p := n.plan
	if n.m.shutter == directory.Shut && (p.Send || p.Camera || p.Room != "" || p.View.Camera || p.Announce.Shutter != directory.Shut) {
		s.t.Fatalf("%s is shut, and yet %+v", n.room, p)
	}
	if n.m.shutter == directory.Ajar && p.Room != "" && !n.let {
		s.t.Fatalf("%s let nobody in, and yet %+v", n.room, p)
	}
	if p.Room == "" {
		n.let = false
	}
	if p.Room != n.inCall {
		if n.inCall != "" {
			s.membership(n, n.inCall, false)
		}
		n.inCall, n.since = p.Room, s.now
		clear(n.lastSeen)
		if p.Room != "" {
			s.membership(n, p.Room, true)
		}
	}
	if p.Announce != n.told {
		n.told = p.Announce
		told := p.Announce
		for _, other := range s.nodes {
			if other == n {
				continue
			}
			s.post(n, other, func() {
				w := windowOf(n.room, told.Shutter, told.Since)
				w.Facing = told.Facing
				other.state[n.room] = w
				other.read()
			})
		}
	}
}

// cut cuts off n's media, or restores them.
func (s *sim) cut(n *simNode, cutOff bool) {
	if n.cutOff == cutOff {
		return
	}
	n.cutOff = cutOff
	switch v := n.m.visit; {
	case v == nil:
	case cutOff:
		v.focusLost(s.now)
	default:
		v.focusConnected(s.now)
	}
}

// media gives n the pictures that others send.
func (s *sim) media(n *simNode) {
	v := n.m.visit
	if v == nil || n.inCall == "" {
		return
	}
	if v.number != n.plan.Visit {
		return
	}
	for _, other := range s.nodes {
		if other == n {
			continue
		}
		identity := kioskIn(other.room).Identity
		shown := slices.ContainsFunc(n.plan.Members, func(m Member) bool { return m.Identity == identity })
		connected := other.alive && !other.cutOff && !n.cutOff && other.inCall == n.inCall && s.now.Sub(other.since) > mediaDelay &&
			s.now.Sub(n.since) > mediaDelay && shown
		r := v.remotes[identity]
		if up := connected; up != (r != nil && r.up) {
			if up {
				v.remoteCamera(s.now, identity, 0, true, !other.plan.Camera)
			} else if r != nil {
				v.remoteCamera(s.now, identity, 0, false, false)
			}
			r = v.remotes[identity]
		}
		if r == nil || !r.up {
			continue
		}
		r.muted = !other.plan.Camera
		if other.plan.Send {
			n.lastSeen[other.room] = s.now.Add(frameDelay)
		}
		last, ever := n.lastSeen[other.room]
		v.remotePicture(identity, 0, ever && !s.now.Before(last.Add(-frameDelay)) && s.now.Sub(last) < PictureGrace)
	}
}

func (s *sim) tick() {
	s.now = s.now.Add(simTick)
	due := s.deliveries
	s.deliveries = nil
	slices.SortStableFunc(due, func(a, b simDelivery) int { return a.at.Compare(b.at) })
	for _, delivery := range due {
		if delivery.at.After(s.now) {
			s.deliveries = append(s.deliveries, delivery)
			continue
		}
		delivery.do()
	}
	for _, n := range s.nodes {
		if n.alive {
			s.media(n)
			s.act(n)
			if user := n.got.note(n.m, n.plan, s.now, s.now.Add(simTick)); user != "" {
				s.t.Fatalf("%s gets too much of the picture of %s without being seen", user, n.room)
			}
		}
	}
}

func (s *sim) run(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.tick()
	}
}

// until runs until both see each other, and returns how long it took.
func (s *sim) until(limit time.Duration, a, b id.RoomID) time.Duration {
	s.t.Helper()
	begin := s.now
	for s.now.Sub(begin) < limit {
		s.tick()
		if s.sees(a, b) && s.sees(b, a) {
			return s.now.Sub(begin)
		}
	}
	for _, n := range s.nodes {
		s.t.Logf("%s: call %s, peer %s, screen %s, sends %t, alone %t", n.room, n.plan.Room, n.plan.Peer, n.plan.View.Screen,
			n.plan.Send, n.m.visit != nil && n.m.visit.alone)
	}
	s.t.Fatalf("%s and %s do not see each other after %v", a, b, limit)
	return 0
}

func (s *sim) sees(a, b id.RoomID) bool {
	n := s.node(a)
	return n.plan.View.Screen == "visit" && n.plan.Peer == b
}

func upTo(d time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(d) + 1)) }
}

// TestTwoMeet: two windows that open within seconds of each other meet, in both orders and with any delays of their states.
func TestTwoMeet(t *testing.T) {
	longest := time.Duration(0)
	for seed := range uint64(120) {
		s := newSim(t, seed, upTo(3*time.Second), dresden, munich)
		s.run(time.Second)
		first, second := dresden, munich
		if seed%2 == 1 {
			first, second = second, first
		}
		s.open(first)
		if seed%3 != 0 { // every third pair opens in the same millisecond
			s.run(time.Duration(s.rnd.Int64N(int64(4 * time.Second))))
		}
		s.open(second)
		longest = max(longest, s.until(25*time.Second, dresden, munich))
		s.run(30 * time.Second)
		if !s.sees(dresden, munich) || !s.sees(munich, dresden) {
			t.Fatalf("seed %d: they did not stay together", seed)
		}
		s.shut(first)
		s.run(5 * time.Second)
		if n := s.node(second); n.plan.View.Screen != "alone" && n.plan.View.Screen != "lost" || n.plan.Send {
			t.Fatalf("seed %d: after the other has shut: %+v", seed, n.plan.View)
		}
	}
	t.Logf("the slowest pair took %v", longest)
}

// TestReopen: both shut and open again and again, so that each often acts on an old state of the other.
func TestReopen(t *testing.T) {
	for seed := range uint64(80) {
		s := newSim(t, seed, upTo(2*time.Second), dresden, munich)
		for range 12 {
			room := []id.RoomID{dresden, munich}[s.rnd.IntN(2)]
			if s.rnd.IntN(2) == 0 {
				s.open(room)
			} else {
				s.shut(room)
			}
			s.run(time.Duration(s.rnd.Int64N(int64(2 * time.Second))))
		}
		s.open(dresden)
		s.open(munich)
		s.until(45*time.Second, dresden, munich)
	}
}

// TestThreeWindows: two of three meet and stay together; when one shuts, the two that are left meet.
func TestThreeWindows(t *testing.T) {
	for seed := range uint64(80) {
		s := newSim(t, seed, upTo(time.Second), dresden, munich, bolzano)
		rooms := []id.RoomID{dresden, munich, bolzano}
		s.rnd.Shuffle(3, func(i, j int) { rooms[i], rooms[j] = rooms[j], rooms[i] })
		for _, room := range rooms {
			s.open(room)
			s.run(time.Duration(s.rnd.Int64N(int64(3 * time.Second))))
		}
		pair := func() (together []id.RoomID) {
			for _, a := range rooms {
				for _, b := range rooms {
					if a < b && s.sees(a, b) && s.sees(b, a) {
						together = append(together, a, b)
					}
				}
			}
			return together
		}
		var first []id.RoomID
		for begin := s.now; len(first) == 0; s.tick() {
			if first = pair(); s.now.Sub(begin) > 40*time.Second {
				t.Fatalf("seed %d: nobody meets", seed)
			}
		}
		s.run(20 * time.Second)
		if again := pair(); !slices.Equal(first, again) {
			t.Fatalf("seed %d: %v did not stay together, now %v", seed, first, again)
		}
		var third id.RoomID
		for _, room := range rooms {
			if !slices.Contains(first, room) {
				third = room
			}
		}
		if s.node(third).plan.Send {
			t.Fatalf("seed %d: the third sends", seed)
		}
		gone := first[s.rnd.IntN(2)]
		s.shut(gone)
		left := slices.DeleteFunc(slices.Clone(rooms), func(r id.RoomID) bool { return r == gone })
		s.until(45*time.Second, left[0], left[1])
	}
}

// TestDeadWindow: one window has lost its power while it was open. That costs the others little time.
func TestDeadWindow(t *testing.T) {
	for seed := range uint64(50) {
		s := newSim(t, seed, upTo(time.Second), dresden, munich, bolzano)
		s.open(bolzano)
		s.run(5 * time.Second)
		s.die(bolzano)
		s.run(time.Minute)
		s.open(dresden)
		s.run(time.Duration(s.rnd.Int64N(int64(20 * time.Second))))
		s.open(munich)
		if took := s.until(answerWait+15*time.Second, dresden, munich); took > answerWait+12*time.Second {
			t.Fatalf("seed %d: it took %v", seed, took)
		}
	}
}

// TestMediaOutage: the SFU is lost for a while, for both or for one of them. Both stop sending, and see each other soon after it is back.
func TestMediaOutage(t *testing.T) {
	for seed := range uint64(50) {
		s := newSim(t, seed, upTo(500*time.Millisecond), dresden, munich)
		s.open(dresden)
		s.run(time.Second)
		s.open(munich)
		s.until(20*time.Second, dresden, munich)
		for i := range 3 {
			// The third time only the frames stop, and the media side reports nothing.
			for _, n := range s.nodes[:2-i] {
				s.cut(n, true)
			}
			cut := s.now.Add(time.Second + time.Duration(s.rnd.Int64N(int64(39*time.Second))))
			for s.now.Before(cut) {
				s.tick()
				if i == 2 {
					for _, n := range s.nodes {
						clear(n.lastSeen)
					}
				}
			}
			for _, n := range s.nodes {
				s.cut(n, false)
			}
			limit := 3 * time.Second
			if i == 2 {
				limit = 2 * trialEvery
			}
			s.until(limit, dresden, munich)
		}
	}
}

// TestRestart: a kiosk in a visit loses its power and comes back open, since its page remembers that.
func TestRestart(t *testing.T) {
	for seed := range uint64(50) {
		s := newSim(t, seed, upTo(time.Second), dresden, munich)
		s.open(dresden)
		s.run(time.Duration(s.rnd.Int64N(int64(2 * time.Second))))
		s.open(munich)
		s.until(25*time.Second, dresden, munich)
		victim := []id.RoomID{dresden, munich}[seed%2]
		s.die(victim)
		s.run(time.Duration(s.rnd.Int64N(int64(90 * time.Second))))
		n := s.node(victim)
		known, calls := n.state, n.calls
		*n = simNode{
			room: victim, m: New(testCountdown, maxPictures), alive: true, state: known, calls: calls, lastSeen: make(map[id.RoomID]time.Time),
		}
		n.m.SetPage(s.now, true)
		n.read()
		s.open(victim)
		s.until(60*time.Second, dresden, munich)
	}
}

// TestEverythingAtRandom presses buttons, breaks cameras, pages, media and power. Whatever happens, a shut window shows and sends
// nothing (act checks that), nothing is sent for long while nobody is seen, and in the end the two meet.
func TestEverythingAtRandom(t *testing.T) {
	for seed := range uint64(60) {
		s := newSim(t, seed, upTo(1500*time.Millisecond), dresden, munich, bolzano)
		unseen := make(map[id.RoomID]time.Duration)
		visit := make(map[id.RoomID]uint64)
		for range 60 {
			n := s.nodes[s.rnd.IntN(3)]
			switch s.rnd.IntN(9) {
			case 0, 1:
				s.open(n.room)
			case 2:
				s.shut(n.room)
			case 3:
				n.m.SetCamera(s.now, "fault", "busy")
			case 4:
				n.m.SetCamera(s.now, "on", "")
			case 5:
				n.m.SetPage(s.now, s.rnd.IntN(2) == 0)
			case 6:
				s.cut(n, !n.cutOff)
			case 7:
				if n.m.visit != nil {
					n.m.CallFailed(s.now, n.m.visit.room)
				}
			case 8:
				n.m.Choose(s.nodes[s.rnd.IntN(3)].room)
			}
			for end := s.now.Add(time.Duration(s.rnd.Int64N(int64(6 * time.Second)))); s.now.Before(end); {
				s.tick()
				for _, n := range s.nodes {
					if n.plan.Visit != visit[n.room] {
						visit[n.room], unseen[n.room] = n.plan.Visit, 0
					}
					if n.plan.Send && !n.m.visit.picture() {
						unseen[n.room] += simTick
					}
					if c := n.m.visit; c != nil && unseen[n.room] > 2*PictureGrace+trialLength+s.now.Sub(c.started)/4 {
						t.Fatalf("seed %d: %s sent for %v of %v without seeing anybody", seed, n.room, unseen[n.room], s.now.Sub(c.started))
					}
				}
			}
		}
		for _, n := range s.nodes {
			s.cut(n, false)
			n.m.SetCamera(s.now, "on", "")
			n.m.SetPage(s.now, true)
		}
		s.shut(bolzano)
		s.shut(dresden)
		s.run(5 * time.Second)
		s.open(dresden)
		s.open(munich)
		s.until(60*time.Second, dresden, munich)
	}
}

// TestKnocksAtRandom lets guests come, ring and go at windows that are opened, set ajar and shut. act checks that nobody is in a call without
// being let in. This test checks that each knock is answered within a minute, and that each notification is declined at most once.
func TestKnocksAtRandom(t *testing.T) {
	for seed := range uint64(30) {
		s := newSim(t, seed, upTo(1500*time.Millisecond), dresden, munich)
		n := s.node(dresden)
		n.guests = make(map[id.UserID]time.Time)
		declined := make(map[id.EventID]int)
		rings := 0
		for range 60 {
			user := []id.UserID{guest, ben, "@cem:x"}[s.rnd.IntN(3)]
			switch s.rnd.IntN(10) {
			case 0:
				s.open(dresden)
			case 1:
				s.shut(dresden)
			case 2, 3:
				n.m.SetShutter(s.now, directory.Ajar)
			case 4, 5:
				n.guests[user] = s.now
			case 6:
				delete(n.guests, user)
			case 7:
				rings++
				n.m.CallNotification(s.now, dresden, user, id.EventID(fmt.Sprint("$", rings)), s.now.Add(30*time.Second))
			case 8:
				if k := n.m.knocks.waiting(); k != nil {
					in := s.rnd.IntN(2) == 0
					n.let = n.let || in && n.m.shutter == directory.Ajar && s.now.Sub(k.shown) >= knockGuard
					n.m.AnswerKnock(s.now, k.id, in)
				}
			case 9:
				s.node(munich).m.SetShutter(s.now, []directory.Shutter{directory.Open, directory.Shut}[s.rnd.IntN(2)])
			}
			n.read()
			for end := s.now.Add(time.Duration(s.rnd.Int64N(int64(20 * time.Second)))); s.now.Before(end); {
				s.tick()
				for _, e := range n.m.TakeMessages() {
					if declined[e.Decline]++; e.Decline != "" && declined[e.Decline] > 1 {
						t.Fatalf("seed %d: %s is declined twice", seed, e.Decline)
					}
				}
				for _, k := range n.m.knocks.list {
					if k.state == knockWaits && (s.now.After(k.until) || n.m.shutter != directory.Ajar) {
						t.Fatalf("seed %d: a knock waits although the window is %s: %+v", seed, n.m.shutter, k)
					}
				}
			}
		}
	}
}
