package rtc

import (
	"context"
	"errors"
	"time"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/rtc/mediakeys"
)

// sendKeyLimit bounds the sending of keys to the devices of one homeserver.
const sendKeyLimit = 30 * time.Second

// advanceKeys installs other members' keys, sends our own and switches to a new one. It returns when to look again.
func (m *Manager) advanceKeys(now time.Time, call *Call) time.Time {
	for _, k := range m.keys.Install(now, call.room, m.roster.Members(call.room)) {
		call.opts.OnEvent(Event{
			Kind: Key, User: k.From.User, Device: k.From.ID, Identity: k.Identity, Index: k.Key.Index, Material: k.Key.Material,
		})
	}
	if key, ok := call.keys.Use(now); ok {
		call.use(key)
	}
	// One request for each homeserver, so that one that does not answer does not delay the others.
	servers := make(map[string][]*mediakeys.Recipient)
	for _, r := range call.keys.Due(now) {
		server := r.Device().User.Homeserver()
		servers[server] = append(servers[server], r)
	}
	key := call.keys.Current()
	for _, recipients := range servers {
		m.tasks.Go(func() { call.sendKey(m.ctx, key, recipients) })
	}
	return call.keys.Wake()
}

// sendKey sends a key to the devices of one homeserver and reports the result to the manager.
func (c *Call) sendKey(ctx context.Context, key mediakeys.Key, recipients []*mediakeys.Recipient) {
	ctx, cancel := context.WithTimeout(ctx, sendKeyLimit)
	defer cancel()
	content := make(map[bot.Device]any, len(recipients))
	item := mediakeys.NewContent(c.room, c.m.self, key, time.Now())
	for _, r := range recipients {
		content[r.Device()] = item
	}
	failed := c.m.hs.SendKeys(ctx, content)
	c.m.queue.Put(func() { c.m.keySent(c, key, recipients, failed) })
}

// keylessAfter is after how many failures to give a device our key people are told. It takes some seconds.
const keylessAfter = 4

// keySent handles the result of sendKey.
func (m *Manager) keySent(call *Call, key mediakeys.Key, recipients []*mediakeys.Recipient, failed map[bot.Device]error) {
	now, delivered := time.Now(), 0
	for _, r := range recipients {
		device := r.Device()
		err := failed[device]
		ok, withheld := call.keys.Sent(now, r, err)
		m.roster.SetRefused(device, errors.Is(err, bot.ErrUntrusted) || errors.Is(err, bot.ErrUnknownDevice))
		if call.over {
			continue
		}
		log := call.log.With().Stringer("user_id", device.User).Stringer("device_id", device.ID).Logger()
		switch {
		case ok:
			delivered++
		case withheld:
			log.Warn().Err(err).Msg("A device that its owner has not verified gets no media key")
			call.opts.OnEvent(Event{Kind: Withheld, User: device.User, Device: device.ID})
		case err != nil && !errors.Is(err, bot.ErrUntrusted):
			log.Warn().Err(err).Msg("A media key was not delivered, trying again")
			if r.Failures() == keylessAfter && (errors.Is(err, bot.ErrUnknownDevice) || errors.Is(err, bot.ErrNoOneTimeKey)) {
				call.opts.OnEvent(Event{Kind: Keyless, User: device.User, Device: device.ID})
			}
		}
	}
	if delivered > 0 && !call.over {
		call.log.Debug().Int("devices", delivered).Uint8("index", key.Index).Msg("Media key sent")
		call.opts.OnEvent(Event{Kind: KeySent, Index: key.Index})
	}
}
