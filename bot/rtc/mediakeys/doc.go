// Package mediakeys has the keys with which a call's media are encrypted: ours, and those of the other members. A key goes to one device
// in a to-device event (io.element.call.encryption_keys, MSC4143), Olm-encrypted, and has an index from 0 to 255.
//
// [Distribution] decides when we make a new key, who gets it, and when we begin to use it:
//
//	somebody comes   they get the present key when it is younger than 10 s, else everybody gets a new one
//	somebody leaves  everybody else gets a new key, so that the former member cannot decrypt what follows
//	a new key        is used 1 s after it was sent to everybody; 5 s after it was made at the latest, or 2 s when somebody has left
//	somebody stops   being a recipient while they are in the call: a new key is used at once, even before the others have it
//	a delivered key  is sent once more after 3 s
//	a failed one     is tried again, with a growing wait of up to 30 s
//
// [Received] keeps the keys of others. A key may arrive before its member does.
//
// Both are state machines without I/O and without a clock: the time is an argument. They belong to one goroutine, in this program that of
// rtc.Manager.Run. mautrix has no types for any of this.
package mediakeys
