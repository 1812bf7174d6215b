package sfu

// Identity is our own identity in the room, as the token says.
func (r *Room) Identity() string { return r.identity }
