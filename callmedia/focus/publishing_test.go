package focus_test

import (
	"net/http"
	"testing"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestPublishing demands that users whose homeserver has another SFU only watch at ours, and that all others may publish.
func TestPublishing(t *testing.T) {
	const ours, theirs = "https://rtc.example.org/jwt", "https://rtc.example.net/jwt"
	l := rig.StartLiveKitWith(t, rig.LiveKitOptions{NoAutoCreate: true})
	for name, c := range map[string]struct {
		transports []string
		listed     bool
		want       bool
	}{
		"without an SFU":   {nil, false, true},
		"with another SFU": {[]string{theirs}, false, false},
		"with our SFU":     {[]string{ours + "/"}, false, true},
		"with both":        {[]string{theirs, ours}, false, true},
		"of the network":   {[]string{theirs}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			hs := rig.StartHomeserverWith(t, rig.Options{Transports: c.transports})
			cfg := focus.ServiceConfig{
				LiveKitURL: l.HTTPURL, PublicURL: l.URL, ServiceURL: ours, Key: l.Key, Secret: l.Secret, Allowed: loopbackOnly, Log: zerolog.Nop(),
			}
			if c.listed {
				cfg.FullAccess = []string{hs.ServerName}
			}
			s, err := focus.NewService(cfg)
			if err != nil {
				t.Fatal(err)
			}
			focus.TrustOnly(s, roots(t))
			status, answer, _ := ask(t, s, "POST", "/sfu/get", newPerson(t, hs, "anna").plain(t, "!room:elsewhere.example"))
			if status != http.StatusOK {
				t.Fatalf("answered %d %v", status, answer)
			}
			g, _ := grants(t, l, answer["jwt"].(string))
			if v := g.Video; v.GetCanPublish() != c.want || v.GetCanPublishData() != c.want || !v.GetCanSubscribe() || v.RoomCreate {
				t.Errorf("the token grants %+v", v)
			}
		})
	}
}
