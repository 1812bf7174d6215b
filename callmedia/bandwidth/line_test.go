package bandwidth

import (
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
)

// numbered is the header of a packet with a transport-wide sequence number.
func numbered(t testing.TB, number uint16) *rtp.Header {
	t.Helper()
	header := &rtp.Header{Version: 2}
	if err := header.SetExtension(5, binary.BigEndian.AppendUint16(nil, number)); err != nil {
		t.Fatal(err)
	}
	return header
}

// TestUplink lets pion's recorder report packets that came over a line of 500 kbit/s. Numbers and times wrap around.
func TestUplink(t *testing.T) {
	u := NewUplink(700_000)
	write := u.AddStream(&interceptor.StreamInfo{RTPHeaderExtensions: []interceptor.RTPHeaderExtension{{ID: 5, URI: sdp.TransportCCURI}}},
		interceptor.RTPWriterFunc(func(*rtp.Header, []byte, interceptor.Attributes) (int, error) { return 0, nil }))
	if _, err := write.Write(numbered(t, 1), make([]byte, 1000), nil); err != nil || !u.sent[1].known {
		t.Fatalf("a packet that is sent is not remembered: %v", err)
	}
	u = NewUplink(700_000)
	const line, size = 500_000, 1000
	recorder := twcc.NewRecorder(1)
	begun := time.Now()
	number, free, next := uint16(65000), time.Duration(0), 100*time.Millisecond
	wrap := int64(1<<24)*64_000 - 5_000_000 // five seconds before the recorder's time wraps around
	sent, arrived := 0, 0
	for at := time.Duration(0); at < 20*time.Second; {
		u.remember(number, size-PacketOverhead, begun.Add(at))
		sent++
		if free = max(free, at); free-at < 200*time.Millisecond {
			free += time.Duration(8*size) * time.Second / line
			recorder.Record(1, number, wrap+free.Microseconds())
			arrived++
		}
		number++
		if at >= next {
			next = at + 100*time.Millisecond
			for _, packet := range recorder.BuildFeedbackPacket() {
				raw, err := packet.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				packets, err := rtcp.Unmarshal(raw)
				if err != nil {
					t.Fatal(err)
				}
				if err := u.WriteRTCP(packets, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		at += time.Duration(8*size) * time.Second / time.Duration(u.BPS())
	}
	if bps := u.BPS(); bps < line*7/10 || bps > line*12/10 {
		t.Errorf("the estimate is %d bit/s for a line of %d", bps, line)
	}
	if arrived*10 < sent*9 {
		t.Errorf("of %d packets only %d arrived", sent, arrived)
	}
	before := u.BPS()
	for _, c := range []struct {
		after       time.Duration
		falls, dead bool
	}{{silent - 1, false, false}, {silent, true, false}, {dead, true, true}} {
		u.lastSent = u.reported.Add(c.after)
		if alive := u.Check(u.lastSent); u.BPS() < before != c.falls || alive == c.dead {
			t.Errorf("%v without a report: the estimate goes from %d to %d, and the line is alive: %v", c.after, before, u.BPS(), alive)
		}
	}
}

// TestUplinkLate sends over a good line on which packets overtake each other. The reports say of many that they did not arrive, and later that they did.
func TestUplinkLate(t *testing.T) {
	type packet struct {
		number  uint16
		arrival time.Duration
	}
	u := NewUplink(0)
	recorder := twcc.NewRecorder(1)
	chance := rand.New(rand.NewPCG(3, 3))
	begun := time.Now()
	var way []packet // that have not arrived yet
	const most, size, step, every = 1_700_000, 1000, time.Millisecond, 100 * time.Millisecond
	budget, number := 0.0, uint16(0)
	for at := step; at < 20*time.Second; at += step {
		for budget += float64(min(u.BPS(), most)) * step.Seconds() / 8; budget > 0; budget -= size {
			u.remember(number, size-PacketOverhead, begun.Add(at))
			way = append(way, packet{number, at + time.Duration(chance.Int64N(int64(100*time.Millisecond)))})
			number++
		}
		slices.SortFunc(way, func(a, b packet) int { return cmp.Compare(a.arrival, b.arrival) })
		for ; len(way) > 0 && way[0].arrival <= at; way = way[1:] {
			recorder.Record(1, way[0].number, way[0].arrival.Microseconds())
		}
		if at%every == 0 {
			if err := u.WriteRTCP(recorder.BuildFeedbackPacket(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if bps := u.BPS(); at > 5*time.Second && bps < most {
			t.Fatalf("the estimate is %d bit/s after %v", bps, at)
		}
	}
}

// FuzzUplink reads any report. It must not panic, and the estimate stays within its bounds.
func FuzzUplink(f *testing.F) {
	recorder := twcc.NewRecorder(1)
	for i := range uint16(100) {
		recorder.Record(1, i*3, int64(i)*7000)
	}
	for _, packet := range recorder.BuildFeedbackPacket() {
		raw, err := packet.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, uint16(0))
	}
	f.Add([]byte{0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0x3f, 0xff, 0, 0}, uint16(65000))
	f.Fuzz(func(t *testing.T, raw []byte, first uint16) {
		u := NewUplink(700_000)
		now := time.Now()
		for i := range uint16(300) {
			u.remember(first+i, 1000, now.Add(time.Duration(i)*time.Millisecond))
		}
		var report rtcp.TransportLayerCC
		if report.Unmarshal(raw) != nil {
			return
		}
		for range 3 {
			u.read(&report, now)
		}
		if bps := u.BPS(); bps < lineMin || bps > lineMax {
			t.Fatalf("the estimate is %d", bps)
		}
	})
}

// TestDownlink receives sound and a picture over a line of 500 kbit/s, which is too little for them, and then less. It demands an estimate below that,
// and that the SFU is told so. What is left for the picture is without the sound.
func TestDownlink(t *testing.T) {
	d := NewDownlink(0)
	sound := d.bind(1, "audio/opus", 48000)
	picture := d.bind(2, "video/VP8", 90000)
	const line = 500_000
	free, told := time.Duration(0), 0
	number := uint16(65500)
	for at := time.Duration(0); at < 10*time.Second; at += 20 * time.Millisecond {
		come := func(s *inbound, ssrc uint32, number uint16, timestamp uint32, size int) {
			if free = max(free, at); free-at > 200*time.Millisecond {
				return
			}
			free += time.Duration(8*size) * time.Second / line
			d.arrived(ssrc, s, number, timestamp, size-PacketOverhead, false, d.begun.Add(time.Hour+free))
		}
		n := uint32(at / (20 * time.Millisecond))
		come(sound, 1, uint16(n), n*960-5000, 160)
		bps, left := d.Estimate(2)
		if left == 0 {
			left = 1_500_000
		}
		if at > 2*time.Second && (bps-left < 50_000 || bps-left > 80_000) {
			t.Fatalf("of %d bit/s the picture gets %d", bps, left)
		}
		for bytes := min(left, 1_500_000) / 8 / 50; bytes > 0; bytes -= 1000 {
			come(picture, 2, number, n*1800+1<<31, min(bytes, 1000)+PacketOverhead)
			number++
		}
		if at%(100*time.Millisecond) == 0 {
			if message := d.Update(d.begun.Add(time.Hour + at)); message != nil {
				if told == 0 && message.Bitrate > line {
					t.Errorf("the SFU is told %.0f bit/s when the line is full for the first time", message.Bitrate)
				}
				told = int(message.Bitrate)
				if !slices.Equal(message.SSRCs, []uint32{2}) {
					t.Fatalf("the SFU is told about %v", message.SSRCs)
				}
			}
		}
	}
	bps, _ := d.Estimate(2)
	if bps < line*6/10 || bps > line*12/10 || told < line*6/10 || told > line*12/10 {
		t.Errorf("the estimate is %d bit/s for a line of %d, and the SFU was told %d", bps, line, told)
	}
}

// TestDownlinkLate receives a picture over a good line on which packets overtake each other, and half of the packets are padding. None is lost, so nothing
// is known of the line.
func TestDownlinkLate(t *testing.T) {
	type packet struct {
		number    uint16
		timestamp uint32
		arrival   time.Duration
	}
	d := NewDownlink(0)
	picture := d.bind(2, "video/VP8", 90000)
	chance := rand.New(rand.NewPCG(4, 4))
	var way []packet // that have not arrived yet
	number := uint16(0)
	for at := time.Duration(0); at < 20*time.Second; at += 5 * time.Millisecond {
		way = append(way, packet{number, uint32(at * 90000 / time.Second), at + time.Duration(chance.Int64N(int64(100*time.Millisecond)))})
		number++
		slices.SortFunc(way, func(a, b packet) int { return cmp.Compare(a.arrival, b.arrival) })
		for ; len(way) > 0 && way[0].arrival <= at; way = way[1:] {
			d.arrived(2, picture, way[0].number, way[0].timestamp, 1000, way[0].number%2 == 0, d.begun.Add(time.Hour+way[0].arrival))
		}
		if at%(100*time.Millisecond) == 0 {
			d.Update(d.begun.Add(time.Hour + at))
		}
		if bps, _ := d.Estimate(2); bps != 0 {
			t.Fatalf("the estimate is %d bit/s after %v", bps, at)
		}
	}
}

// TestDownlinkTrickle: of a sender who does not get through to the SFU a few packets come, late. That says nothing of the line from the SFU.
func TestDownlinkTrickle(t *testing.T) {
	d := NewDownlink(0)
	picture := d.bind(2, "video/VP8", 90000)
	late := time.Duration(0)
	for at := time.Duration(0); at < 5*time.Second; at += 50 * time.Millisecond {
		late += 10 * time.Millisecond
		n := uint32(at / (50 * time.Millisecond))
		d.arrived(2, picture, uint16(8*n), uint32(at*90000/time.Second), 1000, false, d.begun.Add(time.Hour+at+late))
		d.Update(d.begun.Add(time.Hour + at + late))
		if bps, _ := d.Estimate(2); bps != 0 {
			t.Fatalf("the estimate is %d bit/s after %v", bps, at)
		}
	}
}

// TestDownlinkBusy: for a moment everything comes late, since a machine is busy. A picture that needs little goes on, and a large one becomes smaller, not
// tiny.
func TestDownlinkBusy(t *testing.T) {
	d := NewDownlink(0)
	sound := d.bind(1, "audio/opus", 48000)
	least := 0
	for n := range uint32(500) {
		at := time.Duration(n) * 20 * time.Millisecond
		arrival := at
		if at > 3*time.Second && at < 3500*time.Millisecond {
			arrival += 150 * time.Millisecond
		}
		d.arrived(1, sound, uint16(n), n*960, 160, false, d.begun.Add(time.Hour+arrival))
		d.Update(d.begun.Add(time.Hour + arrival))
		if bps, _ := d.Estimate(2); bps > 0 && (least == 0 || bps < least) {
			least = bps
		}
	}
	if least < 400_000 {
		t.Errorf("the estimate falls to %d bit/s", least)
	}
}

// TestThin keeps back requests for packets that were asked for less than a round trip ago.
func TestThin(t *testing.T) {
	d := NewDownlink(0)
	s := d.bind(2, "video/VP8", 90000)
	d.SetRTT(80 * time.Millisecond) // and a quarter
	now := time.Now()
	ask := func(at time.Duration, numbers ...uint16) (asked []uint16) {
		nack := d.thin(&rtcp.TransportLayerNack{MediaSSRC: 2, Nacks: rtcp.NackPairsFromSequenceNumbers(numbers)}, now.Add(at))
		if nack == nil {
			return nil
		}
		for _, pair := range nack.Nacks {
			asked = append(asked, pair.PacketList()...)
		}
		return asked
	}
	for _, c := range []struct {
		at          time.Duration
		lacks, want []uint16
	}{
		{0, []uint16{5, 6}, []uint16{5, 6}},
		{30 * time.Millisecond, []uint16{5, 6}, nil},
		{60 * time.Millisecond, []uint16{5, 6, 9}, []uint16{9}},
		{110 * time.Millisecond, []uint16{5, 6, 9}, []uint16{5, 6}},
	} {
		if got := ask(c.at, c.lacks...); !slices.Equal(got, c.want) {
			t.Errorf("after %v %v is asked for, want %v", c.at, got, c.want)
		}
	}
	d.arrived(2, s, 5, 0, 1000, false, now)
	if got := ask(120*time.Millisecond, 5); !slices.Equal(got, []uint16{5}) {
		t.Errorf("a packet that came and is lacking again is not asked for: %v", got)
	}
	for i := range uint16(5000) {
		ask(time.Second, i)
	}
	if len(s.asked) > maxAsked {
		t.Errorf("%d requests are remembered", len(s.asked))
	}
	if nack := d.thin(&rtcp.TransportLayerNack{MediaSSRC: 77, Nacks: rtcp.NackPairsFromSequenceNumbers([]uint16{1})}, now); nack == nil {
		t.Error("a stream that is not known is not asked for")
	}
}

// BenchmarkUplinkPacket measures what the uplink does for each packet. It allocates nothing.
func BenchmarkUplinkPacket(b *testing.B) {
	u := NewUplink(700_000)
	now := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		u.remember(uint16(i), 1000, now)
	}
}

// BenchmarkDownlinkPacket measures what the downlink does for each packet. It allocates nothing.
func BenchmarkDownlinkPacket(b *testing.B) {
	d := NewDownlink(0)
	s := d.bind(2, "video/VP8", 90000)
	now := d.begun.Add(time.Hour)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d.arrived(2, s, uint16(i), uint32(i)*3000, 1000, false, now.Add(time.Duration(i)*time.Millisecond))
	}
}
