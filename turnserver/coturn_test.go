//go:build full

package turnserver_test

import (
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/turn"
	"multifactorymodel.org/ewindow/turnserver"
)

// TestCoturnClient lets coturn's test client send through our server to coturn's echo peer, and demands that every packet comes back.
func TestCoturnClient(t *testing.T) {
	uclient := turn.Need(t, "turnutils_uclient")
	s := start(t, base(t))
	peer := socket(t)
	go echo(peer)
	username, password := turnserver.Credentials(secret, "coturn", time.Hour)
	received := regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`)
	for name, listener := range map[string]int{"udp": 0, "tcp": 1, "tls": 2} {
		args := []string{
			"-u", username, "-w", password, "-p", strconv.Itoa(netPort(s.Addrs()[listener])),
			"-e", "127.0.0.1", "-r", strconv.Itoa(netPort(peer.LocalAddr())), "-n", "200", "-m", "2", "-l", "1000", "-c", "127.0.0.1",
		}
		switch name {
		case "tcp":
			args = append([]string{"-t"}, args...)
		case "tls":
			args = append([]string{"-t", "-S"}, args...)
		}
		output, err := exec.CommandContext(t.Context(), uclient, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, output)
		}
		all := received.FindAllSubmatch(output, -1)
		if len(all) == 0 {
			t.Fatalf("%s: no figures in\n%s", name, output)
		}
		last := all[len(all)-1]
		if sent, got := string(last[1]), string(last[2]); sent != "400" || got != sent {
			t.Errorf("%s: %s packets were sent, %s came back\n%s", name, sent, got, output)
		}
	}
}
