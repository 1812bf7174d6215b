package turnserver

// quota counts what one user has taken. It is made with the user's first allocation, and ends with the last one.
type quota struct {
	user        string
	allocations int // with reserved ports; guarded by the server's mutex
	meter       meter
}

// acquireQuota counts n allocations for a user, or returns nil when that would exceed the user's limit or that of all.
func (s *Server) acquireQuota(user string, n int) *quota {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.quotas[user]
	if q == nil {
		q = &quota{user: user, meter: meter{bits: int64(s.cfg.MaxBitratePerUser)}}
	}
	if s.closed || s.total+n > s.cfg.MaxAllocations || q.allocations+n > s.cfg.MaxAllocationsPerUser {
		return nil
	}
	s.quotas[user] = q
	s.total += n
	q.allocations += n
	return q
}

// releaseQuota takes back n allocations that acquireQuota has counted.
func (s *Server) releaseQuota(q *quota, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseQuotaLocked(q, n)
}

// releaseQuotaLocked is releaseQuota for a caller who holds the mutex.
func (s *Server) releaseQuotaLocked(q *quota, n int) {
	s.total -= n
	if q.allocations -= n; q.allocations == 0 {
		delete(s.quotas, q.user)
	}
}

// crowded says whether a user has taken more than half of the allocations that one user may have. A client whose address changes can't close the
// allocations of its old address, and takes as many again at the new one. Left alone, they would use up the quota for ten minutes.
func (s *Server) crowded(q *quota) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return q.allocations > s.cfg.MaxAllocationsPerUser/2
}
