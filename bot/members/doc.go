// Package members knows who belongs to the network, for a hub. It is a Matrix account of the hub's own that an admin invites like a window. It goes into
// the room of the windows and into each window's room, and sees who is there. It has no keys, and nobody sends it any: it makes no Olm account and
// uploads no device keys.
//
// Start with [New]. [Members.Run] logs in, accepts the invitations of the configured admins, follows the rooms until its context ends, and is
// back by itself after an outage. [Members.Joined] and [Members.Belongs] answer whether somebody is there. What is not known is "no": before the first
// sync, without an invitation, and for every room that is not a window's.
//
// A room is a window's if a member of a room that an admin invited us to announces it, and if its …window event says that this member is its kiosk.
// Kiosks announce their room in a state event, or in their own membership, whose keys are their user ids; nobody else can write these. Those of earlier
// versions only have it in the Space's list (m.space.child).
//
// Run's goroutine owns what is known, and changes it under a lock. Rooms are joined and left in goroutines that Run waits for. What comes with the first
// sync is not kept over a restart. Kept are the rooms that admins have invited us to, and the windows that they have taken down.
//
// Our own membership of the network's rooms says that we are a hub. Kiosks then invite us into their windows' rooms, which we can't join by ourselves.
//
// Package bot is not used, since it is made for an account with encryption, and package network neither, since it makes a window of its own.
package members
