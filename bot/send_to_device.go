package bot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// sendTime is how long SendToDevice takes at most.
const sendTime = 40 * time.Second

// SendToDevice sends an Olm-encrypted message to each of some devices. The result has the devices that did not get theirs, and why. For all
// others our homeserver has accepted the message. Missing keys and sessions are fetched. A homeserver that does not answer does not delay
// the devices of another.
func (b *Bot) SendToDevice(ctx context.Context, t event.Type, content map[Device]any) map[Device]error {
	failed := make(map[Device]error)
	if !b.ready.Load() {
		for d := range content {
			failed[d] = errNotStarted
		}
		return failed
	}
	ctx, cancel := context.WithTimeout(quietly(ctx), sendTime)
	defer cancel()
	t.Class = event.ToDeviceEventType

	contents := make(map[Device]json.RawMessage, len(content))
	for d, c := range content {
		raw, err := json.Marshal(c)
		if err != nil {
			failed[d] = fmt.Errorf("encode %s: %w", t.Type, err)
			continue
		}
		object, ok := objectContent(raw)
		if !ok {
			failed[d] = fmt.Errorf("%s is no JSON object of up to 64 KiB", t.Type)
			continue
		}
		contents[d] = object
	}
	b.learnDevices(ctx, contents)

	// For devices with which we have an Olm session only our own homeserver is needed.
	groups := make(map[string][]Device)
	for d := range contents {
		known, err := b.target(ctx, d)
		switch {
		case err != nil:
			failed[d] = err
		case b.olm.Ready(known.IdentityKey) && b.crypto.HasSession(ctx, known.IdentityKey):
			groups[""] = append(groups[""], d)
		default:
			groups[d.User.Homeserver()] = append(groups[d.User.Homeserver()], d)
		}
	}
	var (
		mu      sync.Mutex // guards failed
		sending sync.WaitGroup
	)
	for _, devices := range groups {
		sending.Go(func() {
			for d, err := range b.sendGroup(ctx, t, devices, contents) {
				mu.Lock()
				failed[d] = err
				mu.Unlock()
			}
		})
	}
	sending.Wait()
	return failed
}

// learnDevices asks for the keys of users who have a device that is unknown or not trusted.
func (b *Bot) learnDevices(ctx context.Context, contents map[Device]json.RawMessage) {
	missing := make(map[string][]id.UserID)
	seen := make(map[id.UserID]bool)
	for d := range contents {
		if _, err := b.target(ctx, d); err == nil || seen[d.User] || !b.work.Allow(d.User, time.Now()) {
			continue
		}
		seen[d.User] = true
		missing[d.User.Homeserver()] = append(missing[d.User.Homeserver()], d.User)
	}
	var asking sync.WaitGroup
	for _, users := range missing {
		asking.Go(func() {
			if _, err := b.fetchKeys(ctx, users); err != nil {
				b.log.Debug().Err(short(err)).Msg("Devices could not be asked for")
			}
		})
	}
	asking.Wait()
}

// target returns a device if we may send to it.
func (b *Bot) target(ctx context.Context, d Device) (*id.Device, error) {
	if d == b.device() {
		return nil, errors.New("the device is this one")
	}
	device, err := b.crypto.GetDevice(ctx, d.User, d.ID)
	if err != nil {
		return nil, fmt.Errorf("look up the device: %w", err)
	}
	if device == nil || device.Deleted {
		return nil, ErrUnknownDevice
	}
	if !b.trusted(ctx, device) {
		if key, err := b.identities.Changed(ctx, d.User); err == nil && key != "" {
			return nil, ErrNewIdentity
		}
		return nil, ErrUntrusted
	}
	return device, nil
}

// sendGroup encrypts for some devices and sends everything in one request. It returns the devices that did not get theirs.
func (b *Bot) sendGroup(ctx context.Context, t event.Type, devices []Device, contents map[Device]json.RawMessage) map[Device]error {
	failed := make(map[Device]error)
	plain := &mautrix.ReqSendToDevice{Messages: make(map[id.UserID]map[id.DeviceID]*event.Content)}
	for _, d := range devices {
		if plain.Messages[d.User] == nil {
			plain.Messages[d.User] = make(map[id.DeviceID]*event.Content)
		}
		plain.Messages[d.User][d.ID] = &event.Content{VeryRaw: contents[d]}
	}
	err := b.encryptAndSend(ctx, t, plain, func(d Device) { failed[d] = ErrNoOneTimeKey })
	if err != nil {
		for _, d := range devices {
			failed[d] = err
		}
	}
	return failed
}

// encryptAndSend calls dropped for each device with which there is no Olm session and none could be begun.
func (b *Bot) encryptAndSend(ctx context.Context, t event.Type, plain *mautrix.ReqSendToDevice, dropped func(Device)) (err error) {
	defer func() {
		if r := recover(); r != nil { // mautrix panics when encryption fails
			b.stats.count(&b.stats.s.Panics)
			err = errors.New("encryption panicked")
		}
	}()
	encrypted, err := b.mach.EncryptToDevices(ctx, t, plain)
	if err != nil {
		return fmt.Errorf("encrypt %s: %w", t.Type, short(err))
	}
	left := 0
	for user, devices := range plain.Messages {
		for device := range devices {
			if encrypted.Messages[user][device] == nil {
				dropped(Device{user, device})
			} else {
				left++
			}
		}
	}
	if left == 0 {
		return nil
	}
	if _, err := b.client.SendToDevice(ctx, event.ToDeviceEncrypted, encrypted); err != nil {
		return fmt.Errorf("send %s: %w", t.Type, short(err))
	}
	return nil
}
