package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"multifactorymodel.org/ewindow/cmd/ewindow/config"
)

const example = "../../../example-config.yaml"

// TestExampleEqualsDefault checks that example-config.yaml holds every key, each at its default.
func TestExampleEqualsDefault(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := config.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if want := config.Default(); !reflect.DeepEqual(parsed, want) {
		t.Errorf("example-config.yaml differs from Default:\n%+v\n%+v", parsed, want)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	keys(document.Content[0], "", found)
	for _, key := range fields(reflect.TypeFor[config.Config](), "") {
		if !found[key] {
			t.Errorf("%s is missing in example-config.yaml", key)
		}
	}
}

// keys collects the full names of all keys below a node.
func keys(n *yaml.Node, path string, into map[string]bool) {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		full := path + n.Content[i].Value
		into[full] = true
		keys(n.Content[i+1], full+".", into)
	}
}

// fields lists the full names of all keys that a struct can take.
func fields(t reflect.Type, path string) (list []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		full := path + f.Tag.Get("yaml")
		list = append(list, full)
		if f.Type.Kind() == reflect.Struct {
			list = append(list, fields(f.Type, full+".")...)
		}
	}
	return list
}

// TestDefaultFresh checks that two calls of Default share no memory.
func TestDefaultFresh(t *testing.T) {
	a := config.Default()
	a.Window.Languages[0] = "xx"
	a.Hub.TurnServer.Listen[0] = "xx"
	if b := config.Default(); b.Window.Languages[0] != "de" || b.Hub.TurnServer.Listen[0] == "xx" {
		t.Error("a change to one Default shows in the next")
	}
}

func TestParse(t *testing.T) {
	c, err := config.Parse([]byte(`
homeserver:
  url: https://matrix.example.org
  accept_unsigned_devices: true
network: {admins: ["@a:b"]}
kiosk: {countdown: 500ms}
media:
hub: {focus: {port: 0}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Homeserver.URL != "https://matrix.example.org" || !c.Homeserver.AcceptUnsignedDevices ||
		!reflect.DeepEqual(c.Network.Admins, []string{"@a:b"}) || c.Kiosk.Countdown != 500*time.Millisecond ||
		c.Hub.Focus.Port != 0 {
		t.Errorf("values of the file are lost: %+v", c)
	}
	if c.Media.MaxVideoBitrateKbit != 1700 || c.Hub.Focus.UDPPort != 7882 {
		t.Errorf("defaults are lost: %+v", c)
	}
	if c, err := config.Parse(nil); err != nil || !reflect.DeepEqual(c, config.Default()) {
		t.Errorf("an empty file is not the default: %v %v", c, err)
	}
}

func TestParseErrors(t *testing.T) {
	for _, test := range []struct{ yaml, want string }{
		{"datadir: x", `line 1: unknown key "datadir": correct or remove it`},
		{"window:\n  name: x\n  colour: red", `line 3: unknown key "window.colour": correct or remove it`},
		{"window: {name: a}\nkiosk:\n  lsiten: b\n  countdown: soon", `line 3: unknown key "kiosk.lsiten": correct or remove it` + "\n" +
			`line 4: kiosk.countdown must be a time with its unit, such as 1.2s or 500ms`},
		{"window:\n  name: a\n  name: b", `line 3: window.name is already set in line 2: keep only one`},
		{"[a]: b", `line 1: unknown key "": correct or remove it`},
		{"\nmedia:\n  max_video_bitrate_kbit: fast", `line 3: media.max_video_bitrate_kbit must be a whole number`},
		{"media: {max_video_bitrate_kbit: 1.5}", `line 1: media.max_video_bitrate_kbit must be a whole number`},
		{"media: {max_video_bitrate_kbit: 99999999999999999999}", `line 1: media.max_video_bitrate_kbit must be a whole number`},
		{"kiosk: {countdown: 3}", `line 1: kiosk.countdown must be a time with its unit, such as 1.2s or 500ms`},
		{"kiosk: {test_pattern: maybe}", `line 1: kiosk.test_pattern must be true or false`},
		{"homeserver:\n  password: 1234", `line 2: homeserver.password must be text: put it in quotes`},
		{"homeserver: {password: }", `line 1: homeserver.password has no value: give one, or remove the line`},
		{"homeserver: {password: ~}", `line 1: homeserver.password has no value: give one, or remove the line`},
		{"homeserver: {password: [a]}", `line 1: homeserver.password must be text: put it in quotes`},
		{"network: {admins: x}", `line 1: network.admins must be a list, such as [one, two]`},
		{"network: {admins: [1]}", `line 1: network.admins must be a list of texts: put each in quotes`},
		{"hub: on", `line 1: hub must hold keys of its own, indented below it`},
		{"- a", `line 1: the file must hold keys with values, such as data_dir: data`},
		{"window: {name: &a x, city: *a}", `line 1: window.city uses a YAML alias, which is not supported: write the value out`},
		{"data_dir: a\n---\ndata_dir: b", `more than one YAML document: remove everything from the second --- on`},
		{"data_dir: [", `not valid YAML: line 1: did not find expected node content`},
	} {
		c, err := config.Parse([]byte(test.yaml))
		if c != nil || err == nil || err.Error() != test.want {
			t.Errorf("%q:\n got %v\nwant %s", test.yaml, err, test.want)
		}
	}
}

// write puts a file into a folder and returns its path.
func write(t *testing.T, folder, name, content string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "password", "  correct horse\n")
	absolute := write(t, t.TempDir(), "turn", "0123456789abcdef\n")
	c, err := config.Load(write(t, folder, "config.yaml",
		"homeserver: {password_file: password}\nhub: {tls_key: keys/a.pem, turnserver: {secret_file: "+absolute+"}}"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Homeserver.Password != "correct horse" || c.Hub.TurnServer.Secret != "0123456789abcdef" {
		t.Error("secrets were not read from their files")
	}
	if c.DataDir != filepath.Join(folder, "data") || c.Hub.TLSKey != filepath.Join(folder, "keys/a.pem") || c.Hub.TLSCertificate != "" {
		t.Errorf("paths do not count from the file's folder: %q %q %q", c.DataDir, c.Hub.TLSKey, c.Hub.TLSCertificate)
	}
}

func TestLoadErrors(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "empty", " \n")
	write(t, folder, "big", strings.Repeat("x", 5000))
	for _, test := range []struct{ yaml, want string }{
		{"x: y", `%DIR%/config.yaml: line 1: unknown key "x": correct or remove it`},
		{"homeserver: {password_file: empty}", `%DIR%/config.yaml: homeserver.password_file: %DIR%/empty is empty: write the secret into it`},
		{"homeserver: {password: a, password_file: empty}",
			`%DIR%/config.yaml: homeserver.password and homeserver.password_file are both set: keep only one`},
		{"hub: {focus: {secret_file: gone}}",
			`%DIR%/config.yaml: hub.focus.secret_file cannot be read: open %DIR%/gone: no such file or directory`},
		{"hub: {homeserver: {registration_secret_file: big}}",
			`%DIR%/config.yaml: hub.homeserver.registration_secret_file cannot be read: %DIR%/big is larger than 4096 bytes`},
	} {
		_, err := config.Load(write(t, folder, "config.yaml", test.yaml))
		if want := strings.ReplaceAll(test.want, "%DIR%", folder); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", test.yaml, err, want)
		}
	}
	missing := filepath.Join(folder, "none.yaml")
	want := "there is no configuration file at " + missing + ": copy example-config.yaml there and fill it in"
	if _, err := config.Load(missing); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// FuzzParse reads arbitrary files. An error comes without a Config, and a Config can be written and read again.
func FuzzParse(f *testing.F) {
	data, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, seed := range []string{"", "a", "window: {name: x}", "kiosk: {countdown: 1h}", "? [a]\n: b", "a: &a [*a]", "!!binary x: y", "---\n---"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		c, err := config.Parse(data)
		if err != nil {
			if c != nil {
				t.Fatal("a config came with an error")
			}
			return
		}
		_ = c.Validate(config.Kiosk)
		_ = c.Validate(config.Hub)
		written, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse(written)
		if err != nil {
			t.Fatalf("written config cannot be read: %v\n%s", err, written)
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("reading what was written differs:\n%+v\n%+v", c, again)
		}
	})
}
