// Package bot is the Matrix user of a window. It logs in, syncs, encrypts and decrypts, so that the packages that use it see plain events
// and send plain contents.
//
// [New] makes a [Bot]. Handlers are registered with [Bot.On], [Bot.OnToDevice] and [Bot.OnSynced]. Then [Bot.Start] logs in and
// dispatches the state of all joined rooms, and [Bot.Run] syncs until its context ends.
//
// # What it promises
//
//   - Nothing is sent in the clear to a room that was ever seen encrypted. That also holds for [Bot.Client]. Before the first message to
//     a room its state is fetched. Keys go only to devices of joined members, and only to devices that their owner has cross-signed
//     (MSC4153; identities are trusted on first use), unless Config.AcceptUnsignedDevices says otherwise.
//   - A to-device handler sees only what came Olm-encrypted from a known device that is trusted in the same sense. Everything else is
//     dropped and counted, see [Stats].
//   - To-device messages of users who are in no room with us are dropped unread. What others' messages make us do comes out of one budget for
//     each user and each homeserver, see package budget. Nothing that they send is kept but room keys and Olm sessions of known devices.
//   - The position in the sync stream is stored after a response was processed. A response that a power cut interrupts is processed again, so
//     handlers may see an event twice.
//   - The homeserver may be away at any time, for any time. Start and Run go on trying, with growing pauses.
//   - Two bots that run on copies of one data folder would break each other's encryption for good. Each start writes a random number to
//     the database and to the account data. If the two differ, Start and Run end with [ErrCopied].
//   - If the database is replaced by a copy of itself, others understand the bot again at once, and the bot understands them after a message or two:
//     each run begins new sessions, and so does each message that can't be decrypted.
//   - Keys of rooms are deleted after a day, and Olm sessions that nobody has used for a month.
//
// Everything is kept in the database that it is given, apart from two keys. The recovery key is in a file of the data folder, so that people can
// make a copy of it. The key that encrypts the database's keys is in another, so that the database alone is of no use. The package
// knows nothing of calls or windows.
//
// # Who owns what
//
// One goroutine calls Start and then Run. It owns the connection's state and the processing of sync responses, and it calls all handlers, in the
// order in which the homeserver sends the events. Handlers must not block. Requests that sync need not wait for run in goroutines of their own,
// and Run waits for them at its end. Everything that other goroutines use has a lock or is not changed after Start.
//
// # Why not mautrix's own parts
//
//   - cryptohelper, and the login with it: it decrypts to-device events of unknown types, such as media keys, and throws them away. It
//     asks for the database driver by name, which would be the one that needs cgo. It has no check for copied data folders.
//   - Client.Sync: it stores the position before the response is processed, so that a power cut loses to-device keys for good. Its
//     default syncer waits 10 seconds after each error, and one event that cannot be parsed makes the whole response an error.
package bot
