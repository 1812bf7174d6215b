package e2ee

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// Encryptor encrypts the frames of one sent track. All methods may be called from any goroutine.
type Encryptor struct {
	codec   codec.Parameters
	prefix  uint32
	counter atomic.Uint64
	key     atomic.Pointer[sendKey]
}

type sendKey struct {
	aead  cipher.AEAD
	index uint8
}

// NewEncryptor returns an encryptor without a key. Its IVs are four random bytes and an eight-byte counter with a random start, so that two tracks
// with the same key never use the same IV. It fails only for an unknown codec.
func NewEncryptor(c codec.Codec) (*Encryptor, error) {
	if !c.Known() {
		return nil, fmt.Errorf("make frame encryptor: unknown %s", c)
	}
	var start [ivSize]byte
	rand.Read(start[:]) // never fails (Go 1.24)
	e := &Encryptor{codec: c.Parameters(), prefix: binary.BigEndian.Uint32(start[:])}
	e.counter.Store(binary.BigEndian.Uint64(start[4:]))
	return e, nil
}

// SetKey sets the key for the frames that follow. material is the 16 (to 64) bytes that the other participants have as the sender's key at
// index. A frame that another goroutine is encrypting may still use the previous key.
func (e *Encryptor) SetKey(index uint8, material []byte) error {
	if err := checkMaterial(material); err != nil {
		return err
	}
	aead, err := derive(material)
	if err != nil {
		return err
	}
	e.key.Store(&sendKey{aead: aead, index: index})
	return nil
}

// Encrypt appends the encrypted frame to dst, which must not overlap frame, and returns the longer slice. It allocates only if dst
// has no room for len(frame)+[Overhead] bytes. Without a key it fails with [ErrNoKey], on a frame too short for its codec with
// [ErrShort], and then returns dst as it was.
func (e *Encryptor) Encrypt(dst, frame []byte) ([]byte, error) {
	key := e.key.Load()
	if key == nil {
		return dst, ErrNoKey
	}
	return e.seal(dst, frame, key, e.prefix, e.counter.Add(1))
}

// seal encrypts with a given IV.
func (e *Encryptor) seal(dst, frame []byte, key *sendKey, prefix uint32, counter uint64) ([]byte, error) {
	n, ok := clearHeader(&e.codec, frame)
	if !ok {
		return dst, ErrShort
	}
	plain := frame[n:]
	start := len(dst)
	out := slices.Grow(dst, len(frame)+Overhead)
	if e.codec.AnnexB {
		out = appendLongStartCodes(out, frame[:n])
	} else {
		out = append(out, frame[:n]...)
	}
	body := len(out)
	end := body + len(plain) + tagSize
	// The IV is written into the output and used from there. An array on the stack would be moved to the heap by the call through the AEAD
	// interface.
	out = slices.Grow(out, len(plain)+Overhead)[:end+trailSize]
	iv := out[end : end+ivSize]
	binary.BigEndian.PutUint32(iv, prefix)
	binary.BigEndian.PutUint64(iv[4:], counter)
	out[end+ivSize] = ivSize
	out[end+ivSize+1] = key.index
	key.aead.Seal(out[:body:end], iv, plain, out[start:body])
	if e.codec.AnnexB {
		out = escape(out, body)
	}
	return out, nil
}
