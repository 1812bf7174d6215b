package element

// Message is an event of a room's timeline as the person reads it.
type Message struct {
	ID, Sender, Type string
	TS               int64
	Content          map[string]any
	// Encrypted says that the event was encrypted. Failed says that it could not be decrypted.
	Encrypted, Failed bool
}

// Messages returns the latest events of a room's timeline, decrypted, without state events.
func (g *Guest) Messages(room string) (list []Message, err error) {
	err = g.ask(&list, "host.messages(%s)", room)
	return list, err
}

// Send sends a text message to a room. It is encrypted if the room is.
func (g *Guest) Send(room, text string) {
	g.t.Helper()
	g.do(nil, "host.send(%s, %s)", room, text)
}

// Decline declines a call (MSC4310). notification is the event ID of the call notification.
func (g *Guest) Decline(room, notification string) {
	g.t.Helper()
	g.do(nil, "host.decline(%s, %s)", room, notification)
}

// Event is a state event.
type Event struct {
	ID, Sender, Key string
	TS              int64
	Content         map[string]any
}

// State returns all state events of a type in a room.
func (g *Guest) State(room, kind string) (list []Event, err error) {
	err = g.ask(&list, "host.state(%s, %s)", room, kind)
	return list, err
}

// callMember is the event type of a membership in a call (MSC3401).
const callMember = "org.matrix.msc3401.call.member"

// Members returns the user IDs of the members of a room's call, according to the room's state.
func (g *Guest) Members(room string) (users []string, err error) {
	events, err := g.State(room, callMember)
	for _, e := range events {
		if len(e.Content) > 0 {
			users = append(users, e.Sender)
		}
	}
	return users, err
}
