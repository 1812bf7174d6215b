// Package ring has the notifications of calls: rings and their declines in MatrixRTC (MSC4075, MSC4310), and the invitations of legacy
// one-to-one calls (m.call.invite, Matrix specification, Voice over IP), which are rejected.
//
// The functions in notification.go, decline.go and legacy_call.go read and write contents of events. [Tracker] remembers who has rung
// and whom we rang, so that nothing counts twice and nobody can make us ring without end.
//
// There is no I/O and no clock: the time is an argument. A Tracker belongs to one goroutine, in this program that of rtc.Manager.Run.
//
// mautrix has types for m.call.* (event/voip.go). They are not used: its CallVersion is written as the number 1, where version 1 of
// the specification wants the string "1", and CallInviteEventContent lacks the invitee.
package ring
