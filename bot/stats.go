package bot

import (
	"maps"
	"sync"
)

// Reasons why a message was dropped, the keys of Stats.Dropped.
const (
	// DropCleartext is a to-device message that should have been Olm-encrypted.
	DropCleartext = "cleartext"
	// DropUndecryptable is a to-device message or a room event that our keys don't decrypt.
	DropUndecryptable = "undecryptable"
	// DropStranger is a to-device message of a user who is in no room with us.
	DropStranger = "stranger"
	// DropUnknownDevice is a message from a device that its user's homeserver does not list.
	DropUnknownDevice = "unknown_device"
	// DropUntrusted is a message from a device that its owner has not cross-signed, or whose owner's identity has changed.
	DropUntrusted = "untrusted"
	// DropMalformed is a message or an event that can't be parsed or is too large.
	DropMalformed = "malformed"
	// DropUnhandled is a message of a type without a handler, or another user's request for a secret of ours.
	DropUnhandled = "unhandled"
	// DropTooMany is a message of a user or a homeserver that has sent too many, or caused too much work.
	DropTooMany = "too_many"
)

// Stats counts since the bot was made.
type Stats struct {
	// Responses are the sync responses that were processed. While it grows, the homeserver answers.
	Responses uint64
	// Panics are the calls of a handler, or of mautrix's encryption, that panicked. Each is a bug.
	Panics uint64
	// Dropped are the messages that were dropped, by reason (DropCleartext and so on): an attack, or a client with a bug.
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

// count adds one to a counter in s.
func (c *counters) count(counter *uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*counter++
}
