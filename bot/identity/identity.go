// Package identity knows whose identity (cross-signing master key) is not the one that was first seen. mautrix keeps the first one in the database for
// good, and trusts no device that another identity has signed. This package tells the owner about such users, so that somebody can confirm the new
// identity, which mautrix leaves to its user.
package identity

import (
	"context"
	"fmt"
	"sync"

	"go.mau.fi/util/dbutil"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"
)

// maxNew is how many users with a new identity are reported. Others get no keys either, but nobody can confirm them.
const maxNew = 1000

// Tracker reports new identities. Its methods may be called from any goroutine.
type Tracker struct {
	store *crypto.SQLCryptoStore
	onNew func(user id.UserID, key id.Ed25519)

	mu  sync.Mutex // guards what follows
	new map[id.UserID]id.Ed25519
}

// New makes a Tracker. onNew is called when a user's identity turns out to be new, with the present key, and with an empty key when it is confirmed or
// the first one again. It must not block.
func New(store *crypto.SQLCryptoStore, onNew func(user id.UserID, key id.Ed25519)) *Tracker {
	return &Tracker{store: store, onNew: onNew, new: make(map[id.UserID]id.Ed25519)}
}

// Changed returns the identity that a user has now, if it is not the one that was first seen. Otherwise it returns "".
func (t *Tracker) Changed(ctx context.Context, user id.UserID) (id.Ed25519, error) {
	keys, err := t.store.GetCrossSigningKeys(ctx, user)
	if err != nil {
		return "", fmt.Errorf("look up the identity of %s: %w", user, err)
	}
	master, ok := keys[id.XSUsageMaster]
	if !ok || master.Key == master.First {
		return "", nil
	}
	return master.Key, nil
}

// Report looks at a user's identity, which may have changed, and tells the owner if there is news.
func (t *Tracker) Report(ctx context.Context, user id.UserID) error {
	key, err := t.Changed(ctx, user)
	if err != nil {
		return err
	}
	if t.set(user, key) {
		t.onNew(user, key)
	}
	return nil
}

// set notes a user's new identity, or with an empty key that there is none. It says whether that is news.
func (t *Tracker) set(user id.UserID, key id.Ed25519) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.new[user] == key:
		return false
	case key == "":
		delete(t.new, user)
	case t.new[user] == "" && len(t.new) >= maxNew:
		return false
	default:
		t.new[user] = key
	}
	return true
}

// ReportAll tells the owner about all new identities in the database.
func (t *Tracker) ReportAll(ctx context.Context) error {
	users, err := t.changed(ctx)
	for _, user := range users {
		if err == nil {
			err = t.Report(ctx, user)
		}
	}
	return err
}

func (t *Tracker) changed(ctx context.Context) ([]id.UserID, error) {
	rows, err := t.store.DB.Query(ctx, "SELECT user_id FROM crypto_cross_signing_keys WHERE usage='master' AND key<>first_seen_key")
	users, err := dbutil.NewRowIterWithError(rows, dbutil.ScanSingleColumn[id.UserID], err).AsList()
	if err != nil {
		return nil, fmt.Errorf("look up new identities: %w", err)
	}
	return users, nil
}

// Unknown returns those of some users whose identity was never seen.
func (t *Tracker) Unknown(ctx context.Context, users []id.UserID) (unknown []id.UserID, err error) {
	for _, user := range users {
		keys, err := t.store.GetCrossSigningKeys(ctx, user)
		if err != nil {
			return nil, fmt.Errorf("look up the identity of %s: %w", user, err)
		}
		if len(keys) == 0 {
			unknown = append(unknown, user)
		}
	}
	return unknown, nil
}

// Confirm makes a user's present identity the trusted one. If it is not key any more, that is an error.
func (t *Tracker) Confirm(ctx context.Context, user id.UserID, key id.Ed25519) error {
	if err := t.store.ResetMasterKeyTOFU(ctx, user, key); err != nil {
		return fmt.Errorf("confirm the identity of %s: %w", user, err)
	}
	return t.Report(ctx, user)
}
