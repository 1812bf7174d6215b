package element

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/cmd/e2e/browser"
)

//go:embed host/package.json host/package-lock.json host/.npmrc host/index.html host/host.js host/grants.js
var host embed.FS

// buildLimit is the time limit of the first build, which downloads from the npm registry.
const buildLimit = 5 * time.Minute

// Need checks that this machine can run the real Element Call. Without npm or Chromium the test is skipped, with a line that says how to install
// them. If EWINDOW_E2E is "require", it fails instead.
func Need(t testing.TB) {
	t.Helper()
	browser.Need(t)
	if err := programs(); err != nil && os.Getenv("EWINDOW_E2E") == "require" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
}

func programs() error {
	for _, name := range []string{"npm", "node"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("there is no %s on this machine, which downloads the real Element Call: install it with: sudo apt-get install npm", name)
		}
	}
	return nil
}

// built builds the host page once for all tests of this process, and returns its folder.
var built = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	return build(ctx)
})

// build builds the host page and downloads Element Call into the user's cache folder, unless this was done before. The folder's name contains a hash
// of the sources. A lock makes sure that two processes do not build at the same time.
func build(ctx context.Context) (folder string, err error) {
	hash := sha256.New()
	err = fs.WalkDir(host, "host", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := host.ReadFile(name)
		fmt.Fprintf(hash, "%s %d\n%s", name, len(data), data)
		return err
	})
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder = filepath.Join(cache, "ewindow", "element-"+hex.EncodeToString(hash.Sum(nil))[:12])
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	unlock, err := child.Lock(ctx, folder+".lock")
	if err != nil {
		return "", fmt.Errorf("wait for another build of Element's host page: %w", err)
	}
	defer unlock()
	done := filepath.Join(folder, "bundle.js")
	if _, err := os.Stat(done); err == nil {
		return folder, nil
	}
	sources, err := fs.Sub(host, "host")
	if err != nil {
		return "", err
	}
	files, err := fs.Glob(sources, "*")
	if err != nil {
		return "", err
	}
	for _, name := range append(files, ".npmrc") {
		data, err := fs.ReadFile(sources, name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			return "", err
		}
	}
	// No install scripts of packages run. esbuild works without its own.
	if err := run(ctx, folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"); err != nil {
		return "", err
	}
	half := done + ".new"
	if err := run(ctx, folder, filepath.Join(folder, "node_modules", ".bin", "esbuild"), "host.js", "--bundle", "--format=esm",
		"--target=chrome120", "--log-level=warning", "--outfile="+half); err != nil {
		return "", err
	}
	return folder, os.Rename(half, done)
}

func run(ctx context.Context, folder, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = folder
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), args[0], err, bytes.TrimSpace(output.Bytes()))
	}
	return nil
}
