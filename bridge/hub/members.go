package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/bot/members"
	"multifactorymodel.org/ewindow/bot/privatefile"
)

// recheckEvery is how often the SFU is asked who is there even if nothing has changed, recheckAgain how soon it is asked again if not all is done.
const recheckEvery, recheckAgain = time.Minute, time.Second

// startMembers starts the account that knows who belongs to the network. The homeserver has been started.
func (h *hub) startMembers(ctx context.Context) error {
	a := h.cfg.Account
	if !needsAccount(&h.cfg) {
		return nil
	}
	address, password := a.HomeserverURL, a.Password
	if address == "" {
		var err error
		if address, password, err = h.makeAccount(ctx); err != nil {
			return err
		}
	}
	if len(a.Admins) == 0 {
		h.cfg.Log.Warn().Msg("network.admins is empty, so nobody can invite the hub's account into the network, and nobody gets access to calls")
	}
	changed := make(chan struct{}, 1)
	m, err := members.New(members.Config{
		HomeserverURL: address, Username: a.Username, Password: password, Admins: a.Admins, File: filepath.Join(h.cfg.DataDir, "hub-network.json"),
		OnChange: func() {
			h.admit()
			select {
			case changed <- struct{}{}:
			default: // it is looked at anyway
			}
		},
		Log: h.cfg.Log.With().Str("part", "members").Logger(),
	})
	if err != nil {
		return err
	}
	h.members = m
	h.parts.Go("who belongs to the network", m.Run)
	h.parts.Go("removed participants", func(ctx context.Context) error {
		timer := time.NewTimer(recheckEvery)
		defer timer.Stop()
		for {
			select {
			case <-changed:
			case <-timer.C:
			case <-ctx.Done():
				return nil
			}
			next := recheckEvery
			if h.proxy != nil && !h.proxy.Recheck(ctx) {
				next = recheckAgain
			}
			timer.Reset(next)
		}
	})
	return nil
}

// makeAccount makes the hub's account on its own Dendrite, unless an earlier start has made it.
func (h *hub) makeAccount(ctx context.Context) (address, password string, err error) {
	a := h.cfg.Account
	if password = a.Password; password == "" {
		file := filepath.Join(h.cfg.DataDir, "hub-password")
		password, err = privatefile.Read(file)
		if errors.Is(err, fs.ErrNotExist) {
			password = rand.Text()
			err = privatefile.Write(file, []byte(password))
		}
		if err != nil {
			return "", "", fmt.Errorf("keep the password of the hub's account: %w", err)
		}
	}
	_, err = homeserver.Register(ctx, http.DefaultClient, h.dendrite, h.registration, a.Username, password, false)
	if err != nil && !errors.Is(err, mautrix.MUserInUse) {
		return "", "", fmt.Errorf("make the hub's account: %w", err)
	}
	return h.local, password, nil
}

// joined says whether a user gets access to the call of a room. It may wait a moment for somebody who is just joining.
func (h *hub) joined(ctx context.Context, user id.UserID, room id.RoomID) bool {
	return h.cfg.Open || h.members != nil && h.members.Joined(ctx, user, room)
}

// isJoined is the same without waiting.
func (h *hub) isJoined(user id.UserID, room id.RoomID) bool {
	return h.cfg.Open || h.members != nil && h.members.IsJoined(user, room)
}

// whyNot says why a user gets no access to a room's call.
func (h *hub) whyNot(user id.UserID, room id.RoomID) string {
	if h.members == nil {
		return "the hub has only just been started"
	}
	return h.members.Why(user, room)
}

// isWindow says whether a user is a window of the network.
func (h *hub) isWindow(user id.UserID) bool { return h.members != nil && h.members.IsKiosk(user) }

// deviceKey is the key of a device, "" if it is not known. It is called only if the hub needs an account.
func (h *hub) deviceKey(ctx context.Context, user id.UserID, device id.DeviceID) (id.Ed25519, error) {
	if h.members == nil {
		return "", errors.New("the hub has only just been started")
	}
	return h.members.DeviceKey(ctx, user, device)
}

// belongs says whether a user gets access to the relay.
func (h *hub) belongs(user id.UserID) bool {
	return h.cfg.Open || h.members != nil && h.members.Belongs(user)
}

// admit tells the relay who may make allocations, by their names there.
func (h *hub) admit() {
	if h.cfg.Relay == nil {
		return
	}
	names := make(map[string]bool)
	for _, user := range h.members.Users() {
		names[turnName(&h.cfg, user)] = true
		names[user.String()] = true // as homeservers call their users
	}
	h.admitted.Store(&names)
}

// CheckName is the relay's user for a check of the relay. Only who has its secret can make credentials for any name.
const CheckName = "ewindow-check"

// mayAllocate says whether a user of the relay may make an allocation. Credentials are good for hours, and their user may have gone. A LiveKit that runs
// elsewhere makes credentials for names that say nothing.
func (h *hub) mayAllocate(name string) bool {
	if name == CheckName || !needsAccount(&h.cfg) || h.cfg.Focus != nil && h.cfg.Focus.LiveKitURL != "" {
		return true
	}
	names := h.admitted.Load()
	return names != nil && (*names)[name]
}
