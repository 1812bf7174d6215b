package turncheck

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pion/stun/v3"
)

// explainDial says why no connection could be made.
func explainDial(err error, t Target) error {
	var unknown *net.DNSError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("the name %s was not found in the DNS: look whether it is spelled right and has an address", t.Host)
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens on TCP port %d: look whether the server runs, and whether it listens on this port", t.Port)
	case isTimeout(err):
		return fmt.Errorf("there is no answer on TCP port %d: open it in the firewalls between here and the server, and look whether the server is up", t.Port)
	}
	return fmt.Errorf("no connection could be made: %w", err)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// explainTLS says why a TLS handshake failed.
func explainTLS(err error, t Target) error {
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		noTLS   tls.RecordHeaderError
		op      *net.OpError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &name):
		return fmt.Errorf("the server's certificate is for %s and not for %s: give the name that it is for, or a certificate for this one",
			strings.Join(append(name.Certificate.DNSNames, texts(name.Certificate.IPAddresses)...), ", "), t.Host)
	case errors.As(err, &unknown):
		return errors.New("the server's certificate is signed by nobody whom this machine trusts: use one of a public authority with its whole chain, or name your authority with --ca")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("the server's certificate is good from %s to %s only, and not now: renew it, and look at this machine's clock",
			invalid.Cert.NotBefore.Format(time.DateOnly), invalid.Cert.NotAfter.Format(time.DateOnly))
	case errors.As(err, &noTLS):
		return fmt.Errorf("what answers on port %d does not speak TLS: for TURN without it give turn:%s:%d?transport=tcp", t.Port, t.Host, t.Port)
	case errors.As(err, &op) && op.Op == "remote error": // an alert, in crypto/tls
		return fmt.Errorf("the server refuses the TLS handshake (%w): look whether it has a certificate for %s", op.Err, t.Host)
	case isTimeout(err):
		return fmt.Errorf("the connection stands, but nobody answers in TLS on port %d: is this the right port?", t.Port)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("the connection is closed in the TLS handshake on port %d: is this the right port? TURN without TLS is turn:%s:%d?transport=tcp", t.Port, t.Host, t.Port)
	}
	return fmt.Errorf("the TLS handshake failed: %w", err)
}

func texts(addresses []net.IP) (list []string) {
	for _, a := range addresses {
		list = append(list, a.String())
	}
	return list
}

// explainAllocate says why there is no allocation. heard is the error of the connection, nil if there was none.
func explainAllocate(err error, t Target, heard error) error {
	code, reason := codeOf(err)
	switch code {
	case 0:
	case stun.CodeUnauthorized, stun.CodeWrongCredentials, stun.CodeBadRequest: // servers that use pion answer with Bad Request
		return errors.New("the server refuses the credentials: look whether the secret or password is the server's, and whether both machines' clocks are right")
	case stun.CodeAllocQuotaReached:
		return errors.New("the server lets this user make no more allocations: raise hub.turnserver.max_allocations or max_allocations_per_user (coturn: user-quota, total-quota), or wait until others end")
	case stun.CodeInsufficientCapacity:
		return errors.New("the server has no place left: raise hub.turnserver.max_allocations and widen relay_ports (coturn: total-quota, min-port and max-port)")
	case stun.CodeForbidden:
		return errors.New("the server forbids this client to relay: look at its rules for clients")
	default:
		return fmt.Errorf("the server refuses an allocation: %d %s", code, reason)
	}
	switch {
	case errors.Is(heard, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens on UDP port %d: look whether the server runs, and whether it listens on this port", t.Port)
	case heard != nil && t.Transport != "udp":
		return fmt.Errorf("what answers on port %d is no TURN server, or wants no connection from here: it ends the connection", t.Port)
	case heard != nil:
		return fmt.Errorf("the socket failed: %w", heard)
	case t.Transport == "udp":
		return fmt.Errorf("there is no answer on UDP port %d: open it in the firewalls between here and the server, and look whether a TURN server listens there", t.Port)
	case errors.Is(err, stun.ErrAttributeNotFound):
		return fmt.Errorf("the server asks for no login, or does not answer as a TURN server does: %w", err)
	}
	return fmt.Errorf("the connection to port %d stands, but no TURN server answers: is this the right port?", t.Port)
}

// explainPermission says why one allocation may not send to the other.
func explainPermission(err error, peer net.Addr, c *client) error {
	code, reason := codeOf(err)
	// Servers that use pion refuse without an error code. pion's client then returns only the message type.
	nameless := err.Error() == stun.NewType(stun.MethodCreatePermission, stun.ClassErrorResponse).String()
	switch {
	case code == stun.CodeForbidden || nameless:
		ip := addrOf(peer)
		return fmt.Errorf("the login works, but the server refuses to relay to its own relay address %s, so that nothing more can be measured: "+
			"to allow it, add %s with the relay ports to hub.turnserver.allowed_peers, such as %s:49160-49459 (coturn: allowed-peer-ip=%s)", ip, ip, ip, ip)
	case code != 0:
		return fmt.Errorf("the login works, but the server refuses a permission: %d %s", code, reason)
	}
	return explainSend(context.Background(), err, c)
}

// explainSend says why a client with an allocation can't send.
func explainSend(ctx context.Context, err error, c *client) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if heard := c.conn.fault(); heard != nil {
		return fmt.Errorf("the login works, but then the connection ended: %w", heard)
	}
	return fmt.Errorf("the login works, but then the server answers no more: %w", err)
}

// explainSilence says why perhaps no packets come although the server has allowed them.
func explainSilence(a, b *client) error {
	relay := addrOf(b.relay.LocalAddr())
	if relay.IsPrivate() || relay.IsLoopback() || relay.IsLinkLocalUnicast() {
		return fmt.Errorf("the login works, but no packet comes through from %s to %s: that address is no public one, so set hub.turnserver.public_ip "+
			"(coturn: external-ip) if clients come from elsewhere; else allow it with the relay ports in hub.turnserver.allowed_peers",
			a.relay.LocalAddr(), b.relay.LocalAddr())
	}
	return fmt.Errorf("the login works, but no packet comes through from %s to %s: allow that address with the relay ports in hub.turnserver.allowed_peers, "+
		"open the relay ports for UDP in the firewall, and look whether the server reaches itself by its public address", a.relay.LocalAddr(), b.relay.LocalAddr())
}

// codeOf returns the code and reason of a TURN error response, 0 for any other error.
func codeOf(err error) (code stun.ErrorCode, reason string) {
	var refused *stun.TurnError
	if !errors.As(err, &refused) {
		return 0, ""
	}
	return refused.ErrorCodeAttr.Code, string(refused.ErrorCodeAttr.Reason)
}
