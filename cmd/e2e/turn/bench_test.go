//go:build full

package turn_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/turn"
	"multifactorymodel.org/ewindow/cmd/e2e/turn/load"
)

// row is one load to measure. The rates are so low that two cores can run the client and the slower server.
type row struct {
	allocations, payload int
	rate, burst          int // packets a second in each direction, and how many of them go through one allocation in a row
}

// plan says what the benchmark measures, and for how long.
type plan struct {
	rows                  []row
	relayTime, directTime time.Duration // of one measurement with a relay and without
	repeats               int
	processes             int // whose memory is taken
	uclient               turn.Uclient
}

// longPlan has all rows, and one row with bursts that are longer than a key frame.
func longPlan() plan {
	p := plan{
		relayTime: 700 * time.Millisecond, directTime: 300 * time.Millisecond, repeats: 3, processes: 3,
		uclient: turn.Uclient{Clients: 8, Packets: 5000, Bytes: 1000, Interval: 1},
	}
	for _, r := range []row{{1, 0, 5000, 10}, {10, 0, 10000, 10}, {100, 0, 20000, 5}, {1000, 0, 20000, 2}} {
		for _, payload := range []int{100, 500, 1200} {
			r.payload = payload
			p.rows = append(p.rows, r)
		}
	}
	p.rows = append(p.rows, row{10, 1200, 10000, 64})
	return p
}

// shortPlan takes about 15 seconds.
func shortPlan() plan {
	return plan{
		rows:      []row{{1, 1200, 5000, 10}, {100, 500, 20000, 5}, {1000, 100, 20000, 2}},
		relayTime: 250 * time.Millisecond, directTime: 100 * time.Millisecond, repeats: 3, processes: 1,
		uclient: turn.Uclient{Clients: 8, Packets: 200, Bytes: 1000, Interval: 1},
	}
}

// figures are one server's results in one row: the medians of the repeats, and the sums of packets.
type figures struct {
	cpu        float64 // microseconds for a packet; a round trip has two packets
	p50, p99   float64 // microseconds that the relay adds to a round trip
	sent, lost int
	dropped    int // lost packets that the client itself dropped
	cpus       []float64
	p50s, p99s []float64
	floors     []float64 // medians of the round trips without a relay, in microseconds
	relayed    bool      // p50 and p99 are known
}

// BenchmarkRelay compares our server with coturn in one run, with the same client, sizes and rates. With -short it has fewer rows. At the end it prints
// a table. An exclamation mark marks a figure that misses its aim.
func BenchmarkRelay(b *testing.B) {
	turn.Need(b, "turnutils_uclient")
	p := longPlan()
	if testing.Short() {
		p = shortPlan()
	}
	names := [2]string{"coturn " + turn.CoturnVersion(b), "ewindow"}
	memory := [2]float64{}
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			for i, start := range startFuncs {
				memory[i] = idleMemory(b, start, p.processes)
			}
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(memory[0], "B/allocation-coturn")
		b.ReportMetric(memory[1], "B/allocation-ewindow")
	})
	servers := [2]*turn.Server{startFuncs[0](b), startFuncs[1](b)}
	var lines []line
	add := func(b *testing.B, title string, f [2]figures) {
		l := line{title, f}
		lines = append(lines, l)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(f[0].cpu, "us/packet-coturn")
		b.ReportMetric(f[1].cpu, "us/packet-ewindow")
		b.ReportMetric(ratio(f[1].cpu, f[0].cpu), "cpu-ratio")
		b.ReportMetric(float64(f[1].lost), "lost-ewindow")
	}
	for _, r := range p.rows {
		b.Run(fmt.Sprintf("allocations=%d/bytes=%d/burst=%d", r.allocations, r.payload, r.burst), func(b *testing.B) {
			for b.Loop() {
				add(b, fmt.Sprintf("%d\t%d\t%d\t%d", r.allocations, r.payload, r.rate, r.burst), measure(b, servers, r, p))
			}
		})
	}
	b.Run("turnutils_uclient", func(b *testing.B) {
		peer := turn.CoturnPeer(b)
		for b.Loop() {
			var f [2]figures
			for i, s := range servers {
				before := s.CPU(b)
				sent, lost, err := p.uclient.Run(b.Context(), s, peer)
				if err != nil {
					b.Fatal(err)
				}
				f[i] = figures{sent: sent, lost: lost, cpu: perPacket(s.CPU(b)-before, 2*(sent-lost))}
			}
			add(b, fmt.Sprintf("%d *\t%d\t%d\t1", p.uclient.Clients, p.uclient.Bytes, p.uclient.Clients*1000/p.uclient.Interval), f)
		}
	})
	fmt.Print(table(names, lines, memory, p))
}

var startFuncs = [2]func(testing.TB) *turn.Server{turn.StartCoturn, turn.StartOurs}

// measure measures one row with both servers, several times in alternating order.
func measure(t testing.TB, servers [2]*turn.Server, r row, p plan) (f [2]figures) {
	t.Helper()
	direct, err := load.Open(load.Config{Allocations: r.allocations})
	if err != nil {
		t.Fatal(err)
	}
	clients := [2]*load.Client{open(t, servers[0], r.allocations), open(t, servers[1], r.allocations)}
	for repeat := range p.repeats {
		floor := run(t, direct, r, p.directTime)
		if floor.Lost() > 0 {
			t.Logf("%v: without a relay %d of %d packets are lost, %d of them by the client", r, floor.Lost(), floor.Sent, floor.Dropped)
		}
		for i := range servers {
			if repeat%2 == 1 {
				i = 1 - i
			}
			before := servers[i].CPU(t)
			got := run(t, clients[i], r, p.relayTime)
			used := servers[i].CPU(t) - before
			f[i].add(got, floor, used)
		}
	}
	for i, c := range append(clients[:], direct) {
		if err := c.Close(); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	for i := range f {
		f[i].cpu, f[i].p50, f[i].p99, f[i].relayed = median(f[i].cpus), median(f[i].p50s), median(f[i].p99s), true
	}
	return f
}

// run sends whole bursts for about a given time.
func run(t testing.TB, c *load.Client, r row, long time.Duration) load.Result {
	t.Helper()
	bursts := max(1, int(long)*r.rate/int(time.Second)/r.burst)
	got, err := c.Run(load.Traffic{Payload: r.payload, Rate: r.rate, Burst: r.burst, Packets: bursts * r.burst})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestComparison measures a small row, to check that the benchmark works.
func TestComparison(t *testing.T) {
	servers := [2]*turn.Server{startFuncs[0](t), startFuncs[1](t)}
	p := plan{relayTime: 100 * time.Millisecond, directTime: 50 * time.Millisecond, repeats: 2}
	f := measure(t, servers, row{allocations: 3, payload: 100, rate: 500, burst: 5}, p)
	for i, f := range f {
		if f.sent != 100 || f.lost != 0 || f.cpu <= 0 || f.cpu > 100_000 || len(f.cpus) != 2 || !f.relayed {
			t.Errorf("%s: %+v", servers[i].Name, f)
		}
	}
}

// TestTable checks that the table marks and counts figures that miss their aim, and no others.
func TestTable(t *testing.T) {
	good := figures{cpu: 2, p50: 30, p99: 50, sent: 100, relayed: true}
	slow, late, lossy := good, good, good
	slow.cpu, late.p99, lossy.lost, lossy.dropped = 3, 60, 7, 1
	for want, test := range map[string]struct {
		theirs, ours figures
		memory       float64
	}{
		"0 aims are missed":                  {good, good, 16 << 10},
		"1.00  0/100  0/100":                 {good, good, 16 << 10},
		"2.00  3.00  !1.50":                  {good, slow, 0},
		"50  60  !1.20":                      {good, late, 0},
		"0/100  !7/100 (client 1)":           {good, lossy, 0},
		"7/100 (client 1)  7/100 (client 1)": {lossy, lossy, 0},
		"ours 16.0 kB!":                      {good, good, 16<<10 + 1},
		"4 aims are missed":                  {good, figures{cpu: 3, p99: 60, lost: 1, relayed: true}, 20000},
		"1.00  -":                            {figures{cpu: 2}, figures{cpu: 2}, 0},
	} {
		text := table([2]string{"coturn", "ewindow"}, []line{{"1\t2\t3\t4", [2]figures{test.theirs, test.ours}}}, [2]float64{1, test.memory}, plan{})
		if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// add adds one measurement.
func (f *figures) add(got, floor load.Result, used time.Duration) {
	f.sent, f.lost, f.dropped = f.sent+got.Sent, f.lost+got.Lost(), f.dropped+got.Dropped
	f.cpus = append(f.cpus, perPacket(used, got.Relayed()))
	f.floors = append(f.floors, microseconds(floor.Quantile(0.5)))
	f.p50s = append(f.p50s, microseconds(got.Quantile(0.5)-floor.Quantile(0.5)))
	f.p99s = append(f.p99s, microseconds(got.Quantile(0.99)-floor.Quantile(0.99)))
}

// idleMemory returns the memory in bytes of an idle allocation with a channel. It starts a new process and makes a few allocations before it measures.
func idleMemory(t testing.TB, start func(testing.TB) *turn.Server, processes int) float64 {
	t.Helper()
	const few, many = 50, 1000
	var all []float64
	for range processes {
		s := start(t)
		warm := open(t, s, few)
		before := s.Resident(t)
		c := open(t, s, many)
		all = append(all, float64(s.Resident(t)-before)/many)
		for _, c := range []*load.Client{c, warm} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		s.Stop(t)
	}
	return median(all)
}

// line is one line of the table: its first cells, and both servers' figures.
type line struct {
	title   string
	servers [2]figures
}

// The aims, as ratios to coturn and in bytes.
const (
	cpuAim, p99Aim = 1.0, 1.0
	memoryAim      = 16 << 10
)

// table formats the results.
func table(names [2]string, lines []line, memory [2]float64, p plan) string {
	var out bytes.Buffer
	fmt.Fprintf(&out, "\nTURN over UDP, %s and %s in turn. %d cores of %s, %s, %s.\n", names[0], names[1], runtime.NumCPU(), processor(), runtime.Version(),
		time.Now().UTC().Format("2006-01-02"))
	fmt.Fprintf(&out, "Round trips through channels to an echo peer, the middle of %d times %v; packets lost are those of all. One round trip is two packets.\n",
		p.repeats, p.relayTime)
	fmt.Fprintf(&out, "CPU: µs of the server for each packet. Added: µs by which a round trip is longer than without a relay. ! misses the aim.\n\n")
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tbytes\tpackets/s\tburst\tCPU\tCPU\t\tadded p50\tadded p50\t\tadded p99\tadded p99\t\tlost\tlost\t")
	fmt.Fprintln(w, "allocations\t\t\t\tcoturn\tours\tratio\tcoturn\tours\tratio\tcoturn\tours\tratio\tcoturn\tours\t")
	missed := 0
	var floors []float64
	mark := func(miss bool) string {
		if miss {
			missed++
			return "!"
		}
		return ""
	}
	for _, l := range lines {
		c, o := l.servers[0], l.servers[1]
		floors = append(floors, o.floors...)
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%s%.2f\t", l.title, c.cpu, o.cpu, mark(o.cpu > cpuAim*c.cpu), ratio(o.cpu, c.cpu))
		if o.relayed {
			fmt.Fprintf(w, "%.0f\t%.0f\t%.2f\t", c.p50, o.p50, ratio(o.p50, c.p50))
			fmt.Fprintf(w, "%.0f\t%.0f\t%s%.2f\t", c.p99, o.p99, mark(o.p99 > p99Aim*c.p99), ratio(o.p99, c.p99))
		} else {
			fmt.Fprint(w, strings.Repeat("-\t", 6))
		}
		fmt.Fprintf(w, "%s\t%s%s\t\n", c.lossText(), mark(o.lost > 0 && c.lost == 0), o.lossText())
	}
	_ = w.Flush()
	fmt.Fprintf(&out, "Half of the round trips without a relay took less than %.0f µs.\n", median(floors))
	fmt.Fprintf(&out, "* turnutils_uclient, %d packets of each client.\n", p.uclient.Packets)
	if memory[0] > 0 {
		fmt.Fprintf(&out, "Resident memory for an idle allocation with a channel: coturn %.1f kB, ours %.1f kB%s.\n", memory[0]/1024, memory[1]/1024,
			mark(memory[1] > memoryAim))
	}
	fmt.Fprintf(&out, "%d aims are missed.\n\n", missed)
	return out.String()
}

// lossText says how many packets were lost, and how many of them the client itself dropped.
func (f *figures) lossText() string {
	text := fmt.Sprintf("%d/%d", f.lost, f.sent)
	if f.dropped > 0 {
		text += fmt.Sprintf(" (client %d)", f.dropped)
	}
	return text
}

// processor returns the name of the machine's processor.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, found := strings.Cut(string(text), "model name")
	name, _, _ := strings.Cut(strings.TrimLeft(rest, "\t :"), "\n")
	if !found {
		return runtime.GOARCH
	}
	return name
}

func ratio(ours, theirs float64) float64 {
	if theirs == 0 {
		return 0
	}
	return ours / theirs
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func perPacket(used time.Duration, packets int) float64 {
	return microseconds(used) / float64(max(1, packets))
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
