// Package keystore is mautrix's store of encryption keys with two changes: it decides when a new Olm session is begun, and it deletes what is not
// needed any more. Make one with [New].
package keystore

import (
	"context"
	"sync"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"
)

// Store is mautrix's store of keys. A new Olm session is begun with a device:
//   - with the first message of each run. The database may be a copy that was restored. Then the other side has moved on, and the old session
//     would encrypt two messages with one key;
//   - after Abandon, because a message of the device could not be decrypted.
//
// If no session can be begun, because the device has no one-time keys left, an older one is used. Its methods may be called from any goroutine.
type Store struct {
	*crypto.SQLCryptoStore

	mu      sync.Mutex            // guards settled
	settled map[id.SenderKey]bool // devices with which no new session has to be begun
}

// New makes a store from mautrix's. It does nothing yet.
func New(inner *crypto.SQLCryptoStore) *Store {
	return &Store{SQLCryptoStore: inner, settled: make(map[id.SenderKey]bool)}
}

// HasSession implements crypto.Store. mautrix calls it to learn whether it has to begin a session. It does so once, whether that succeeds or not.
func (s *Store) HasSession(ctx context.Context, key id.SenderKey) bool {
	s.mu.Lock()
	settled := s.settled[key]
	s.settled[key] = true
	s.mu.Unlock()
	return settled && s.SQLCryptoStore.HasSession(ctx, key)
}

// GetLatestSession implements crypto.Store. Without a result mautrix begins a session and asks again.
func (s *Store) GetLatestSession(ctx context.Context, key id.SenderKey) (*crypto.OlmSession, error) {
	if !s.Ready(key) {
		return nil, nil
	}
	return s.SQLCryptoStore.GetLatestSession(ctx, key)
}

// AddSession implements crypto.Store. Either side has begun a session.
func (s *Store) AddSession(ctx context.Context, key id.SenderKey, session *crypto.OlmSession) error {
	err := s.SQLCryptoStore.AddSession(ctx, key, session)
	if err == nil {
		s.mu.Lock()
		s.settled[key] = true
		s.mu.Unlock()
	}
	return err
}

// Ready says whether the next message to a device uses a session that exists. It changes nothing.
func (s *Store) Ready(key id.SenderKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled[key]
}

// Abandon lets the next message to a device begin a new session.
func (s *Store) Abandon(key id.SenderKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.settled, key)
}
