package e2ee

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// key returns 16 bytes of key material that depend on n.
func key(n byte) []byte { return bytes.Repeat([]byte{n}, 16) }

// encryptor returns an encryptor with key(n) at index.
func encryptor(t testing.TB, c codec.Codec, index uint8, n byte) *Encryptor {
	t.Helper()
	e, err := NewEncryptor(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetKey(index, key(n)); err != nil {
		t.Fatal(err)
	}
	return e
}

// sample returns a frame of size bytes. Its first bytes are as in a real frame of the codec.
func sample(c codec.Codec, size int) []byte {
	r := rand.New(rand.NewPCG(7, uint64(size)))
	frame := make([]byte, size)
	for i := range frame {
		frame[i] = byte(r.Uint32())
	}
	switch c {
	case codec.Opus:
		frame[0] = 0x78
	case codec.VP8:
		frame[0] |= 1
	case codec.H264:
		copy(frame, []byte{0, 0, 0, 1, 0x41, 0x9a})
	}
	return frame
}

func TestRoundTrip(t *testing.T) {
	for c := codec.Opus; c <= codec.H264; c++ {
		e := encryptor(t, c, 3, 1)
		ring := NewKeyRing()
		if err := ring.Set(3, key(1)); err != nil {
			t.Fatal(err)
		}
		d := NewDecryptor(c, ring, []byte("trailer"))
		for _, size := range []int{10, 11, 64, 1200, 60000} {
			frame := sample(c, size)
			sent, err := e.Encrypt([]byte("ab"), frame)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", c, size, err)
			}
			if c != codec.H264 && len(sent) != 2+size+Overhead {
				t.Errorf("%s: %d bytes became %d", c, size, len(sent)-2)
			}
			if size >= 64 && bytes.Contains(sent, frame[20:40]) {
				t.Errorf("%s: plain bytes are in the encrypted frame", c)
			}
			got, err := d.Decrypt([]byte("cd"), sent[2:])
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", c, size, err)
			}
			if string(got[:2]) != "cd" || !bytes.Equal(got[2:], frame) {
				t.Errorf("%s: %d bytes came back different", c, size)
			}
		}
	}
}

func TestNoKeyNoFrame(t *testing.T) {
	e, err := NewEncryptor(codec.Opus)
	if err != nil {
		t.Fatal(err)
	}
	frame := sample(codec.Opus, 80)
	if out, err := e.Encrypt(nil, frame); !errors.Is(err, ErrNoKey) || len(out) != 0 {
		t.Errorf("without a key: %x, %v, want ErrNoKey", out, err)
	}
	if err := e.SetKey(0, key(1)[:15]); err == nil {
		t.Error("15 bytes of key material were accepted")
	}
	if err := e.SetKey(0, make([]byte, 65)); err == nil {
		t.Error("65 bytes of key material were accepted")
	}
	if out, err := e.Encrypt(nil, frame); !errors.Is(err, ErrNoKey) || len(out) != 0 {
		t.Errorf("after refused keys: %x, %v, want ErrNoKey", out, err)
	}
	if _, err := NewEncryptor(codec.H264 + 1); err == nil {
		t.Error("an encryptor for an unknown codec was made")
	}
}

func TestShortFrames(t *testing.T) {
	tests := []struct {
		name  string
		codec codec.Codec
		frame []byte
	}{
		{"empty Opus", codec.Opus, nil},
		{"empty VP8", codec.VP8, nil},
		{"empty VP9", codec.VP9, nil},
		{"VP8 delta", codec.VP8, []byte{1, 2}},
		{"VP8 key", codec.VP8, []byte{0, 0, 0, 0x9d, 1, 0x2a, 0, 0, 0}},
		{"H264 without slice", codec.H264, []byte{0, 0, 0, 1, 0x67, 1, 2, 3}},
		{"H264 slice of one byte", codec.H264, []byte{0, 0, 0, 1, 0x65}},
		{"unknown codec", codec.H264 + 1, []byte{1, 2, 3}},
	}
	ring := NewKeyRing()
	if err := ring.Set(0, key(1)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.codec.Known() {
				if out, err := encryptor(t, tt.codec, 0, 1).Encrypt(nil, tt.frame); !errors.Is(err, ErrShort) || len(out) != 0 {
					t.Errorf("encrypt: %x, %v, want ErrShort", out, err)
				}
			}
			if out, err := NewDecryptor(tt.codec, ring, nil).Decrypt(nil, tt.frame); !errors.Is(err, ErrShort) || len(out) != 0 {
				t.Errorf("decrypt: %x, %v, want ErrShort", out, err)
			}
		})
	}
	// Every shortened frame is refused.
	whole, err := encryptor(t, codec.Opus, 0, 1).Encrypt(nil, []byte{0x78})
	if err != nil {
		t.Fatal(err)
	}
	d := NewDecryptor(codec.Opus, ring, nil)
	if _, err := d.Decrypt(nil, whole); err != nil {
		t.Errorf("a frame of only the TOC byte: %v", err)
	}
	for range 20 { // these don't count as failures of the key
		if _, err := d.Decrypt(nil, append([]byte{0x78}, whole[2:]...)); !errors.Is(err, ErrShort) {
			t.Errorf("one byte less than a frame's least: %v, want ErrShort", err)
		}
	}
	for n := range whole {
		if _, err := d.Decrypt(nil, whole[:n]); err == nil {
			t.Errorf("%d of %d bytes were accepted", n, len(whole))
		}
	}
}

// TestFailures does what livekit-client does: after ten bad frames in a row a good one is decrypted, after eleven the key is invalid.
func TestFailures(t *testing.T) {
	e := encryptor(t, codec.Opus, 5, 1)
	good, err := e.Encrypt(nil, sample(codec.Opus, 60))
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[20] ^= 1
	ring := NewKeyRing()
	d := NewDecryptor(codec.Opus, ring, nil)
	expect := func(what string, frame []byte, want error) {
		t.Helper()
		if _, err := d.Decrypt(nil, frame); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	}
	for range 15 {
		expect("before the key", good, ErrNoKey)
	}
	if err := ring.Set(5, key(1)); err != nil {
		t.Fatal(err)
	}
	expect("first", good, nil)
	for range 10 {
		expect("bad", bad, ErrDecrypt)
	}
	expect("after ten bad ones", good, nil)
	for range 11 {
		expect("bad", bad, ErrDecrypt)
	}
	expect("after eleven bad ones", good, ErrInvalidKey)
	if err := ring.Set(6, key(1)); err != nil {
		t.Fatal(err)
	}
	expect("after a key at another index", good, ErrInvalidKey)
	if err := ring.Set(5, key(1)); err != nil {
		t.Fatal(err)
	}
	expect("after the key was set again", good, nil)
}

func TestKeyChange(t *testing.T) {
	e := encryptor(t, codec.VP8, 255, 1)
	ring := NewKeyRing()
	d := NewDecryptor(codec.VP8, ring, nil)
	for i, index := range []uint8{255, 0, 1} {
		if err := e.SetKey(index, key(byte(i))); err != nil {
			t.Fatal(err)
		}
		if err := ring.Set(index, key(byte(i))); err != nil {
			t.Fatal(err)
		}
		out, err := e.Encrypt(nil, sample(codec.VP8, 500))
		if err != nil {
			t.Fatal(err)
		}
		if out[len(out)-1] != index {
			t.Errorf("the frame names key %d, want %d", out[len(out)-1], index)
		}
		if _, err := d.Decrypt(nil, out); err != nil {
			t.Errorf("key %d: %v", index, err)
		}
	}
}

// TestConcurrentKeys changes keys while frames are encrypted and decrypted. It is for the race detector.
func TestConcurrentKeys(t *testing.T) {
	e := encryptor(t, codec.Opus, 0, 0)
	ring := NewKeyRing()
	for i := range byte(10) {
		if err := ring.Set(i, key(i)); err != nil {
			t.Fatal(err)
		}
	}
	var group sync.WaitGroup
	group.Go(func() {
		for i := range 1000 {
			n := byte(i % 10)
			if err := e.SetKey(n, key(n)); err != nil {
				t.Error(err)
			}
			if err := ring.Set(n, key(n)); err != nil {
				t.Error(err)
			}
		}
	})
	for range 3 {
		group.Go(func() {
			d := NewDecryptor(codec.Opus, ring, nil)
			frame := sample(codec.Opus, 100)
			for range 1000 {
				sent, err := e.Encrypt(nil, frame)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := d.Decrypt(nil, sent); err != nil || !bytes.Equal(got, frame) {
					t.Errorf("decrypted %x, %v", got, err)
					return
				}
			}
		})
	}
	group.Wait()
}
