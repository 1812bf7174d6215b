// Package bridge is the window itself: it joins the bot's calls to media, to the page and to the people before it.
//
// Who owns what:
//
//   - [Bridge.Run] is the one goroutine that owns the window's state. Everything that happens outside (a press on
//     the page, a membership in a room, a lost SFU) is put into its queue by the Handle methods, which never block.
//   - machine is the pure part: facts in, a plan out, no goroutine, no clock of its own. The plan says how the world
//     should look now: which call to be in, whom to show, whether anything may leave the camera, what the page shows,
//     what the network is told, and when to look again.
//   - Run compares the plan with what is, and joins, leaves, opens and shuts accordingly. Leaving a call takes up to
//     five seconds, so it is done by a goroutine of its own, for which Run waits before it returns.
//
// Two open windows find each other without any message of their own: both read both window states. The call happens
// in the room of the window that has been open longer; the one that opened later joins it, the other answers whoever comes, other
// windows before guests. Where both called, since each knew an old state of the other, the host by that rule goes home. A window says
// that it faces another only when that one is in the call, and gives up one that does not come within a few seconds: a kiosk that lost
// its power is open in the directory until it is back.
//
// On an ajar window a call is a knock, and nobody is in it before somebody has let them in; on a shut one it is declined. A call has one set
// of keys, so that whoever comes to those who were let in sees what they see. What the machine wants said in the room, or declined, is an
// errand: Run hands each out once.
//
// Nothing leaves the camera while nobody else is seen, but for the first seconds and for moments far apart: two sides that both
// wait to see the other first would wait for ever.
package bridge
