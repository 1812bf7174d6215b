package focus

import (
	"context"
	"time"

	"maunium.net/go/mautrix/id"
)

// maxConfirmed is how many users are remembered. They are users of our own homeserver, and those of others who sign their requests.
const maxConfirmed = 10_000

// DeviceToken is SFU access for a device that its homeserver has confirmed by its access token, in contrast to an OpenID token, which is given to
// other people's services and proves the user to them and to everybody whom they give it to. From then on, the user gets no tokens for OpenID tokens
// any more. The caller is the homeserver's front. url and jwt are as in the answers of the authorisation service. Errors are [mautrix.RespError]s.
func (s *Service) DeviceToken(ctx context.Context, user id.UserID, device id.DeviceID, room id.RoomID) (url, jwt string, err error) {
	if refused := firstError(checkRoom("room_id", room.String()), checkDevice("device_id", device.String())); refused != nil {
		s.counts.bad.Add(1)
		return "", "", refused.matrix()
	}
	if refused := s.limits.allowUser(time.Now(), user); refused != nil {
		s.counts.limited.Add(1)
		return "", "", refused.matrix()
	}
	if refused := s.demandMember(ctx, user, room); refused != nil {
		return "", "", refused.matrix()
	}
	s.confirm(user)
	jwt, refused := s.issue(ctx, roomName(room.String(), callSlot), plainIdentity(user.String(), device.String()), issue{
		User: user, Room: room, Confirmed: true, Creates: s.creators.mayCreate(user.Homeserver()),
		Publishes: true, // the homeserver is the hub's, so this is its SFU
	})
	if refused != nil {
		return "", "", refused.matrix()
	}
	return s.cfg.PublicURL, jwt, nil
}

// confirm notes that a user gets no tokens for an OpenID token alone.
func (s *Service) confirm(user id.UserID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.confirmed) < maxConfirmed {
		s.confirmed[user] = true
	}
}

func (s *Service) isConfirmed(user id.UserID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.confirmed[user]
}
