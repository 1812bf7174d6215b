package bot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

// logIn makes the client use the stored session. If there is none, or the homeserver does not know it any more, it logs in with the
// password.
func (b *Bot) logIn(ctx context.Context) (*session, error) {
	a, err := b.session.get(ctx)
	if err != nil {
		return nil, err
	}
	if a == nil {
		if a, err = b.session.create(ctx, b.cfg.HomeserverURL); err != nil {
			return nil, err
		}
	}
	if a.User != "" && !sameUser(b.cfg.Username, a.User) {
		return nil, fmt.Errorf("%w: it belongs to %s, and homeserver.username is %s. Set that back, or give the other account a data folder "+
			"of its own", ErrMismatch, a.User, b.cfg.Username)
	}
	// The token is sent only to the homeserver that gave it.
	if a.Token != "" && a.Homeserver == b.cfg.HomeserverURL {
		known, err := b.reuse(ctx, a)
		if err != nil {
			return nil, err
		}
		if known {
			return a, nil
		}
		b.log.Info().Stringer("device_id", a.Device).Msg("The homeserver no longer knows the stored session: logging in again")
	}
	if err := b.password(ctx, a); err != nil {
		return nil, err
	}
	return a, nil
}

// reuse asks the homeserver whether it still knows the stored token.
func (b *Bot) reuse(ctx context.Context, a *session) (known bool, err error) {
	b.setSelf(a)
	var who *mautrix.RespWhoami
	err = b.persist(ctx, func(ctx context.Context) (err error) {
		who, err = b.client.Whoami(mautrix.WithMaxRetries(ctx, 0))
		return err
	})
	switch {
	case errors.Is(err, mautrix.MUnknownToken), errors.Is(err, mautrix.MMissingToken):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask the homeserver who the bot is: %w", short(err))
	case who.UserID != a.User || who.DeviceID != "" && who.DeviceID != a.Device:
		return false, fmt.Errorf("%w: the homeserver says that its session is one of %s. Empty the data folder, but for the file %s",
			ErrMismatch, who.UserID, recoveryFile)
	}
	return true, nil
}

// password logs in with the password, as the stored device.
func (b *Bot) password(ctx context.Context, a *session) error {
	b.client.ClearCredentials()
	var answer *mautrix.RespLogin
	err := b.persist(ctx, func(ctx context.Context) (err error) {
		answer, err = b.client.Login(mautrix.WithMaxRetries(ctx, 0), &mautrix.ReqLogin{
			Type:                     mautrix.AuthTypePassword,
			Identifier:               mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: b.cfg.Username},
			Password:                 b.cfg.Password,
			DeviceID:                 a.Device,
			InitialDeviceDisplayName: b.cfg.DeviceName,
		})
		return err
	})
	var refusal mautrix.HTTPError
	switch {
	case err == nil:
	case errors.As(err, &refusal) && refusal.IsStatus(http.StatusForbidden):
		return fmt.Errorf("%w: %s does not let %s in. Check homeserver.username and homeserver.password",
			ErrPassword, b.cfg.HomeserverURL, b.cfg.Username)
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("log in to %s as %s (homeserver.username): %w", b.cfg.HomeserverURL, b.cfg.Username, short(err))
	}
	if a.User != "" && answer.UserID != a.User {
		b.client.AccessToken, b.client.UserID = answer.AccessToken, answer.UserID
		_, _ = b.client.Logout(ctx)
		b.client.ClearCredentials()
		return fmt.Errorf("%w: it belongs to %s, and homeserver.url leads to %s. Set that back, or give the other account a data folder of "+
			"its own", ErrMismatch, a.User, answer.UserID)
	}
	if answer.DeviceID != a.Device {
		return fmt.Errorf("the homeserver made device %s where %s was asked for: it can't be used with this program", answer.DeviceID, a.Device)
	}
	if err := b.session.setLogin(ctx, b.cfg.HomeserverURL, answer.UserID, answer.AccessToken); err != nil {
		return err
	}
	a.Homeserver, a.User, a.Token = b.cfg.HomeserverURL, answer.UserID, answer.AccessToken
	b.setSelf(a)
	b.log.Info().Stringer("user_id", a.User).Stringer("device_id", a.Device).Msg("Logged in")
	return nil
}

// setSelf makes the client use a session.
func (b *Bot) setSelf(a *session) {
	b.client.UserID, b.client.DeviceID, b.client.AccessToken = a.User, a.Device, a.Token
	b.mu.Lock()
	defer b.mu.Unlock()
	b.self = Device{a.User, a.Device}
}

// sameUser says whether a configured name, which is a local part or a whole user id, can mean a user.
func sameUser(name string, user id.UserID) bool {
	local, _, err := user.Parse()
	if err != nil {
		return false
	}
	return name == user.String() || !strings.Contains(name, ":") && strings.EqualFold(strings.TrimPrefix(name, "@"), local)
}
