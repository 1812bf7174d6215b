package membership

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"

	"go.mau.fi/util/glob"

	"multifactorymodel.org/ewindow/bot/strictjson"
)

const (
	// maxPatterns limits the patterns of one list. Public rooms have some hundreds.
	maxPatterns = 2000
	// maxJudged limits the servers whose result is remembered.
	maxJudged = 1000
)

// acl is m.room.server_acl: which homeservers may be in a room. Events of users on a banned server no longer reach the room. Such a
// user can neither take part in the call nor leave it, so its memberships would stay until they expire.
type acl struct {
	literals    bool // servers whose name is an IP address are allowed
	allow, deny []glob.Glob
	judged      map[string]bool
}

// parseACL reads an ACL. One that cannot be read is nil, which allows every server. Without an allow list no server is allowed.
func parseACL(content []byte) *acl {
	o, ok := strictjson.Parse(content)
	if !ok {
		return nil
	}
	a := &acl{literals: true, judged: make(map[string]bool)}
	if o.Has("allow_ip_literals") {
		if a.literals, ok = o.Boolean("allow_ip_literals"); !ok {
			a.literals = true
		}
	}
	var ok1, ok2 bool
	a.allow, ok1 = patterns(o["allow"])
	a.deny, ok2 = patterns(o["deny"])
	if !ok1 || !ok2 {
		return nil
	}
	return a
}

// patterns reads a list of patterns. Entries that are not strings are left out.
func patterns(raw json.RawMessage) (list []glob.Glob, ok bool) {
	if len(raw) == 0 {
		return nil, true
	}
	entries, ok := strictjson.Object{"": raw}.ListOf("", maxPatterns)
	if !ok {
		return nil, false
	}
	for _, entry := range entries {
		pattern, ok := strictjson.Text(entry, strictjson.MaxName)
		if !ok {
			continue
		}
		if g := glob.Compile(strings.ToLower(pattern)); g != nil {
			list = append(list, g)
		}
	}
	return list, true
}

// permits says whether a homeserver may be in the room (Matrix specification, server access control lists). It remembers the answers,
// since the roster asks for every member at every change.
func (a *acl) permits(server string) bool {
	if a == nil {
		return true
	}
	if known, ok := a.judged[server]; ok {
		return known
	}
	name := strings.ToLower(server)
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	permitted := a.judge(name)
	if len(a.judged) >= maxJudged {
		clear(a.judged)
	}
	a.judged[server] = permitted
	return permitted
}

func (a *acl) judge(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil && !a.literals {
		return false
	}
	for _, g := range a.deny {
		if g.Match(name) {
			return false
		}
	}
	for _, g := range a.allow {
		if g.Match(name) {
			return true
		}
	}
	return false
}
