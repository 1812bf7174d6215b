package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxFile limits the configuration file and maxSecret a file with a secret, in bytes. Both are far above what anybody needs.
const (
	maxFile   = 1 << 20
	maxSecret = 4 << 10
)

// Load reads the file at path over the defaults, and reads secrets from their files. It makes paths absolute; relative paths start at the
// folder of the file. It refuses unknown keys and wrong types. [Config.Validate] checks the values.
func Load(path string) (*Config, error) {
	data, err := readLimited(path, maxFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no configuration file at %s: copy example-config.yaml there and fill it in", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", path, err)
	}
	if err := c.resolve(filepath.Dir(absolute)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// resolve makes paths absolute and reads secrets from their files.
func (c *Config) resolve(folder string) error {
	for _, p := range []*string{
		&c.DataDir, &c.Homeserver.PasswordFile, &c.Hub.TLSCertificate, &c.Hub.TLSKey, &c.Hub.Account.PasswordFile, &c.Hub.TurnServer.SecretFile,
		&c.Hub.TurnServer.OldSecretFile,
		&c.Hub.TurnServer.TLSCertificate, &c.Hub.TurnServer.TLSKey, &c.Hub.Focus.SecretFile, &c.Hub.Focus.LiveKitProgram,
		&c.Hub.Homeserver.RegistrationSecretFile, &c.Hub.Homeserver.DendriteProgram,
	} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(folder, *p)
		}
	}
	var errs []error
	for _, s := range []struct {
		key   string
		value *string
		file  string
	}{
		{"homeserver.password", &c.Homeserver.Password, c.Homeserver.PasswordFile},
		{"hub.account.password", &c.Hub.Account.Password, c.Hub.Account.PasswordFile},
		{"hub.turnserver.secret", &c.Hub.TurnServer.Secret, c.Hub.TurnServer.SecretFile},
		{"hub.turnserver.old_secret", &c.Hub.TurnServer.OldSecret, c.Hub.TurnServer.OldSecretFile},
		{"hub.focus.secret", &c.Hub.Focus.Secret, c.Hub.Focus.SecretFile},
		{"hub.homeserver.registration_secret", &c.Hub.Homeserver.RegistrationSecret, c.Hub.Homeserver.RegistrationSecretFile},
	} {
		if s.file == "" {
			continue
		}
		if *s.value != "" {
			errs = append(errs, fmt.Errorf("%s and %s_file are both set: keep only one", s.key, s.key))
			continue
		}
		data, err := readLimited(s.file, maxSecret)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s_file cannot be read: %w", s.key, err))
			continue
		}
		if *s.value = strings.TrimSpace(string(data)); *s.value == "" {
			errs = append(errs, fmt.Errorf("%s_file: %s is empty: write the secret into it", s.key, s.file))
		}
	}
	return errors.Join(errs...)
}

// readLimited reads a whole file. It fails when the file is larger than limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}
