package turnserver

import (
	"net/netip"
	"time"
)

// The nonces of pion's server are good for an hour and for every source. Whoever hears a request could send it again from
// another address and be served in its user's name, so requests that were served are remembered for as long as their nonce.
const (
	nonceTime  = time.Hour
	replaySize = 1 << 16 // requests in each of two generations: about 10 MB at most
)

// digest is a request's MESSAGE-INTEGRITY: an HMAC over all of it with a key that only user and server know.
type digest [20]byte

// replays remembers which source sent which request. It belongs to one goroutine.
type replays struct {
	young, old map[digest]netip.AddrPort
	turned     time.Time
}

// foreign tells whether the request came from another source before.
func (r *replays) foreign(d digest, source netip.AddrPort) bool {
	before, known := r.young[d]
	if !known {
		before, known = r.old[d]
	}
	return known && before != source
}

// add remembers a request that was served. The older generation goes when it is out of date, or when there is no room.
func (r *replays) add(now time.Time, d digest, source netip.AddrPort) {
	if r.young == nil || len(r.young) >= replaySize || now.Sub(r.turned) > nonceTime {
		r.old, r.young, r.turned = r.young, make(map[digest]netip.AddrPort), now
	}
	r.young[d] = source
}
