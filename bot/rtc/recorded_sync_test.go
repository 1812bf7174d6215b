package rtc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/rtc/transport"
)

// recorded is a series of sync responses, with the members that the hall's call must have after each.
type recorded struct {
	About string `json:"about"`
	Steps []struct {
		At      int64    `json:"at_ms"` // since recordedAt
		What    string   `json:"what"`
		Sync    *synced  `json:"sync"`
		Members []string `json:"members"`
		Invalid *uint64  `json:"invalid"`
	} `json:"steps"`
}

// synced is the part of a sync response that the bot hands over.
type synced struct {
	Rooms struct {
		Join map[id.RoomID]struct {
			State, Timeline section
			Sticky          section `json:"msc4354_sticky"`
		} `json:"join"`
	} `json:"rooms"`
}

type section struct{ Events []*event.Event }

// recordedAt is when the responses in testdata begin.
var recordedAt = time.UnixMilli(1_793_000_000_000)

// hand gives a sync response to the manager, as the bot does.
func hand(m *Manager, s *synced) {
	for name, room := range s.Rooms.Join {
		for _, part := range []struct {
			events []*event.Event
			source event.Source
		}{{room.State.Events, event.SourceState}, {room.Sticky.Events, event.SourceSticky}, {room.Timeline.Events, event.SourceTimeline}} {
			for _, e := range part.events {
				e.RoomID, e.Mautrix.EventSource = name, event.SourceJoin|part.source
				m.handleEvent(e)
			}
		}
	}
}

// TestRecordedSync plays sync responses of homeservers with sticky events (MSC4354), which Dendrite does not have.
func TestRecordedSync(t *testing.T) {
	files, err := filepath.Glob("testdata/sync/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r recorded
			decoder := json.NewDecoder(bytes.NewReader(data))
			if err := decoder.Decode(&r); err != nil || len(r.Steps) == 0 {
				t.Fatalf("%d steps, %v", len(r.Steps), err)
			}
			synctest.Test(t, func(t *testing.T) {
				<-time.After(time.Until(recordedAt))
				play(t, &r)
			})
		})
	}
}

func play(t *testing.T, r *recorded) {
	b := newBench(t)
	created := make(map[string]time.Time)
	for _, step := range r.Steps {
		b.wait(time.Until(recordedAt.Add(time.Duration(step.At) * time.Millisecond)))
		if step.Sync != nil {
			hand(b.m, step.Sync)
		}
		synctest.Wait()
		var got []string
		now := make(map[string]time.Time)
		for _, m := range b.inCall() {
			name := describe(t, m, step.Members)
			got = append(got, name)
			now[name] = m.Created
			if before, ok := created[name]; ok && !before.Equal(m.Created) {
				t.Errorf("%d ms, %s: %s was created at %v, now at %v", step.At, step.What, name, before, m.Created)
			}
		}
		created = now
		if !slices.Equal(got, step.Members) {
			t.Fatalf("%d ms, %s: got\n%s\nwant\n%s", step.At, step.What, strings.Join(got, "\n"), strings.Join(step.Members, "\n"))
		}
		if s := b.m.Stats(); step.Invalid != nil && s.InvalidMembers != *step.Invalid {
			t.Fatalf("%d ms, %s: %d invalid members", step.At, step.What, s.InvalidMembers)
		}
	}
}

// describe writes a member in the form of the recordings. It finds the member id of a hashed identity among the expected ones.
func describe(t *testing.T, m Member, expected []string) string {
	t.Helper()
	if !m.Sticky {
		if m.Identity != transport.Identity(m.User, m.Device) {
			t.Errorf("identity %s", m.Identity)
		}
		return fmt.Sprintf("%s %s state %s", m.User, m.Device, m.Service)
	}
	memberID := m.Identity
	for _, line := range expected {
		if fields := strings.Fields(line); len(fields) == 5 && transport.HashedIdentity(m.User, m.Device, fields[3]) == m.Identity {
			memberID = fields[3]
		}
	}
	return fmt.Sprintf("%s %s sticky %s %s", m.User, m.Device, memberID, m.Service)
}
