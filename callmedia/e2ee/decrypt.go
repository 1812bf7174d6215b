package e2ee

import (
	"bytes"
	"crypto/cipher"
	"slices"
	"sync/atomic"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

const (
	// maxFailures is how many frames in a row may fail before a key counts as invalid.
	maxFailures = 10
	// ratchetWindow is how many steps ahead of the known key a sender may be.
	ratchetWindow = 10
)

// KeyRing holds one remote participant's keys, by index. The participant's decryptors share it. All methods may be called from any
// goroutine.
type KeyRing struct {
	keys [256]atomic.Pointer[ringKey]
}

type ringKey struct {
	aead     cipher.AEAD
	material []byte
	failures atomic.Int32
}

func newRingKey(material []byte) (*ringKey, error) {
	aead, err := derive(material)
	if err != nil {
		return nil, err
	}
	return &ringKey{aead: aead, material: material}, nil
}

// NewKeyRing returns an empty key ring.
func NewKeyRing() *KeyRing { return &KeyRing{} }

// Set installs the key material (16 to 64 bytes) at index, replacing what was there and forgetting its failures.
func (r *KeyRing) Set(index uint8, material []byte) error {
	if err := checkMaterial(material); err != nil {
		return err
	}
	key, err := newRingKey(bytes.Clone(material))
	if err != nil {
		return err
	}
	r.keys[index].Store(key)
	return nil
}

// Decryptor decrypts the frames of one received track. It belongs to one goroutine; its key ring may be changed by others.
type Decryptor struct {
	codec   codec.Parameters
	ring    *KeyRing
	trailer []byte
	scratch []byte
}

// NewDecryptor returns a decryptor for a track of the participant whose keys are in r. sifTrailer is what the SFU appends to frames
// it makes itself (sif_trailer in LiveKit's JoinResponse); nil when there is none.
func NewDecryptor(c codec.Codec, r *KeyRing, sifTrailer []byte) *Decryptor {
	return &Decryptor{codec: c.Parameters(), ring: r, trailer: bytes.Clone(sifTrailer)}
}

// Decrypt appends the decrypted frame to dst, which must not overlap frame, and returns the longer slice. It allocates only if dst
// has no room for len(frame) bytes, or when the key failed. On error it returns dst as it was: [ErrShort], [ErrInjected],
// [ErrNoKey], [ErrInvalidKey] or [ErrDecrypt]. The frame must then be dropped; no frame is ever passed on undecrypted.
//
// A frame that fails is tried with the next keys of LiveKit's ratchet too. More than ten failures in a row make the key invalid
// until one is set at its index again, so that garbage costs little.
func (d *Decryptor) Decrypt(dst, frame []byte) ([]byte, error) {
	if len(d.trailer) > 0 && bytes.HasSuffix(frame, d.trailer) {
		return dst, ErrInjected
	}
	n, ok := clearHeader(&d.codec, frame)
	if !ok {
		return dst, ErrShort
	}
	header, body := frame[:n], frame[n:]
	if d.codec.AnnexB && escaped(body) {
		d.scratch = appendUnescaped(d.scratch[:0], body)
		body = d.scratch
	}
	if len(body) < Overhead || body[len(body)-2] != ivSize {
		return dst, ErrShort
	}
	index := body[len(body)-1]
	iv := body[len(body)-trailSize : len(body)-2]
	sealed := body[:len(body)-trailSize]

	key := d.ring.keys[index].Load()
	if key == nil {
		return dst, ErrNoKey
	}
	if key.failures.Load() > maxFailures {
		return dst, ErrInvalidKey
	}
	out := slices.Grow(dst, len(frame))
	out = append(out, header...)
	plain, err := key.aead.Open(out, iv, sealed, header)
	if err == nil {
		// Loaded first: tracks in other goroutines share the key, and a store for each frame would cost them its cache line.
		if key.failures.Load() != 0 {
			key.failures.Store(0)
		}
		return plain, nil
	}
	if plain, ok := d.openRatcheted(out, index, key, iv, sealed, header); ok {
		return plain, nil
	}
	key.failures.Add(1)
	return dst, ErrDecrypt
}

// openRatcheted tries the keys that follow key, and installs the one that fits.
func (d *Decryptor) openRatcheted(out []byte, index uint8, key *ringKey, iv, sealed, header []byte) ([]byte, bool) {
	material := key.material
	for range ratchetWindow {
		var err error
		if material, err = ratchet(material); err != nil {
			return nil, false
		}
		next, err := newRingKey(material)
		if err != nil {
			return nil, false
		}
		if plain, err := next.aead.Open(out, iv, sealed, header); err == nil {
			// A key set meanwhile is newer than a guess.
			d.ring.keys[index].CompareAndSwap(key, next)
			return plain, true
		}
	}
	return nil, false
}
