// Package bridge is the window itself: it connects the bot's calls, their media and the page that people see.
//
// Who owns what:
//
//   - [Bridge.Run] is the one goroutine that owns the window's state. Everything that happens outside (a press on the page, a
//     membership in a room, a lost SFU) is put into its queue by the Handle methods, which never block.
//   - Package window has the rules. Run tells them each fact, lets them advance to the present time, and reads the plan: which call
//     to be in, whom to show, whether anything may be sent, what the page shows, what the network is told, and when to look
//     again. The rules do nothing by themselves.
//   - Run compares the plan with the present state, and makes the changes. Leaving a call takes up to six seconds, and
//     sending a message to a room takes as long as the homeserver does. Both are done by goroutines of their own. Run waits for all
//     of them before it returns.
//
// Where things are: bridge.go has the interfaces and the loop. page.go handles the page's messages and its media connection.
// connection.go has the call of a visit, with its media. show.go makes the page's state. send.go sends to the room.
package bridge
