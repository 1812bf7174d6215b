// Package browser drives headless browsers for the end-to-end tests: Chromium over the DevTools protocol, Firefox over WebDriver BiDi.
//
// [Start] runs one browser with one page. [Page.Eval] evaluates JavaScript in the page. [Page.Close] or [Page.Kill] ends the browser. The
// package has only what the tests need. Several goroutines may use a Page.
package browser

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// maxConsole is how many of the newest messages of a page's console a Page keeps.
const maxConsole = 2000

// Options configure a browser. All fields are optional.
type Options struct {
	// Video is a y4m or mjpeg file that the browser plays in a loop as its camera. Audio is a wav file for its microphone.
	Video, Audio string
	// Script runs in the page before the page's own scripts, each time the page is loaded.
	Script string
	// Width and Height are the size of the browser's window in pixels. 0 means 1280 and 720.
	Width, Height int
	// Flags are additional command-line flags of the browser.
	Flags []string
	// Env is added to the environment of this process.
	Env []string
	// Host is the machine on which the browser runs, if it is not this one.
	Host Host
	// Firefox runs Firefox, and not Chromium. It has its own fake camera and microphone, and only Eval, Screenshot and Console work. Tone is the
	// frequency of its fake microphone in Hz. Video, Audio, Flags and Host are Chromium's alone.
	Firefox bool
	Tone    int
}

// Host is another machine, such as a network namespace. Both functions are required.
type Host interface {
	// Command makes a command that runs a program on the host. Its process is the program's.
	Command(program string, args ...string) *exec.Cmd
	// DialContext connects to an address from the host.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Page is one browser with one page.
type Page struct {
	process *exec.Cmd
	client  *http.Client // to the browser's DevTools
	exited  chan struct{}
	folder  string
	context string // Firefox's name of the page; empty in Chromium
	conn    *websocket.Conn
	read    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	next    int
	waiting map[int]chan reply
	broken  error
	console []string
}

type reply struct {
	Result json.RawMessage
	Error  json.RawMessage // Firefox has its message beside it
	// Message is Firefox's description of an error.
	Message string
}

// Program finds Chromium. If there is none, the error says how to install it.
func Program() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no Chromium on this machine: install it with: sudo apt-get install chromium")
}

// Need returns Chromium's path. Without Chromium the test is skipped, with a line that says how to install it. If EWINDOW_E2E is "require", it
// fails instead.
func Need(t testing.TB) string {
	t.Helper()
	return need(t, Program)
}

// NeedFirefox is Need for Firefox.
func NeedFirefox(t testing.TB) string {
	t.Helper()
	return need(t, FirefoxProgram)
}

func need(t testing.TB, find func() (string, error)) string {
	t.Helper()
	path, err := find()
	if err != nil && os.Getenv("EWINDOW_E2E") == "require" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

// Start opens url in a new browser. The browser ends when the test ends, or earlier with Close or Kill.
func Start(t testing.TB, url string, o Options) *Page {
	t.Helper()
	program := NeedFirefox
	if !o.Firefox {
		program = Need
	}
	p, err := start(t, program(t), url, o)
	if err != nil {
		t.Fatalf("start browser: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}

func start(t testing.TB, program, url string, o Options) (*Page, error) {
	if o.Width == 0 || o.Height == 0 {
		o.Width, o.Height = 1280, 720
	}
	// Not t.TempDir: the browser's child processes may write for a moment after it has ended, and the clean-up of t.TempDir would then fail.
	folder, err := os.MkdirTemp("", "ewindow-browser-")
	if err != nil {
		return nil, err
	}
	args := chromium(folder, o)
	if o.Firefox {
		if args, err = firefox(folder, o); err != nil {
			_ = os.RemoveAll(folder)
			return nil, err
		}
	}
	p := &Page{folder: folder, client: http.DefaultClient, exited: make(chan struct{}), waiting: make(map[int]chan reply)}
	if o.Host != nil {
		p.process = o.Host.Command(program, args...)
		p.client = &http.Client{Transport: &http.Transport{DialContext: o.Host.DialContext}}
	} else {
		p.process = exec.Command(program, args...)
	}
	p.process.Env = append(os.Environ(), o.Env...)
	p.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.process.Start(); err != nil {
		_ = os.RemoveAll(folder)
		return nil, err
	}
	go func() {
		_ = p.process.Wait()
		close(p.exited)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	open := p.openChromium
	if o.Firefox {
		open = p.openFirefox
	}
	if err := open(ctx, url, o.Script); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// chromium returns the arguments of a Chromium with its data in a folder.
func chromium(folder string, o Options) []string {
	args := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--mute-audio",
		"--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--allow-loopback-in-peer-connection",
		"--autoplay-policy=no-user-gesture-required", "--disable-background-timer-throttling",
		"--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
		fmt.Sprintf("--window-size=%d,%d", o.Width, o.Height), "--remote-debugging-port=0", "--user-data-dir=" + folder,
	}
	if o.Video != "" {
		args = append(args, "--use-file-for-fake-video-capture="+o.Video)
	}
	if o.Audio != "" {
		args = append(args, "--use-file-for-fake-audio-capture="+o.Audio)
	}
	return append(append(args, o.Flags...), "about:blank")
}

// openChromium connects to Chromium and opens a page.
func (p *Page) openChromium(ctx context.Context, url, script string) error {
	if err := p.attach(ctx); err != nil {
		return err
	}
	for _, method := range []string{"Runtime.enable", "Page.enable"} {
		if err := p.call(ctx, method, nil, nil); err != nil {
			return err
		}
	}
	if script != "" {
		if err := p.call(ctx, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": script}, nil); err != nil {
			return err
		}
	}
	return p.call(ctx, "Page.navigate", map[string]any{"url": url}, nil)
}

// attach connects to the page's DevTools WebSocket.
func (p *Page) attach(ctx context.Context) error {
	var address string
	err := p.poll(ctx, func() error {
		data, err := os.ReadFile(filepath.Join(p.folder, "DevToolsActivePort"))
		if err != nil {
			return err
		}
		port, _, _ := strings.Cut(string(data), "\n")
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+"/json/list", nil)
		if err != nil {
			return err
		}
		response, err := p.client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		var targets []struct{ Type, WebSocketDebuggerURL string }
		if err := json.NewDecoder(response.Body).Decode(&targets); err != nil {
			return err
		}
		for _, target := range targets {
			if target.Type == "page" {
				address = target.WebSocketDebuggerURL
				return nil
			}
		}
		return errors.New("the browser has no page")
	})
	if err != nil {
		return err
	}
	return p.connect(ctx, address, &websocket.DialOptions{HTTPClient: p.client})
}

// connect opens the WebSocket over which the browser is driven, and starts to read from it.
func (p *Page) connect(ctx context.Context, address string, o *websocket.DialOptions) error {
	conn, _, err := websocket.Dial(ctx, address, o)
	if err != nil {
		return err
	}
	conn.SetReadLimit(64 << 20) // screenshots
	p.conn = conn
	p.read.Go(p.receive)
	return nil
}

// poll calls f until it succeeds, the browser ends, or ctx is done.
func (p *Page) poll(ctx context.Context, f func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("the browser ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func (p *Page) receive() {
	for {
		_, data, err := p.conn.Read(context.Background()) // ends when Kill or Close closes the connection
		if err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.broken = fmt.Errorf("browser: %w", err)
			for id, c := range p.waiting {
				close(c)
				delete(p.waiting, id)
			}
			return
		}
		var message struct {
			ID     int
			Method string
			Params json.RawMessage
			reply
		}
		if json.Unmarshal(data, &message) != nil {
			continue
		}
		p.mu.Lock()
		switch message.Method {
		case "Runtime.consoleAPICalled", "Runtime.exceptionThrown":
			p.log(string(message.Params))
		case "log.entryAdded":
			p.log(entry(message.Params))
		}
		if c := p.waiting[message.ID]; c != nil {
			delete(p.waiting, message.ID)
			c <- message.reply
		}
		p.mu.Unlock()
	}
}

// log keeps a message of the console. The caller holds p.mu.
func (p *Page) log(message string) {
	p.console = append(p.console[max(0, len(p.console)-maxConsole+1):], message)
}

// call sends one command and waits for its result.
func (p *Page) call(ctx context.Context, method string, params, into any) error {
	answer := make(chan reply, 1)
	p.mu.Lock()
	if p.broken != nil {
		defer p.mu.Unlock()
		return p.broken
	}
	p.next++
	id := p.next
	p.waiting[id] = answer
	p.mu.Unlock()
	data, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	if err != nil {
		return err
	}
	if err := p.conn.Write(ctx, websocket.MessageText, data); err != nil {
		return fmt.Errorf("browser: %s: %w", method, err)
	}
	select {
	case r, ok := <-answer:
		if !ok {
			return fmt.Errorf("browser: %s: the connection was lost", method)
		}
		if r.Error != nil {
			return fmt.Errorf("browser: %s: %s %s", method, r.Error, r.Message)
		}
		if into == nil {
			return nil
		}
		return json.Unmarshal(r.Result, into)
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.waiting, id)
		p.mu.Unlock()
		return fmt.Errorf("browser: %s: %w", method, ctx.Err())
	}
}

// Eval evaluates a JavaScript expression in the page. If the value is a promise, Eval waits for it. It decodes the value into into, unless into
// is nil.
func (p *Page) Eval(ctx context.Context, expression string, into any) error {
	if p.context != "" {
		return p.evalFirefox(ctx, expression, into)
	}
	var result struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := p.call(ctx, "Runtime.evaluate", map[string]any{
		"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
	}, &result)
	if err != nil {
		return err
	}
	if e := result.ExceptionDetails; e != nil {
		return fmt.Errorf("browser: %s %s", e.Text, e.Exception.Description)
	}
	if into == nil {
		return nil
	}
	if len(result.Result.Value) == 0 {
		return fmt.Errorf("browser: %s has no value", expression)
	}
	return json.Unmarshal(result.Result.Value, into)
}

// Press sends a key press to the page. key and code are those of KeyboardEvent; virtual is the Windows virtual key code.
func (p *Page) Press(ctx context.Context, key, code string, virtual int) error {
	for _, kind := range []string{"keyDown", "keyUp"} {
		if err := p.call(ctx, "Input.dispatchKeyEvent", map[string]any{
			"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": virtual,
		}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Resize sets the size of the page's viewport in pixels.
func (p *Page) Resize(ctx context.Context, width, height int) error {
	return p.call(ctx, "Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
	}, nil)
}

// Reload reloads the page.
func (p *Page) Reload(ctx context.Context) error {
	return p.call(ctx, "Page.reload", nil, nil)
}

// Screenshot writes what the page shows to a PNG file.
func (p *Page) Screenshot(ctx context.Context, path string) error {
	var shot struct{ Data string }
	method, params := "Page.captureScreenshot", map[string]any{"format": "png"}
	if p.context != "" {
		method, params = "browsingContext.captureScreenshot", map[string]any{"context": p.context}
	}
	if err := p.call(ctx, method, params, &shot); err != nil {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// Console returns the newest messages in the page's console, with its uncaught errors.
func (p *Page) Console() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.console...)
}

// Kill sends SIGKILL to the browser, as if the power failed, and waits until it is gone.
func (p *Page) Kill() {
	_ = syscall.Kill(-p.process.Process.Pid, syscall.SIGKILL)
	<-p.exited
	if p.conn != nil {
		_ = p.conn.CloseNow()
		p.read.Wait()
	}
}

// Signal sends a signal to those of the browser's processes whose command line contains text. It returns how many they are.
func (p *Page) Signal(text string, signal syscall.Signal) (n int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		group, err := syscall.Getpgid(pid)
		if err == nil && group == p.process.Process.Pid && strings.Contains(string(line), text) && syscall.Kill(pid, signal) == nil {
			n++
		}
	}
	return n
}

// Close ends the browser and removes its folder. It may be called twice.
func (p *Page) Close() {
	p.Kill()
	_ = os.RemoveAll(p.folder)
}
