package rtc

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"

	"go.mau.fi/util/glob"
)

const (
	// maxPatterns caps the patterns of one list of an ACL. Public rooms have some hundreds.
	maxPatterns = 2000
	// maxJudged caps the servers whose judgement is remembered.
	maxJudged = 1000
)

// acl is m.room.server_acl: which homeservers may be in a room. Who is on one that may not can neither be heard nor leave, so that its
// memberships would stand until they expire.
type acl struct {
	literals    bool // servers named by an address may
	allow, deny []glob.Glob
	judged      map[string]bool
}

// parseACL reads an ACL. It returns nil, which lets everybody in, for one that can't be read. Without an allow list nobody may.
func parseACL(content []byte) *acl {
	o, ok := parseObject(content)
	if !ok {
		return nil
	}
	a := &acl{literals: true, judged: make(map[string]bool)}
	if o.has("allow_ip_literals") {
		if a.literals, ok = o.boolean("allow_ip_literals"); !ok {
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

// patterns reads a list of patterns; entries that are none are left out.
func patterns(raw json.RawMessage) (list []glob.Glob, ok bool) {
	if len(raw) == 0 {
		return nil, true
	}
	entries, ok := object{"": raw}.listOf("", maxPatterns)
	if !ok {
		return nil, false
	}
	for _, entry := range entries {
		pattern, ok := text(entry, maxName)
		if !ok {
			continue
		}
		if g := glob.Compile(strings.ToLower(pattern)); g != nil {
			list = append(list, g)
		}
	}
	return list, true
}

// permits says whether a homeserver may be in the room (Matrix specification, server access control lists).
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
