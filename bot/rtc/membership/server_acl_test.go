package membership

import (
	"fmt"
	"strings"
	"testing"
)

func TestACL(t *testing.T) {
	long := `{"allow":["*"` + strings.Repeat(`,"x"`, maxPatterns) + `]}`
	for _, c := range []struct {
		content, permitted, refused string
	}{
		{`{"allow":["*"],"deny":["evil.example","*.evil.example"]}`, "one.example one.example:8448 notevil.example 1.2.3.4", "evil.example EVIL.example:443 a.b.evil.example"},
		{`{"allow":["one.example","*.two.example"]}`, "one.example x.two.example:1", "two.example three.example [::1]"},
		{`{"allow":["*"],"allow_ip_literals":false}`, "one.example", "1.2.3.4 1.2.3.4:8448 [2001:db8::1] [2001:db8::1]:8448"},
		{`{"allow":["*"],"deny":["one.exampl?"]}`, "one.example.org", "one.example"},
		{`{}`, "", "one.example"},
		{`{"allow":["*",1,{}],"deny":[null]}`, "one.example", ""},
		{`{"allow":"*"}`, "one.example", ""}, // can't be read
		{`[]`, "one.example", ""},
		{long, "one.example", ""},
	} {
		a := parseACL([]byte(c.content))
		for range 2 {
			for _, server := range strings.Fields(c.permitted) {
				if !a.permits(server) {
					t.Errorf("%.80s: %s is refused", c.content, server)
				}
			}
			for _, server := range strings.Fields(c.refused) {
				if a.permits(server) {
					t.Errorf("%.80s: %s is permitted", c.content, server)
				}
			}
		}
	}
	a := parseACL([]byte(`{"allow":["*"]}`))
	for i := range 3 * maxJudged {
		a.permits(fmt.Sprint(i))
	}
	if len(a.judged) > maxJudged {
		t.Errorf("%d servers are remembered", len(a.judged))
	}
}

func FuzzACL(f *testing.F) {
	f.Add([]byte(`{"allow":["*"],"deny":["*.evil.example"],"allow_ip_literals":false}`), "a.evil.example:8448")
	f.Add([]byte(`{"allow":["[a-z]?**(","\\"]}`), "[::1]")
	f.Fuzz(func(t *testing.T, content []byte, server string) {
		a := parseACL(content)
		first := a.permits(server)
		if a != nil && (len(a.allow) > maxPatterns || len(a.deny) > maxPatterns) {
			t.Fatal("too many patterns")
		}
		if a.permits(server) != first || parseACL(content).permits(server) != first {
			t.Fatal("judged once so, once so")
		}
	})
}
