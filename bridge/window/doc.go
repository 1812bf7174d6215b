// Package window is the rules of one window: facts in, a plan out. It decides which call the window is in, whom it shows, whether the
// camera's picture may be sent, what people see on the screen, and what the network and the room are told.
//
// The package is pure: no input or output, no goroutine, no clock of its own, and the same facts give the same plan. It imports the standard
// library, identifier types and package directory. A [Rules] belongs to one goroutine, that of [multifactorymodel.org/ewindow/bridge.Bridge.Run].
// That goroutine reports each fact by a method. It then calls [Rules.Advance] with the present time, does what [Rules.Plan] says, and sends
// what [Rules.TakeMessages] returns, once. Reading the plan changes nothing.
//
// # Who calls whom
//
// Two open windows find each other without any message of their own: both read both window states. The call happens in the room of
// the window that has been open longer. The window that opened later joins it. The other one answers anybody who comes, other windows
// before guests. Both windows may call at once when each has an old state of the other. Then the window that has been open longer leaves
// the other's call and answers in its own room.
//
// A window announces that it faces another window only when both are in the call. It gives up a called window that does not come within
// twelve seconds: a kiosk that lost its power stays open in the directory until it is back.
//
// A call at an ajar window is a knock: the window joins the call only when somebody at it has let the caller in. A call at a shut window
// is declined.
//
// # What happens
//
// The table has everything that may happen, and what follows in each position of the shutter. It is a test as well: table_test.go
// reads it and tries each cell. "Unchanged" also stands for what cannot happen there, such as an answer to a knock at a shut window.
//
//	event                               | open            | ajar            | shut
//
//	nobody is there
//	press open                          | unchanged       | open            | open
//	press ajar                          | ajar            | unchanged       | ajar
//	press shut                          | shut            | shut            | unchanged
//	an open window is chosen            | calls it        | unchanged       | unchanged
//	a shut window is chosen             | unchanged       | unchanged       | unchanged
//	a window is open for longer         | calls it        | unchanged       | unchanged
//	a window has just opened            | expects it      | unchanged       | unchanged
//	a window opens, facing another      | unchanged       | unchanged       | unchanged
//	a window's identity is new          | asks            | asks            | tells
//	emoji are to be compared            | compares        | compares        | compares
//	a window with a new identity calls  | asks            | asks            | tells
//	a window calls                      | answers         | knock           | missed
//	a guest calls                       | answers         | knock           | declines
//	a guest rings, but does not come    | unchanged       | knock           | declines
//	a removed kiosk calls               | unchanged       | unchanged       | unchanged
//	a guest calls in the legacy way     | explains        | explains        | explains
//	people are to be rung               | rings           | rings           | unchanged
//	the call cannot be entered          | alone           | ajar            | unchanged
//	no focus is known                   | fault           | fault           | unchanged
//	the homeserver is lost              | fault           | fault           | shut, fault
//	the window leaves the network       | fault           | fault           | fault
//	the page is gone                    | fault, as shut  | fault, as shut  | unchanged
//	the camera fails                    | fault, as shut  | fault, as shut  | unchanged
//
//	somebody has knocked
//	let in                              | unchanged       | answers         | unchanged
//	not now                             | unchanged       | refuses         | unchanged
//	nobody answers                      | not seen        | gives up        | unchanged
//	the guest leaves                    | alone           | ajar, missed    | shut
//	another guest calls                 | joins           | knock           | missed
//	press open                          | unchanged       | answers         | answers
//	press ajar                          | knock           | unchanged       | knock
//	press shut                          | shut            | declines at once| unchanged
//
//	people are being rung
//	press open                          | unchanged       | open            | open
//	press ajar                          | ajar            | unchanged       | ajar
//	one of them comes                   | answers         | answers         | declines
//	a window calls                      | answers         | answers         | missed
//	all decline                         | alone, declined | ajar, declined  | unchanged
//	nobody comes                        | alone, nobody   | ajar, nobody    | unchanged
//	cancelled                           | alone           | ajar            | unchanged
//	ringing fails                       | alone, failed   | ajar, failed    | unchanged
//	the homeserver is lost              | fault           | fault           | shut, fault
//	press shut                          | shut            | shut            | unchanged
//
//	in a visit with a window
//	press open                          | unchanged       | answers         | answers
//	press ajar                          | knock           | unchanged       | knock
//	the other window leaves             | waits           | waits           | shut
//	the other window shuts              | alone           | ajar            | shut
//	its picture stops                   | lost            | lost            | unchanged
//	its picture comes back              | visit           | visit           | unchanged
//	it shows nothing for long           | begins again    | begins again    | unchanged
//	a guest joins                       | visit, guest    | visit, guest    | missed, told
//	a guest who joined is not seen      | unseen          | unseen          | missed, told
//	the other window's identity is new  | asks            | asks            | tells
//	somebody unknown connects           | unknown         | unknown         | unchanged
//	a third window calls                | visit, third    | visit, third    | missed
//	another open window is chosen       | begins again    | unchanged       | unchanged
//	the focus is lost                   | visit, hub      | visit, hub      | unchanged
//	the homeserver is lost              | visit, fault    | visit, fault    | shut, fault
//	the page is gone for a moment       | silent          | silent          | unchanged
//	the page is gone                    | fault, as shut  | fault, as shut  | unchanged
//	the camera fails                    | fault, as shut  | fault, as shut  | unchanged
//	the other window's member is stale  | unchanged       | unchanged       | unchanged
//	press shut                          | shut            | shut            | unchanged
//
//	in a visit with a guest
//	the guest leaves                    | waits           | waits           | shut
//	the guest's member is stale         | removes         | removes         | unchanged
//	the guest's camera is off           | held back       | held back       | unchanged
//	who has no camera is let talk       | talks           | talks           | unchanged
//	the guest's picture can't be shown  | not shown       | not shown       | unchanged
//	the guest's device is not confirmed | withheld        | withheld        | unchanged
//	emoji are to be compared            | unchanged       | unchanged       | compares
//	the guest's identity is new         | renewed         | renewed         | unchanged
//	somebody unknown connects           | unknown         | unknown         | unchanged
//	more than 16 people call            | visit, 3 more   | visit, 3 more   | missed
//	a window calls                      | joined          | joined          | missed
//
// # Whoever is named gets the key
//
// There is one list of the people in the call: [Plan.Named]. The screen names them, and their devices get our media key. A person is on it from the
// moment when their membership is known until they are taken off: they leave, or they are missing at the SFU for [StaleAfter]. The call then uses a
// new key at once. See guests.go.
//
// Whoever is at the SFU without a membership gets no key. The screen says that somebody unknown is there, after [StrangerGrace]. See strangers.go.
//
// # The first identity is kept
//
// A window whose identity is not the one that was first seen is treated like one that was removed from the network, until somebody at this window
// confirms the new identity: the screen asks for that. A guest with a new identity gets no key, is told so, and people are asked after the call. The window's
// room is told as well ("asks" and "tells" above), and an admin can confirm it there. See identities.go.
//
// # Nothing unseen
//
// The window sends nothing while nobody else is seen. There are two exceptions: the first seconds of a visit, and short trials far apart.
// Without them, two sides that both wait to see the other first would wait for ever. Guests get them only when they have announced a camera.
// See reciprocity.go.
//
// The same holds for each person. Whoever has our key decrypts what we send, so somebody who is not seen loses it when they have got our picture for
// [PictureBudget] within an hour. They lose the sound, too: it has the same key. As soon as they are seen they get it again. See unseen.go. Two
// windows that make trials of each other are excepted, and guests whom the window's people allow to see without being seen. The screen says so.
//
// While all guests have their cameras off, or have none, people at the window may let one of them talk, by a press. Then sound goes both ways between
// the window and that guest. The picture stays held back. See voice.go.
//
// # Where things are
//
// rules.go has the facts about this window, windows.go the facts about other windows, and stale.go and strangers.go those about the members
// of calls and the participants at the SFUs.
// plan.go has the steps of Advance and the plan, and screen.go what people see. answering.go decides which call to be in: whom to answer,
// and whom to call. These have a type and a file of their own: visit, knock, ringing, loss, reciprocity, countdown. reconnect.go has
// how long the window waits for others, and package redial when it calls them again. outbox.go and package notice have what is sent.
package window
