// Package rtc is the signalling of MatrixRTC calls (MSC4143 as Element's clients speak it): who is in a room's call, how we enter and
// leave it, where its media go, and the keys of the media. It knows nothing of the media themselves.
//
// Make a [Manager] with [NewManager] before the bot starts, and let [Manager.Run] run beside the bot. It watches the calls of all joined
// rooms and reports their foreign members to Config.OnMembers. [Manager.Join] enters the call of one room:
//
//	Manager.Join ──► the first own media key is made                UseKey
//	             │   it is sent to all present members              KeySent, for each batch that was delivered
//	             ├─► discovery of our focus                         Transport, so that media can connect meanwhile
//	             └─► our membership is published, with a delayed leave
//	a member comes ► it gets the present key or a new one           KeySent; UseKey one second after a new key was sent
//	its key comes  ► it is installed for its LiveKit identity       Key
//	a member goes  ► all others get a new key                       KeySent, UseKey
//	SendKeyAgain ──► all get the present key once more              KeySent
//	Renew ─────────► a new membership: all send us their key again  Key
//	Call.Leave ────► the membership is removed; the keys are forgotten
//
// [Manager.Ring] rings people once the call was entered. Their declines, other people's rings, and legacy calls, which are rejected, come
// by Config.OnDecline, OnRing and OnLegacyCall. Only the members say whether somebody calls: a ring may be missing.
//
// An error that another try cannot repair is reported once, as Failed. Everything else is tried for ever, with back-off.
//
// # Who owns what
//
// The rules are state machines without I/O, in packages of their own: [membership] (who is in a call; our own membership), [mediakeys],
// [ring] and [transport]. This package joins them and makes the requests.
//
// The goroutine of Run owns the roster of members, the keys and the rings. The bot's handlers only put functions into its queue, and
// requests run in goroutines that put their result there. Run waits for all of them. Each call has one goroutine more, which owns our
// membership in it (membership.Publisher). All callbacks come from Run's goroutine, with no lock held, and must not block.
//
// # How a membership in sync becomes an answered call
//
//  1. bot.Bot receives the sync response, decrypts what is encrypted, and calls [Manager.handleEvent] (sync.go), which queues it for Run.
//  2. Run gives it to membership.Roster, which parses the dialect (state_event.go or sticky_event.go) and keeps it with its room.
//  3. After each batch, advance (manager.go) asks Roster.Changes and calls Config.OnMembers, which is bridge.Bridge.HandleMembers.
//  4. The bridge's rules decide to answer, and the bridge calls [Manager.Join].
//  5. startCall makes the keys and the publisher. membership.Publisher sends our membership; discover finds our focus.
//  6. The bridge gets Transport, asks [Call.Token] for the SFU's token and connects the media. Key and UseKey say how to decrypt and encrypt.
//
// # Room state
//
// Who is joined to a room is kept three times: in the bot's store, in membership.Roster, and in package network. All three get the same events
// in the same order from the bot's sync, but they need them at different times. The store needs them before anything is decrypted, and on disk,
// in the tables that mautrix reads to encrypt. The roster needs them event by event, in order with memberships and keys, since a key that
// arrives a moment later is installed with their help. The network needs them when a whole sync response was read, since it must not act on half
// of one. Three goroutines would have to lock one shared copy, and a decision could see the copy change half-way. Only m.room.member and
// m.room.create are read by more than one of the three. Each takes another part of m.room.member: the roster who is joined, the network also
// names, invitations and bans. Reading an event costs less than ten lines. Every copy starts from the full state that bot.Start dispatches, so
// the copies cannot differ for longer than one response.
//
// # Libraries
//
// Requests go through mautrix's Client: the membership and the delayed leave (ReqSendEvent.UnstableDelay), delayed events by
// UpdateDelayedEvent, OpenID tokens by RequestOpenIDToken. Delayed events are first updated at the path of MSC4140's newest text, for which
// mautrix has no method. /versions is read by hand, since RespVersions fails as a whole when one feature is not a boolean, and the call
// would never be entered. See package transport for what mautrix has there. The unstable names are in bot/unstable.
package rtc
