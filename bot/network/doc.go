// Package network is one window's part in its network: its admission, its own room, and the directory of the other windows.
//
// A network is a Matrix Space that an admin made (package newnetwork), and a room for its windows. Whom an admin invites into that room is a window; it comes into
// the Space by itself (restricted join, MSC3083). Whom an admin invites into the Space is a person. Space and room name each other in their …network
// events. Networks of earlier versions have no such room, so everybody in the Space can be a window, and what follows happens in the Space alone.
//
// The admin invites a bot. [Network.Run] accepts, makes the bot's
// encrypted window room, announces it in the room of the windows (…room), and finds every other window in the same way:
//
//	windows ── …room of @dresden ──► window room of Dresden    …window: kiosk, shutter, since, facing, city
//	        ── …room of @munich  ──► window room of Munich     joined by everybody in the Space (restricted join, MSC3083)
//
// The key of a …room event is the kiosk's user id. Homeservers refuse such a key from anybody else, so nobody can change what a kiosk announces. The
// Spaces of earlier versions do not let kiosks send it: there they announce their room in their membership, which nobody else can write, either.
// A room counts as a window only if its …window event is from the kiosk that announces it, and that kiosk is in the Space. A user who is removed from
// the Space is also removed from our own window room. What members write is limited in length, and cleaned of control characters.
//
// The Space also has a list of rooms for people (m.space.child), into which each kiosk puts its own. Any member can overwrite it. We learn one thing
// from it: an admin took a window out of the list, and with that out of the network.
//
// Which accounts are windows or were is remembered (known.go). One that left the Space or was removed is answered by nobody until an admin has
// invited it again, as a window or as a guest.
//
// A window whose kiosk gives its homeserver no sign of life (package alive) is gone: the homeserver says so in its room (…gone).
//
// The network's Space is the one that the accepted invitation of a configured admin led to. The kiosk's database keeps it (store.go). Only its own
// tombstones lead to another one. The bot leaves every other Space. A database of an earlier version says nothing about it: see adopt.go.
//
// When the Space is upgraded, the bot joins the new one once it is invited there, and announces its own room again. What is announced in
// the old Space, and its members, count until the new one says something else. If the bot's own account upgrades a window room, the new room replaces it.
//
// # How an admin's invitation becomes a tile
//
//  1. bot.Bot hands over the invitation's stripped state. [Network.collect] and [Network.commit] (reconcile.go) queue it for Run.
//  2. applyInvite (invitations.go) notes who invites. inviteTasks accepts an admin's invitation: acceptTask joins the room of the windows, and enterTask
//     the Space.
//  3. The state of the Space goes into the model (room_state.go), and chooseSpace (space.go) makes it the network.
//  4. ownTasks (own_room_tasks.go) makes the window's room, announceTasks (announce.go) make it known.
//  5. At another kiosk, sync shows the …room event. movements (movements.go) makes it join the room, and judge (windows.go) accepts it.
//  6. directory (windows.go) lists it, publish (network.go) calls Config.OnChange, and the bridge asks [Network.Windows] and shows a tile.
//
// # Who owns what
//
// Start with [New], which registers handlers on the bot. Call [Network.Run] when the bot's Start has returned. Run's goroutine owns
// everything: the handlers put whole sync responses into its queue, and requests run in goroutines of their own and put their result there.
// Run compares the rooms with how they should be (reconcile.go) and makes the requests that are missing (package tasks), until nothing is
// missing. A start, a crash half-way and an outage need no other code. Package rtc says why the members of rooms are kept here as well as
// there and in the bot.
//
// The package knows nothing of calls.
package network
