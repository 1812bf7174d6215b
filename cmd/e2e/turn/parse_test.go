//go:build full

package turn

import (
	"os"
	"testing"
	"time"
)

func TestCPUTime(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 50*time.Millisecond; {
		continue
	}
	after, err := cpuTime(os.Getpid())
	if used := after - before; err != nil || used <= 0 || used > 10*time.Second {
		t.Errorf("50 ms of work cost %v, %v", used, err)
	}
	if used, err := cpuTime(1<<22 + 1); err == nil {
		t.Errorf("a process that does not exist used %v", used)
	}
}

func TestParseUclient(t *testing.T) {
	const printed = `3: : start_mclient: msz=2, tot_send_msgs=12, tot_recv_msgs=12, tot_send_bytes ~ 0, tot_recv_bytes ~ 0
3: : start_mclient: tot_send_msgs=400, tot_recv_msgs=397
3: : start_mclient: tot_send_bytes ~ 400000, tot_recv_bytes ~ 400000
3: : Total transmit time is 3
3: : Total lost packets 3 (0.750000%), total send dropped 0 (0.000000%)
`
	if sent, received, lost, err := parseUclient([]byte(printed)); sent != 400 || received != 397 || lost != 3 || err != nil {
		t.Errorf("%d were sent, %d received, %d lost, %v", sent, received, lost, err)
	}
	if _, _, _, err := parseUclient([]byte("turnutils_uclient: cannot connect")); err == nil {
		t.Error("output without figures gives no error")
	}
}
