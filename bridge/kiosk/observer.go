package kiosk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"multifactorymodel.org/ewindow/bot/directory"
)

const (
	// maxState is the longest message that an observer takes, in bytes. The state of a large network fits.
	maxState = 4 << 20
	// keptStates is how many states wait for Next. When there are more, the oldest are dropped.
	keptStates = 64
)

// Observer sees what the page shows, and may press its button. Its methods may be called from any goroutine.
type Observer struct {
	conn   *websocket.Conn
	states chan State
	reader sync.WaitGroup
	kill   context.CancelFunc // ends the reader, and with it the connection

	done chan struct{} // closed when the connection has ended, after err is set
	err  error
}

// Dial connects to the [Server] that listens on addr, a host with a port, with the page's key (see [ReadKey]). It waits for the present state,
// which Next returns first. The caller closes the Observer.
func Dial(ctx context.Context, addr, key string) (*Observer, error) {
	conn, response, err := websocket.Dial(ctx, "ws://"+addr+"/ws", &websocket.DialOptions{Subprotocols: Subprotocols(key)})
	if err != nil {
		if response != nil {
			return nil, fmt.Errorf("connect to the window at %s: it answered %s", addr, response.Status)
		}
		return nil, fmt.Errorf("connect to the window at %s: %w", addr, err)
	}
	conn.SetReadLimit(maxState)
	reading, kill := context.WithCancel(context.WithoutCancel(ctx))
	o := &Observer{conn: conn, states: make(chan State, keptStates), kill: kill, done: make(chan struct{})}
	hello := encode(map[string]any{"type": "hello", "version": protocolVersion, "role": "observer"})
	if err := conn.Write(ctx, websocket.MessageText, hello); err != nil {
		kill()
		_ = conn.CloseNow()
		return nil, fmt.Errorf("connect to the window at %s: %w", addr, err)
	}
	first, err := o.read(ctx)
	if err != nil {
		kill()
		_ = conn.CloseNow()
		return nil, fmt.Errorf("connect to the window at %s: %w", addr, err)
	}
	o.states <- first
	o.reader.Go(func() { o.receive(reading) })
	return o, nil
}

// read waits for a state. Other messages are not for observers.
func (o *Observer) read(ctx context.Context) (State, error) {
	for {
		_, data, err := o.conn.Read(ctx)
		if websocket.CloseStatus(err) == closeVersion {
			return State{}, errors.New("the running program is of another version than this one")
		}
		if err != nil {
			return State{}, err
		}
		var m stateMessage
		if err := json.Unmarshal(data, &m); err != nil {
			return State{}, fmt.Errorf("read state: %w", err)
		}
		if m.Type == "state" {
			return m.state(time.Now()), nil
		}
	}
}

func (o *Observer) receive(ctx context.Context) {
	defer close(o.done)
	for {
		state, err := o.read(ctx)
		if err != nil {
			o.err = fmt.Errorf("the window's state: %w", err)
			_ = o.conn.CloseNow()
			return
		}
		for sent := false; !sent; {
			select {
			case o.states <- state:
				sent = true
			default:
				select {
				case <-o.states:
				default:
				}
			}
		}
	}
}

// Next returns the next state. When more than 64 states wait, the oldest are dropped. Next returns ctx's error when ctx ends; it may then be
// called again. It returns another error when the connection has ended.
func (o *Observer) Next(ctx context.Context) (State, error) {
	select {
	case s := <-o.states:
		return s, nil
	default:
	}
	select {
	case s := <-o.states:
		return s, nil
	case <-o.done:
		select {
		case s := <-o.states: // a state that came before the end
			return s, nil
		default:
			return State{}, o.err
		}
	case <-ctx.Done():
		return State{}, ctx.Err()
	}
}

// Press opens or shuts the window. It returns when the message is written. The next states show the result.
func (o *Observer) Press(open bool) error {
	to := directory.Shut
	if open {
		to = directory.Open
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	if err := o.conn.Write(ctx, websocket.MessageText, encode(map[string]any{"type": "shutter", "to": to})); err != nil {
		return fmt.Errorf("press the button: %w", err)
	}
	return nil
}

// Close ends the connection. It may be called twice.
func (o *Observer) Close() error {
	limit := time.AfterFunc(closeTime, o.kill)
	defer limit.Stop()
	defer o.kill()
	_ = o.conn.Close(websocket.StatusNormalClosure, "")
	o.reader.Wait()
	return nil
}
