package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/coder/websocket"
)

// preferences are the settings of a Firefox. Its fake camera shows a plain colour that changes all the time, its fake microphone a steady tone.
const preferences = `
user_pref("media.navigator.permission.disabled", true);
user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.audio.fake_frequency", %d);
user_pref("media.peerconnection.ice.loopback", true);
user_pref("media.autoplay.default", 0);
user_pref("media.autoplay.blocking_policy", 0);
user_pref("dom.min_background_timeout_value", 4);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.normandy.enabled", false);
`

// FirefoxProgram finds Firefox. If there is none, the error says how to install it.
func FirefoxProgram() (string, error) {
	for _, name := range []string{"firefox-esr", "firefox"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no Firefox on this machine: install it with: sudo apt-get install firefox-esr")
}

// firefox writes the settings of a Firefox into its folder, and returns its arguments.
func firefox(folder string, o Options) ([]string, error) {
	text := fmt.Sprintf(preferences, o.Tone)
	return []string{
		"--headless", "--no-remote", "--profile", folder, "--remote-debugging-port=0", fmt.Sprintf("--width=%d", o.Width), fmt.Sprintf("--height=%d", o.Height), "about:blank",
	}, os.WriteFile(filepath.Join(folder, "user.js"), []byte(text), 0o600)
}

// openFirefox connects to Firefox by WebDriver BiDi and opens a page.
func (p *Page) openFirefox(ctx context.Context, url, script string) error {
	err := p.poll(ctx, func() error {
		var server struct {
			Host string `json:"ws_host"`
			Port int    `json:"ws_port"`
		}
		data, err := os.ReadFile(filepath.Join(p.folder, "WebDriverBiDiServer.json"))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &server); err != nil {
			return err
		}
		return p.connect(ctx, fmt.Sprintf("ws://%s:%d/session", server.Host, server.Port), &websocket.DialOptions{})
	})
	if err != nil {
		return err
	}
	if err := p.call(ctx, "session.new", map[string]any{"capabilities": map[string]any{}}, nil); err != nil {
		return err
	}
	if err := p.call(ctx, "session.subscribe", map[string]any{"events": []string{"log.entryAdded"}}, nil); err != nil {
		return err
	}
	if script != "" {
		if err := p.call(ctx, "script.addPreloadScript", map[string]any{"functionDeclaration": "() => {" + script + "\n}"}, nil); err != nil {
			return err
		}
	}
	var tree struct{ Contexts []struct{ Context string } }
	if err := p.call(ctx, "browsingContext.getTree", map[string]any{}, &tree); err != nil {
		return err
	}
	if len(tree.Contexts) == 0 {
		return errors.New("the browser has no page")
	}
	p.context = tree.Contexts[0].Context
	return p.call(ctx, "browsingContext.navigate", map[string]any{"context": p.context, "url": url, "wait": "none"}, nil)
}

// evalFirefox is Eval in Firefox. Values come as JSON, because WebDriver BiDi has a form of its own for each type.
func (p *Page) evalFirefox(ctx context.Context, expression string, into any) error {
	var answer struct {
		Result           struct{ Value string }
		ExceptionDetails *struct{ Text string }
	}
	err := p.call(ctx, "script.evaluate", map[string]any{
		"expression": "Promise.resolve(" + expression + ").then((value) => JSON.stringify(value) ?? '')", "target": map[string]string{"context": p.context},
		"awaitPromise": true, "userActivation": true,
	}, &answer)
	if err != nil {
		return err
	}
	if e := answer.ExceptionDetails; e != nil {
		return fmt.Errorf("browser: %s", e.Text)
	}
	if into == nil {
		return nil
	}
	if answer.Result.Value == "" {
		return fmt.Errorf("browser: %s has no value", expression)
	}
	return json.Unmarshal([]byte(answer.Result.Value), into)
}

// entry turns a log entry of WebDriver BiDi into the form in which Chromium reports what a page writes into its console.
func entry(params json.RawMessage) string {
	var from struct{ Level, Text string }
	_ = json.Unmarshal(params, &from)
	data, _ := json.Marshal(map[string]any{"type": from.Level, "args": []map[string]string{{"value": from.Text}}})
	return string(data)
}
