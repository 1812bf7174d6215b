package e2ee

import (
	"bytes"
	"encoding/binary"
	"testing"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

const maxFuzzFrame = 1 << 16

// FuzzDecrypt decrypts frames that anybody may have made. A frame that decrypts must be exactly what its plain frame encrypts to with the same IV.
func FuzzDecrypt(f *testing.F) {
	file := loadVectors(f)
	for _, v := range file.Vectors {
		f.Add(uint8(v.codec(f)), []byte(v.Encrypted))
		f.Add(uint8(v.codec(f)), []byte(v.Plain))
	}
	f.Add(uint8(codec.Opus), []byte(file.Behaviours.SIF.Silence))
	f.Add(uint8(codec.Opus), []byte(file.Behaviours.Ratchet.Encrypted))
	f.Add(uint8(codec.VP8), []byte{})
	f.Add(uint8(codec.H264+1), []byte{0})
	f.Fuzz(func(t *testing.T, which uint8, frame []byte) {
		if len(frame) > maxFuzzFrame {
			return
		}
		c := codec.Codec(which % 5)
		ring := NewKeyRing()
		for _, v := range file.Vectors {
			if err := ring.Set(v.Index, v.Key); err != nil {
				t.Fatal(err)
			}
		}
		d := NewDecryptor(c, ring, file.Behaviours.SIF.Trailer)
		in := bytes.Clone(frame)
		out, err := d.Decrypt([]byte("ab"), frame)
		if !bytes.Equal(in, frame) {
			t.Fatal("the input was changed")
		}
		if string(out[:2]) != "ab" {
			t.Fatal("what was in dst was changed")
		}
		if err != nil {
			if len(out) != 2 {
				t.Fatalf("%d bytes came with the error %v", len(out)-2, err)
			}
			return
		}
		if c == codec.H264 {
			return // several escapings and start codes mean the same frame
		}
		iv := frame[len(frame)-trailSize:]
		e, err := NewEncryptor(c)
		if err != nil {
			t.Fatal(err)
		}
		index := frame[len(frame)-1]
		key := &sendKey{aead: ring.keys[index].Load().aead, index: index}
		again, err := e.seal(nil, out[2:], key, binary.BigEndian.Uint32(iv), binary.BigEndian.Uint64(iv[4:]))
		if err != nil || !bytes.Equal(again, frame) {
			t.Fatalf("%x decrypted, but encrypts to %x, %v", frame, again, err)
		}
	})
}

// FuzzEncrypt encrypts and decrypts any frame.
func FuzzEncrypt(f *testing.F) {
	for _, v := range loadVectors(f).Vectors {
		f.Add(uint8(v.codec(f)), []byte(v.Plain))
	}
	f.Add(uint8(codec.H264), []byte{0, 0, 1, 0x65, 0, 0, 0, 0, 0, 0, 3})
	f.Add(uint8(codec.VP8), []byte{1, 2})
	f.Fuzz(func(t *testing.T, which uint8, frame []byte) {
		if len(frame) > maxFuzzFrame {
			return
		}
		c := codec.Codec(which % 4)
		p := c.Parameters()
		e := encryptor(t, c, 3, 1)
		sent, err := e.Encrypt(nil, frame)
		if err != nil {
			if n, ok := clearHeader(&p, frame); ok {
				t.Fatalf("a frame with a header of %d bytes was refused: %v", n, err)
			}
			return
		}
		ring := NewKeyRing()
		if err := ring.Set(3, key(1)); err != nil {
			t.Fatal(err)
		}
		got, err := NewDecryptor(c, ring, nil).Decrypt(nil, sent)
		if err != nil {
			t.Fatal(err)
		}
		want := frame
		if c == codec.H264 {
			n, _ := clearHeader(&p, frame)
			want = append(appendLongStartCodes(nil, frame[:n]), frame[n:]...)
			m, ok := clearHeader(&p, sent)
			if !ok || !bytes.Equal(sent[:m], want[:m]) {
				t.Fatalf("the receiver sees another header in %x", sent)
			}
			checkNoStartCode(t, sent[m:])
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%x came back as %x", want, got)
		}
	})
}

// FuzzEscape checks emulation prevention on any bytes.
func FuzzEscape(f *testing.F) {
	for _, b := range [][]byte{
		nil, {0, 0, 3}, {0, 0, 0, 0, 0}, {0, 0, 3, 0, 0, 3}, {0, 0, 1, 0, 0, 2}, {0, 0, 4}, {3, 3, 0, 0}, {0, 0, 3, 3, 1},
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) > maxFuzzFrame {
			return
		}
		out := escape(append([]byte{0, 0}, plain...), 2)
		if out[0] != 0 || out[1] != 0 {
			t.Fatal("the header was changed")
		}
		checkNoStartCode(t, out[2:])
		if got := appendUnescaped(nil, out[2:]); !bytes.Equal(got, plain) {
			t.Fatalf("%x was escaped as %x and came back as %x", plain, out[2:], got)
		}
	})
}

// FuzzSliceHeader checks that the clear header of any Annex B bytes ends behind a slice's start code.
func FuzzSliceHeader(f *testing.F) {
	for _, v := range loadVectors(f).Vectors {
		f.Add([]byte(v.Plain))
	}
	f.Add([]byte{0, 0, 1, 0x65})
	f.Fuzz(func(t *testing.T, frame []byte) {
		n, ok := sliceHeader(frame)
		if !ok {
			if n != 0 {
				t.Fatalf("%d bytes of no header", n)
			}
			return
		}
		if n < 5 || n > len(frame) || !bytes.Equal(frame[n-5:n-2], []byte{0, 0, 1}) || !isSlice(frame[n-2]) {
			t.Fatalf("header of %d bytes in %x", n, frame)
		}
		if m, ok := sliceHeader(frame[:n-1]); ok {
			t.Fatalf("an earlier slice begins before byte %d", m)
		}
	})
}

func checkNoStartCode(t *testing.T, b []byte) {
	t.Helper()
	for i := 0; i+2 < len(b); i++ {
		if b[i] == 0 && b[i+1] == 0 && b[i+2] < emulationByte {
			t.Fatalf("a start code is at %d in %x", i, b)
		}
	}
}
