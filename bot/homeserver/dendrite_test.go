package homeserver_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestDendriteName: the data's name stays. A file that was cut off does not get in the way.
func TestDendriteName(t *testing.T) {
	dir := t.TempDir()
	command := func(name string) error {
		d, err := homeserver.NewDendrite(homeserver.DendriteConfig{Dir: dir, ServerName: name, ClientPort: 18008})
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Command("dendrite")
		return err
	}
	for _, name := range []string{"example.org", "example.org"} {
		if err := command(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := command("hub.example.org"); err == nil || !strings.Contains(err.Error(), "the homeserver example.org, and the configuration says hub.example.org") {
		t.Errorf("with another name: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dendrite.yaml"), []byte("global: {server_n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := command("example.org"); err != nil {
		t.Errorf("after a file that was cut off: %v", err)
	}
}

func TestDendriteConfig(t *testing.T) {
	good := homeserver.DendriteConfig{Dir: t.TempDir(), ServerName: "example.org", ClientPort: 8008}
	for want, change := range map[string]func(*homeserver.DendriteConfig){
		"dendrite: a folder is needed":                    func(c *homeserver.DendriteConfig) { c.Dir = "" },
		`dendrite: "a b" is no server name`:               func(c *homeserver.DendriteConfig) { c.ServerName = "a b" },
		"dendrite: 0 is no port":                          func(c *homeserver.DendriteConfig) { c.ClientPort = 0 },
		"dendrite: bcrypt cost 3 is not between 4 and 31": func(c *homeserver.DendriteConfig) { c.BcryptCost = 3 },
		"dendrite: invalid CIDR address: 10.0.0.0":        func(c *homeserver.DendriteConfig) { c.DenyNetworks = []string{"10.0.0.0"} },
		"dendrite: invalid CIDR address: everything":      func(c *homeserver.DendriteConfig) { c.AllowNetworks = []string{"everything"} },
	} {
		cfg := good
		change(&cfg)
		if _, err := homeserver.NewDendrite(cfg); err == nil || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

// TestDendriteFiles: the signing key does not change, only we can read the files, and our certificate authority is added to the system's.
func TestDendriteFiles(t *testing.T) {
	system := filepath.Join(t.TempDir(), "system.pem")
	if err := os.WriteFile(system, []byte("THE SYSTEM'S"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", system)
	ca := rig.CAFile(t)
	dir := filepath.Join(t.TempDir(), "dendrite")
	d, err := homeserver.NewDendrite(homeserver.DendriteConfig{
		Dir: dir, ServerName: "example.org", ClientPort: 18008, RegistrationSecret: "quoted: \"'#", CAFile: ca,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the constructor has written something")
	}
	read := func(name string) string {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", name, mode)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	cmd, err := d.Command("dendrite")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(cmd.Args, "127.0.0.1:18008") || slices.Contains(cmd.Args, "-really-enable-open-registration") {
		t.Error(cmd.Args)
	}
	if last := cmd.Env[len(cmd.Env)-1]; last != "SSL_CERT_FILE="+filepath.Join(dir, "roots.pem") {
		t.Error(last)
	}
	key := read("matrix_key.pem")
	if _, err := d.Command("dendrite"); err != nil {
		t.Fatal(err)
	}
	if read("matrix_key.pem") != key {
		t.Error("the signing key has changed")
	}
	if roots := read("roots.pem"); !strings.Contains(roots, "THE SYSTEM'S") || !strings.Contains(roots, "BEGIN CERTIFICATE") {
		t.Error("certificates are missing")
	}
	if text := read("dendrite.yaml"); strings.Contains(text, "matrix.org") {
		t.Error("the configuration names a stranger")
	}
}

func TestRegister(t *testing.T) {
	hs := rig.StartHomeserver(t)
	user, _ := hs.Register(t, "anna")
	if want := "@anna:" + hs.ServerName; user.String() != want {
		t.Errorf("%s, not %s", user, want)
	}
	for _, c := range []struct{ name, password, secret, want string }{
		{"Anna", "long enough", hs.Secret, "is no user name"},
		{"_anna", "long enough", hs.Secret, "is no user name"},
		{"", "long enough", hs.Secret, "is no user name"},
		{"ben", "short", hs.Secret, "8 to 512"},
		{"ben", "nul\x00inside", hs.Secret, "8 to 512"},
		{"ben", "long enough", "", "secret is missing"},
		{"ben", "long enough", "wrong", "register ben: "},
		{"anna", "long enough", hs.Secret, "M_USER_IN_USE"},
	} {
		_, err := homeserver.Register(t.Context(), nil, hs.Direct, c.secret, c.name, c.password, false)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.password) {
			t.Errorf("%q: %v, not %s", c.name, err, c.want)
		}
	}
	_, err := homeserver.Register(t.Context(), nil, hs.Direct, hs.Secret, "anna", rand.Text(), false)
	if !errors.Is(err, mautrix.MUserInUse) {
		t.Error(err)
	}
	if _, err := homeserver.Register(t.Context(), nil, hs.URL, hs.Secret, "ben", rand.Text(), false); !errors.Is(err, mautrix.MUnrecognized) {
		t.Error("the front lets registration through: ", err)
	}
	// The device that registration makes was removed. Only the one that asks is left.
	devices, err := hs.Client(t, user).GetDevicesInfo(t.Context())
	if err != nil || len(devices.Devices) != 1 {
		t.Error(devices, err)
	}
}
