package transport

import (
	"context"
	"errors"
	"net/http"

	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// ErrNone says that neither the homeserver nor the configuration names a focus. Set one up.
var ErrNone = errors.New("no MatrixRTC focus is known: neither the homeserver nor the configuration names one")

// Homeserver is what [Find] asks. Both methods return "" when the homeserver names no transport.
type Homeserver interface {
	// Transport asks the homeserver itself (MSC4143).
	Transport(ctx context.Context) (service string, err error)
	// WellKnown reads the file .well-known/matrix/client of the homeserver's name.
	WellKnown(ctx context.Context) (service string, err error)
}

// Find returns our own transport: what the homeserver says, else what its .well-known file says, else fallback, which may be
// empty. announced says that the homeserver itself named it, which is where other clients look first. The error is [ErrNone] when
// there is no transport; after any other error Find may be called again.
func Find(ctx context.Context, hs Homeserver, fallback string) (service string, announced bool, err error) {
	service, err = hs.Transport(ctx)
	if service != "" {
		return service, true, nil
	}
	if r := matrixerror.Of(err); err != nil && (r == nil || r.Status != http.StatusNotFound && !matrixerror.IsUnsupported(err)) {
		return "", false, err
	}
	if service, err = hs.WellKnown(ctx); service == "" {
		service = fallback
	}
	switch {
	case service != "":
		return service, false, nil
	case err != nil && matrixerror.Of(err) == nil:
		return "", false, err
	}
	return "", false, ErrNone
}

// ParseTransports reads the homeserver's answer to a request for its transports. Without a usable entry it returns "".
func ParseTransports(data []byte) (service string) {
	return first(parse(data, unstable.RTCTransports))
}

// first is the service that a homeserver prefers, "" when it names none.
func first(services []string) string {
	if len(services) == 0 {
		return ""
	}
	return services[0]
}

// parseWellKnown reads the services in the file .well-known/matrix/client.
func parseWellKnown(data []byte) []string { return parse(data, unstable.RTCFoci) }

func parse(data []byte, key string) (services []string) {
	o, ok := strictjson.Parse(data)
	if !ok {
		return nil
	}
	list, _ := o.List(key)
	for _, raw := range list {
		if service, ok := LiveKit(raw); ok {
			services = append(services, service)
		}
	}
	return services
}
