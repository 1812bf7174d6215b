// Package network is one window's place in its network: the admission, the own room, and the directory of the others.
//
// A network is a Matrix Space that an admin made with [Create]. The admin invites a bot; [Network.Run] accepts, makes the bot's
// encrypted window room, hangs it into the Space (m.space.child), and from then on finds every other window by the same token:
//
//	Space ── m.space.child ──► window room of Dresden    …window: kiosk, shutter, since, facing, city
//	      ── m.space.child ──► window room of Munich     joined by everybody in the Space (restricted join, MSC3083)
//
// A window is believed only if the sender of its …window event is the kiosk that it names, that kiosk is in the Space, and it (or
// an admin) hung the room in. Whoever is removed from the Space is removed from the own window room. What members write is
// capped, and cleaned of control characters.
//
// When the Space is upgraded, the bot follows into the room that took its place, once it is invited there, and hangs its own room in again;
// what hung in the old one, and who was in it, counts until the new one says something else. A window's room that its own account upgrades
// is followed as well.
//
// Start with [New], which registers handlers on the bot; call [Network.Run] when the bot's Start has returned. The owner of
// everything is Run's goroutine: handlers put whole sync responses into its queue, requests run beside it and put their result
// there too. It compares how things should be with how they are, so that a start, a crash half-way and an outage are all the
// same to it: what is missing is done, one request after another, until it is there.
//
// The package knows nothing of calls.
package network
