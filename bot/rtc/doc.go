// Package rtc is the signalling of MatrixRTC calls (MSC4143 as Element's clients speak it): who is in a room's call, how we enter and
// leave it, where media goes (MSC4195), and the keys of the media. It knows nothing of the media itself.
//
// Make a [Manager] with [NewManager] before the bot starts, and let [Manager.Run] run beside the bot. It watches the calls of all joined
// rooms and reports their foreign members to Config.OnMembers. [Manager.Join] enters the call of one room:
//
//	Manager.Join ──► own media key 0 is made                        UseKey
//	             │   it goes by Olm to all present members          KeySent, for each batch that was delivered
//	             ├─► discovery: the homeserver's transports,        Transport, so that media can connect meanwhile
//	             │   else .well-known, else FallbackService
//	             └─► /versions, delayed leave (MSC4140), membership, restart of the delayed leave;
//	                 then a restart every 4 s, a refresh every hour
//	a member comes ► it gets the present key or a new one           KeySent; UseKey one second after a new key was sent
//	its key comes  ► it is installed for its LiveKit identity       Key
//	a member goes  ► all others get a new key                       KeySent, UseKey
//	SendKeyAgain ► all get the present key once more                KeySent
//	Renew        ► a new membership: all send us their key again    Key
//	Call.Leave   ──► the delayed leave is fired, else the membership is emptied; the keys are forgotten
//
// [Manager.Ring] rings people once the call was entered; their declines, other people's rings, and calls of the old kind, which get a reject,
// come by Config.OnDecline, OnRing and OnLegacyCall. Whether somebody calls is said by the members alone: a ring may be missing.
//
// What can't be repaired by trying again is reported once, as Failed. Everything else is tried for ever with back-off.
//
// Who owns what: Run's goroutine owns rosters, received keys and the roll-out of own keys; the bot's handlers only put events into
// its queue. Each call has one goroutine that owns its own membership (the announcer). Both are pure machines that take the time as an
// argument; the network is spoken to by goroutines that report back, and for which Run waits. All callbacks come from Run's goroutine,
// under no lock, and must not block.
//
// The form that is sent is Element Call's compatibility mode: a state event, multi_sfu, /sfu/get. Sticky memberships (Matrix 2.0) are
// read as well. The unstable names are in bot/unstable.
package rtc
