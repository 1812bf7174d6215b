package child

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// Program is one of the upstream servers that ewindow runs unmodified.
type Program struct {
	// Name is the name of its file.
	Name string
	// Package is the path of its Go package. The nested module cmd/ewindow/servers lists this package as a tool.
	Package string
}

// The programs that the hub runs.
var (
	Dendrite = Program{"dendrite", "github.com/element-hq/dendrite/cmd/dendrite"}
	LiveKit  = Program{"livekit-server", "github.com/livekit/livekit-server/cmd/server"}
)

// progressEvery is how often a build reports that it goes on.
const progressEvery = 15 * time.Second

// Find returns the path of a program: the configured path, else a file beside our own binary or in PATH. If there is none and our source is on
// this machine, it uses the user's cache folder, and builds the program there the first time. Building needs a Go toolchain, and takes a minute
// or two. progress, which may be nil, gets a sentence now and then.
func Find(ctx context.Context, p Program, configured string, progress func(string)) (string, error) {
	if configured != "" {
		path, err := exec.LookPath(configured)
		if err != nil {
			return "", fmt.Errorf("the configured program %s can't be run: %w", configured, err)
		}
		return path, nil
	}
	if own, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(own), p.Name)); err == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath(p.Name); err == nil {
		return path, nil
	}
	return build(ctx, p, progress)
}

// build builds a program into the cache, unless it is there. When two processes want the same program, one builds and the other waits.
func build(ctx context.Context, p Program, progress func(string)) (string, error) {
	source, ok := serversModule()
	if !ok {
		return "", fmt.Errorf("%s was not found: put it beside ewindow or into PATH, or name its path in the configuration", p.Name)
	}
	folder, err := cacheFolder(source)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", p.Name, err)
	}
	path := filepath.Join(folder, p.Name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	goProgram, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("%s was not found, and there is no Go toolchain to build it: install Go, or put %s beside ewindow", p.Name, p.Name)
	}
	unlock, err := Lock(ctx, path+".lock")
	if err != nil {
		return "", fmt.Errorf("build %s: %w", p.Name, err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if progress != nil {
		begun := time.Now()
		progress(fmt.Sprintf("Building %s, once: this takes a minute or two", p.Name))
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		done := make(chan struct{})
		ended := make(chan struct{})
		defer func() { close(done); <-ended }()
		go func() {
			defer close(ended)
			for {
				select {
				case <-tick.C:
					progress(fmt.Sprintf("Building %s, %d s so far", p.Name, int(time.Since(begun).Seconds())))
				case <-done:
					return
				}
			}
		}()
	}
	half := path + ".new"
	cmd := exec.CommandContext(ctx, goProgram, "build", "-C", source, "-trimpath", "-ldflags=-s -w", "-o", half, p.Package)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=", "GOARM=")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", p.Name, err, bytes.TrimSpace(output.Bytes()))
	}
	if err := os.Rename(half, path); err != nil {
		return "", fmt.Errorf("build %s: %w", p.Name, err)
	}
	return path, nil
}

// serversModule finds the folder of the nested module: in the source that this program was compiled from, or in the checkout that contains the
// working folder.
func serversModule() (string, bool) {
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		if folder := filepath.Join(filepath.Dir(file), "..", "..", "cmd", "ewindow", "servers"); isModule(folder) {
			return folder, true
		}
	}
	folder, err := os.Getwd()
	for err == nil {
		if inner := filepath.Join(folder, "cmd", "ewindow", "servers"); isModule(inner) {
			return inner, true
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			break
		}
		folder = parent
	}
	return "", false
}

func isModule(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

// cacheFolder makes a folder whose name depends on the nested module, so that each version of the programs has its own folder.
func cacheFolder(source string) (string, error) {
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		hash.Write(text)
	}
	fmt.Fprint(hash, runtime.GOOS, runtime.GOARCH)
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "ewindow", "servers-"+hex.EncodeToString(hash.Sum(nil))[:12])
	return folder, os.MkdirAll(folder, 0o755)
}
