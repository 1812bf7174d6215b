package bot

import (
	"maps"
	"sync"
)

// Reasons why a message was dropped, the keys of Stats.Dropped.
const (
	// DropCleartext is a to-device message that should have been Olm-encrypted.
	DropCleartext = "cleartext"
	// DropUndecryptable is one, or a room event, that our keys don't open.
	DropUndecryptable = "undecryptable"
	// DropUnknownDevice came from a device that its user's homeserver does not list.
	DropUnknownDevice = "unknown_device"
	// DropUntrusted came from a device that its owner has not cross-signed, or whose owner's identity has changed.
	DropUntrusted = "untrusted"
	// DropMalformed makes no sense or is too large.
	DropMalformed = "malformed"
	// DropUnhandled was encrypted, but nobody has registered for its type; or another user's request for a secret of ours.
	DropUnhandled = "unhandled"
	// DropTooMany is a request for a key from a user, or a homeserver, that sent too many of them.
	DropTooMany = "too_many"
)

// Stats counts since the bot was made.
type Stats struct {
	// Responses is how many sync responses were processed.
	Responses uint64
	// Panics is how many calls of a handler ended in a panic.
	Panics uint64
	// Dropped is how many messages were dropped, by reason (DropCleartext and so on).
	Dropped map[string]uint64
}

// Stats returns the counters. The caller may keep the result.
func (b *Bot) Stats() Stats {
	b.stats.mu.Lock()
	defer b.stats.mu.Unlock()
	s := b.stats.s
	s.Dropped = maps.Clone(s.Dropped)
	return s
}

type counters struct {
	mu sync.Mutex // guards s
	s  Stats
}

func (c *counters) drop(reason string, n int) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.s.Dropped == nil {
		c.s.Dropped = make(map[string]uint64)
	}
	c.s.Dropped[reason] += uint64(n)
}

func (c *counters) response() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.Responses++
}

func (c *counters) panicked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.Panics++
}
