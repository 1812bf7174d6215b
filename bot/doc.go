// Package bot is the Matrix user of a window: it logs in, syncs, and encrypts and decrypts, so that the packages that stand on it see
// plain events and send plain contents.
//
// [New] makes a [Bot]; handlers are registered with [Bot.On], [Bot.OnToDevice] and [Bot.OnSynced]; then [Bot.Start] logs in and
// dispatches the state of all joined rooms, and [Bot.Run] syncs until its context ends. Handlers are called by one goroutine, Start's
// and then Run's, in the order in which the homeserver tells things, and must not block.
//
// # What it promises
//
//   - In a room that was ever seen encrypted nothing is sent in the clear, not through [Bot.Client] either. Before the first message to
//     a room its state is fetched. Keys go to joined members' devices only, and to those devices that their owner has cross-signed
//     (MSC4153; identities are trusted on first use), unless Config.AcceptUnsignedDevices says otherwise.
//   - A to-device handler sees only what came Olm-encrypted from a known device that is trusted in the same sense. All else is dropped
//     and counted, see [Stats].
//   - The position in the sync stream is stored after a response was processed: what a power cut interrupts is processed again. Handlers
//     may therefore see an event twice.
//   - The homeserver may go away at any time, for any time. Start and Run go on trying, with growing pauses.
//   - Two bots that run on copies of one data folder would break each other's encryption for good. Each start writes a random number to
//     the database and to the account data; where the two differ, Start and Run end with [ErrCopied].
//
// It keeps everything in the database that it is given, apart from the recovery key, which stands in a file of the data folder for
// people to keep. It knows nothing of calls or windows.
package bot
