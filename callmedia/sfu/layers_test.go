//go:build full

package sfu_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/rtp"

	"multifactorymodel.org/ewindow/callmedia/sfu"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// playLayers writes a picture of each layer every 20 ms until the test ends. All its bytes are the layer's number. Nothing is written of a layer
// while off is not zero. asked counts the requests for key frames.
func playLayers(t *testing.T, track *sfu.LocalTrack) (off, asked [2]*atomic.Int64) {
	t.Helper()
	var key [2]atomic.Bool
	for i := range off {
		off[i], asked[i] = new(atomic.Int64), new(atomic.Int64)
		key[i].Store(true)
	}
	track.OnKeyFrameRequest(func(layer int) { asked[layer].Add(1); key[layer].Store(true) })
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-stopped })
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for n := uint32(0); ; n++ {
			select {
			case <-stop:
				return
			case now := <-ticker.C:
				for i, layer := range track.Layers {
					if off[i].Load() != 0 {
						continue
					}
					// Each encoder has a clock of its own.
					timestamp := n*1800 + uint32(i)*1_000_000
					layer.SetClock(now, timestamp)
					_ = layer.WriteRTP(&rtp.Packet{
						Header:  rtp.Header{SequenceNumber: uint16(n + uint32(i)*1000), Timestamp: timestamp, Marker: true},
						Payload: frame(key[i].Swap(false), byte(i)),
					})
				}
			}
		}
	}()
	return off, asked
}

// watch reads a track. It returns which layer came last, and how many packets came.
func watch(t *testing.T, e sfu.TrackSubscribed) (layer, packets *atomic.Int64) {
	t.Helper()
	layer, packets = new(atomic.Int64), new(atomic.Int64)
	layer.Store(-1)
	go func() {
		for {
			p, _, err := e.Remote.ReadRTP()
			if err != nil {
				return
			}
			if n := len(p.Payload); n > 600 { // not padding
				packets.Add(1)
				layer.Store(int64(p.Payload[n-1]))
			}
		}
	}()
	return layer, packets
}

// TestLayers publishes a picture in two sizes. A participant who shows it small gets the small layer, one who shows it large the large layer. Both
// are announced as encrypted, and the publisher is told which layer is watched.
func TestLayers(t *testing.T) {
	s := rig.StartLiveKit(t)
	window := join(t, s, "@window:a:DEV", nil)
	small, large := join(t, s, "@small:b:DEV", nil), join(t, s, "@large:b:DEV", nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	track, err := window.PublishVideo(ctx, sfu.Size{Width: 320, Height: 180}, sfu.Size{Width: 1280, Height: 720})
	if err != nil {
		t.Fatal(err)
	}
	off, asked := playLayers(t, track)
	at := func(room *sfu.Room, width, height int) (layer, packets *atomic.Int64) {
		t.Helper()
		e := await[sfu.TrackSubscribed](t, room, nil)
		if e.Encryption != livekit.Encryption_GCM {
			t.Errorf("the track is announced with encryption %s", e.Encryption)
		}
		room.SetTrackSize(e.TrackSID, width, height)
		return watch(t, e)
	}
	smallGets, _ := at(small, 160, 90)
	largeGets, largePackets := at(large, 1280, 720)
	sees := func(what string, layer *atomic.Int64, want int64) {
		t.Helper()
		rig.Eventually(t, patience, func() error {
			if n := layer.Load(); n != want {
				return fmt.Errorf("layer %d came last, want %s", n, what)
			}
			return nil
		})
	}
	sees("the small picture", smallGets, 0)
	sees("the large picture", largeGets, 1)
	for _, p := range s.Participants(t, "glass") {
		for _, info := range p.GetTracks() {
			if c := info.GetCodecs(); info.GetEncryption() != livekit.Encryption_GCM || len(c) != 1 || len(c[0].GetLayers()) != 2 {
				t.Errorf("the server has the track as %v", info)
			}
		}
	}
	for i, n := range asked {
		if n.Load() == 0 {
			t.Errorf("no key frame of layer %d was asked for", i)
		}
	}
	// When a layer is not sent any more, the other one takes its place until it comes back.
	off[1].Store(1)
	sees("the small picture instead of the large one", largeGets, 0)
	off[1].Store(0)
	// LiveKit uses the layer again when packets of it have come for two seconds.
	sees("the large picture again", largeGets, 1)
	// Nothing comes of a track without size, and the publisher is told which layer the others watch.
	large.SetTrackSize(track.SID(), 0, 0)
	await(t, window, func(e sfu.QualityWanted) bool {
		return e.TrackSID == track.SID() && e.Wanted && e.Quality == livekit.VideoQuality_LOW
	})
	// As in a call, what nobody watches is not sent.
	off[1].Store(1)
	before := largePackets.Load()
	<-time.After(time.Second)
	if n := largePackets.Load(); n != before {
		t.Errorf("%d packets came of a track that is not shown", n-before)
	}
	large.SetTrackSize(track.SID(), 1280, 720)
	await(t, window, func(e sfu.QualityWanted) bool { return e.Wanted && e.Quality > livekit.VideoQuality_LOW })
	off[1].Store(0)
	rig.Eventually(t, patience, func() error {
		if n, layer := largePackets.Load(), largeGets.Load(); n <= before || layer != 1 {
			return fmt.Errorf("%d packets came since the track is shown again, the last one of layer %d", n-before, layer)
		}
		return nil
	})
}
