//go:build full

package inbound_test

import (
	"context"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/turn"
	"multifactorymodel.org/ewindow/turnserver"
)

// TestCoturnClient lets coturn's test client send through the shared port.
func TestCoturnClient(t *testing.T) {
	uclient := turn.Need(t, "turnutils_uclient")
	h := startHub(t)
	_, port, err := net.SplitHostPort(echo(t).String())
	if err != nil {
		t.Fatal(err)
	}
	username, password := turnserver.Credentials(secret, "coturn", time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, uclient, "-S", "-t", "-u", username, "-w", password, "-p", strconv.Itoa(h.addr.Port),
		"-e", "127.0.0.1", "-r", port, "-n", "100", "-m", "2", "-l", "500", "-c", "127.0.0.1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	all := regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`).FindAllSubmatch(output, -1)
	if len(all) == 0 || string(all[len(all)-1][1]) != "200" || string(all[len(all)-1][2]) != "200" {
		t.Errorf("not all of 200 packets came back:\n%s", output)
	}
}
