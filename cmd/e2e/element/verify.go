package element

// Compare begins a comparison of emoji with a device, as Element does at a session of another user, and returns the emoji that Element shows.
func (g *Guest) Compare(user, device string) (emoji []string, err error) {
	err = g.ask(&emoji, "host.compare(%s, %s)", user, device)
	return emoji, err
}

// AnswerEmoji presses "They match" or "They don't match". It returns how the comparison ended: "done", or Element's error.
func (g *Guest) AnswerEmoji(same bool) (ended string, err error) {
	err = g.ask(&ended, "host.answer(%s)", same)
	return ended, err
}

// Confirmed says whether the guest has confirmed the identity of a user.
func (g *Guest) Confirmed(user string) (confirmed bool, err error) {
	err = g.ask(&confirmed, "host.confirmed(%s)", user)
	return confirmed, err
}
