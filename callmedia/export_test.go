package callmedia

// Stats returns what [SessionConfig.Counters] counted so far.
func (s *Session) Stats() Stats { return s.counters.Stats() }
