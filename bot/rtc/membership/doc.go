// Package membership knows who is in the calls of rooms (MatrixRTC memberships, MSC4143), and keeps our own membership there.
//
// [Roster] is what sync says. Element's clients speak two dialects, and both are read: a state event for each device (state_event.go,
// MSC3401 as Element Call's compatibility mode sends it) and a sticky event of the timeline (sticky_event.go, MSC4354). A member counts
// when its user is joined to the room, its homeserver may be in the room (server_acl.go), and its membership has not expired. Roster has no
// clock and does no I/O: the time is an argument. It belongs to one goroutine, in this program that of rtc.Manager.Run.
//
// [Publisher] sends our own membership, always as a state event, and removes it. Its goroutine, the one that calls [Publisher.Run],
// owns the membership manager (manager.go), a state machine without I/O that says which request comes next:
//
//	Run ──► cancel the delayed leaves of earlier runs (MSC4140)
//	    ──► /versions: does the homeserver have delayed events?
//	    ──► schedule the delayed leave: the homeserver empties our membership 18 s after we were last heard of
//	    ──► send the membership, and wait until sync shows it
//	    ──► every 4 s restart the delayed leave, every hour refresh the membership (expiry.go)
//	leave ► send the delayed leave now, else empty the membership
//
// [DelayedLeaves] keeps the ids of delayed leaves in the database, so that the next run of the program can cancel them.
//
// mautrix's Client sends the membership, schedules the delayed leave and reads the state. It has no types for memberships and no
// equivalent of matrix-js-sdk's MembershipManager, so these are written here.
package membership
