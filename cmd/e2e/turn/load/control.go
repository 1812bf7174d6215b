package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
	"golang.org/x/sys/unix"
)

const (
	lifetime = 10 * time.Minute // what allocations ask for (RFC 8656, section 3.2)

	firstTimeout = 250 * time.Millisecond // waiting time for an answer to the first request
	attempts     = 5                      // requests; each waits twice as long as the one before
)

// allocation is one socket with its allocation on the server.
type allocation struct {
	fd                 int
	username, password string
	realm              stun.Realm
	nonce              stun.Nonce
	relayed            stun.XORMappedAddress // what the server relays from
}

// attribute is a raw attribute that implements stun.Setter.
type attribute stun.RawAttribute

// AddTo implements stun.Setter.
func (a attribute) AddTo(m *stun.Message) error { m.Add(a.Type, a.Value); return nil }

// peerAddress is the attribute XOR-PEER-ADDRESS.
type peerAddress netip.AddrPort

// AddTo implements stun.Setter.
func (p peerAddress) AddTo(m *stun.Message) error {
	ap := netip.AddrPort(p)
	return stun.XORMappedAddress{IP: ap.Addr().AsSlice(), Port: int(ap.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}

func seconds(d time.Duration) attribute {
	return attribute{Type: stun.AttrLifetime, Value: binary.BigEndian.AppendUint32(nil, uint32(d/time.Second))}
}

// allocate sends an Allocate request for a relayed address (RFC 8656, section 7).
func (a *allocation) allocate() error {
	m, err := a.request(stun.MethodAllocate, attribute{Type: stun.AttrRequestedTransport, Value: []byte{unix.IPPROTO_UDP, 0, 0, 0}}, seconds(lifetime))
	if err != nil {
		return err
	}
	if err := a.relayed.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil {
		return fmt.Errorf("the answer to Allocate: %w", err)
	}
	return nil
}

// bind binds the channel to the peer. This also installs a permission for the peer (RFC 8656, section 12).
func (a *allocation) bind(peer netip.AddrPort) error {
	_, err := a.request(stun.MethodChannelBind, attribute{Type: stun.AttrChannelNumber, Value: []byte{channelNumber >> 8, channelNumber & 0xff, 0, 0}}, peerAddress(peer))
	return err
}

// refresh refreshes the allocation (RFC 8656, section 8). With a duration of 0 it ends the allocation.
func (a *allocation) refresh(d time.Duration) error {
	_, err := a.request(stun.MethodRefresh, seconds(d))
	return err
}

// request sends a request and returns the success response. If the nonce is missing or stale, it takes the server's new nonce and tries again.
func (a *allocation) request(method stun.Method, attributes ...stun.Setter) (*stun.Message, error) {
	for range 4 {
		setters := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attributes...)
		key := stun.NewLongTermIntegrity(a.username, a.realm.String(), a.password)
		signed := len(a.nonce) > 0
		if signed {
			setters = append(setters, stun.NewUsername(a.username), a.realm, a.nonce, key)
		}
		m, err := stun.Build(append(setters, stun.Fingerprint)...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		answer, err := a.exchange(m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		if answer.Type.Class == stun.ClassSuccessResponse {
			// RFC 8489, section 9.2.5: ignore a response without a valid MESSAGE-INTEGRITY.
			if err := key.Check(answer); err != nil {
				return nil, fmt.Errorf("%s: the answer's signature: %w", method, err)
			}
			return answer, nil
		}
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(answer); err != nil {
			return nil, fmt.Errorf("%s: an error without a code: %w", method, err)
		}
		if code.Code == stun.CodeStaleNonce || code.Code == stun.CodeUnauthorized && !signed {
			if err := errors.Join(a.realm.GetFrom(answer), a.nonce.GetFrom(answer)); err != nil {
				return nil, fmt.Errorf("%s: %d without what to sign with: %w", method, code.Code, err)
			}
			continue
		}
		return nil, fmt.Errorf("%s is refused: %d %s", method, code.Code, code.Reason)
	}
	return nil, fmt.Errorf("%s: the nonce is stale again and again", method)
}

// exchange sends a request, again if necessary, until its answer comes. It drops everything else that comes in this time.
func (a *allocation) exchange(request *stun.Message) (*stun.Message, error) {
	buffer := make([]byte, 2048)
	wait := firstTimeout
	for range attempts {
		if _, err := unix.Write(a.fd, request.Raw); err != nil {
			return nil, err
		}
		for until := time.Now().Add(wait); time.Now().Before(until); {
			n, err := unix.Read(a.fd, buffer)
			if errors.Is(err, unix.EAGAIN) {
				left := int(time.Until(until)/time.Millisecond) + 1
				_, err = unix.Poll([]unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLIN}}, left)
				n = 0
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				return nil, err
			}
			m := &stun.Message{Raw: append([]byte(nil), buffer[:max(0, n)]...)}
			if n > 0 && stun.IsMessage(m.Raw) && m.Decode() == nil && m.TransactionID == request.TransactionID {
				return m, nil
			}
		}
		wait *= 2
	}
	return nil, errors.New("no answer")
}
