package e2ee

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// hexBytes is bytes written in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

type vector struct {
	Name      string   `json:"name"`
	Codec     string   `json:"codec"`
	Key       hexBytes `json:"key_hex"`
	Index     uint8    `json:"key_index"`
	SSRC      uint32   `json:"ssrc"`
	Timestamp uint32   `json:"rtp_timestamp"`
	Counter   uint32   `json:"initial_send_counter"`
	Plain     hexBytes `json:"plain_frame_hex"`
	Encrypted hexBytes `json:"encrypted_frame_hex"`
	Decrypted hexBytes `json:"decrypted_frame_hex"`
}

func (v vector) codec(t testing.TB) codec.Codec {
	t.Helper()
	c, ok := map[string]codec.Codec{"opus": codec.Opus, "vp8": codec.VP8, "vp9": codec.VP9, "h264": codec.H264}[v.Codec]
	if !ok {
		t.Fatalf("vector %s has the unknown codec %q", v.Name, v.Codec)
	}
	return c
}

type vectorFile struct {
	Vectors    []vector `json:"vectors"`
	Behaviours struct {
		SIF struct {
			Trailer hexBytes `json:"trailer_hex"`
			Silence hexBytes `json:"opus_silence_input_hex"`
		} `json:"sif"`
		Ratchet struct {
			Start     hexBytes `json:"start_key_hex"`
			Chain     hexBytes `json:"chain_key_hex"`
			Encrypted hexBytes `json:"encrypted_frame_hex"`
			Plain     hexBytes `json:"plain_frame_hex"`
			Index     uint8    `json:"key_index"`
		} `json:"sender_ratchet"`
	} `json:"behaviours"`
}

// loadVectors reads what livekit-client's own code made. H.265's is left out: no part of the program knows that codec.
func loadVectors(t testing.TB) vectorFile {
	t.Helper()
	data, err := os.ReadFile("testdata/e2ee-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) != 7 {
		t.Fatalf("there are %d vectors, want 7", len(file.Vectors))
	}
	file.Vectors = slices.DeleteFunc(file.Vectors, func(v vector) bool { return v.Codec == "h265" })
	return file
}

// sealVector encrypts a vector's frame with the IV that a browser used.
func sealVector(t testing.TB, v vector) []byte {
	t.Helper()
	e, err := NewEncryptor(v.codec(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetKey(v.Index, v.Key); err != nil {
		t.Fatal(err)
	}
	counter := uint64(v.Timestamp)<<32 | uint64(v.Timestamp-v.Counter%65535)
	out, err := e.seal(nil, v.Plain, e.key.Load(), v.SSRC, counter)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVectorsEncrypt(t *testing.T) {
	for _, v := range loadVectors(t).Vectors {
		t.Run(v.Name, func(t *testing.T) {
			if got := sealVector(t, v); !bytes.Equal(got, v.Encrypted) {
				t.Errorf("encrypted\n%x, want\n%x", got, []byte(v.Encrypted))
			}
		})
	}
}

func TestVectorsDecrypt(t *testing.T) {
	for _, v := range loadVectors(t).Vectors {
		t.Run(v.Name, func(t *testing.T) {
			ring := NewKeyRing()
			if err := ring.Set(v.Index, v.Key); err != nil {
				t.Fatal(err)
			}
			d := NewDecryptor(v.codec(t), ring, nil)
			before := []byte("before")
			got, err := d.Decrypt(before, v.Encrypted)
			if err != nil {
				t.Fatal(err)
			}
			if want := append(before, v.Decrypted...); !bytes.Equal(got, want) {
				t.Errorf("decrypted\n%x, want\n%x", got, want)
			}
			// Every byte is authenticated, or is the key's index.
			for i := range v.Encrypted {
				bad := bytes.Clone(v.Encrypted)
				bad[i] ^= 0x04
				if err := ring.Set(v.Index, v.Key); err != nil { // forgets the failures
					t.Fatal(err)
				}
				if out, err := d.Decrypt(before, bad); err == nil || len(out) != len(before) {
					t.Fatalf("decrypted although byte %d was changed: %x, %v", i, out, err)
				}
			}
		})
	}
}

func TestVectorRatchet(t *testing.T) {
	r := loadVectors(t).Behaviours.Ratchet
	chain, err := ratchet(r.Start)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(chain, r.Chain) {
		t.Errorf("ratcheted to %x, want %x", chain, []byte(r.Chain))
	}
	ring := NewKeyRing()
	if err := ring.Set(r.Index, r.Start); err != nil {
		t.Fatal(err)
	}
	d := NewDecryptor(codec.Opus, ring, nil)
	for range 2 {
		got, err := d.Decrypt(nil, r.Encrypted)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, r.Plain) {
			t.Errorf("decrypted %x, want %x", got, []byte(r.Plain))
		}
	}
	if got := ring.keys[r.Index].Load().material; !bytes.Equal(got, r.Chain) {
		t.Errorf("the ring holds %x, want the ratcheted key %x", got, []byte(r.Chain))
	}
}

// TestRatchetWindow decrypts when the sender is ten ratchet steps ahead, but not when it is eleven steps ahead.
func TestRatchetWindow(t *testing.T) {
	v := loadVectors(t).Vectors[0]
	material := []byte(v.Key)
	for step := 1; step <= ratchetWindow+1; step++ {
		var err error
		if material, err = ratchet(material); err != nil {
			t.Fatal(err)
		}
		sent := v
		sent.Key = material
		frame := sealVector(t, sent)
		ring := NewKeyRing()
		if err := ring.Set(v.Index, v.Key); err != nil {
			t.Fatal(err)
		}
		_, err = NewDecryptor(codec.Opus, ring, nil).Decrypt(nil, frame)
		if want := step <= ratchetWindow; (err == nil) != want {
			t.Errorf("%d steps ahead: error %v, want success %t", step, err, want)
		}
	}
}

func TestServerInjectedFrames(t *testing.T) {
	file := loadVectors(t)
	v := file.Vectors[0]
	ring := NewKeyRing()
	if err := ring.Set(v.Index, v.Key); err != nil {
		t.Fatal(err)
	}
	d := NewDecryptor(codec.Opus, ring, file.Behaviours.SIF.Trailer)
	for name, frame := range map[string][]byte{
		"silence": file.Behaviours.SIF.Silence,
		"other":   append([]byte{1, 2, 3}, file.Behaviours.SIF.Trailer...),
		"bare":    file.Behaviours.SIF.Trailer,
	} {
		if out, err := d.Decrypt(nil, frame); !errors.Is(err, ErrInjected) || len(out) != 0 {
			t.Errorf("%s: got %x, %v, want ErrInjected", name, out, err)
		}
	}
	if _, err := d.Decrypt(nil, v.Encrypted); err != nil {
		t.Errorf("a sender's frame: %v", err)
	}
}

// TestIV checks that no two frames of an encryptor share an IV and that encryptors begin at different ones.
func TestIV(t *testing.T) {
	seen := map[[ivSize]byte]bool{}
	for range 3 {
		e, err := NewEncryptor(codec.Opus)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.SetKey(0, make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		var last uint64
		for i := range 1000 {
			out, err := e.Encrypt(nil, []byte{0x78, 1, 2, 3})
			if err != nil {
				t.Fatal(err)
			}
			iv := [ivSize]byte(out[len(out)-trailSize:])
			if seen[iv] {
				t.Fatalf("IV %x was used twice", iv)
			}
			seen[iv] = true
			counter := binary.BigEndian.Uint64(iv[4:])
			if i > 0 && counter != last+1 {
				t.Fatalf("counter went from %d to %d", last, counter)
			}
			last = counter
		}
	}
}
