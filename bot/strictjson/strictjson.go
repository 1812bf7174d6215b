// Package strictjson reads JSON objects that strangers wrote, member by member. A member that has the wrong type makes a content invalid,
// as it does in Element's clients (matrix-js-sdk); an unknown member does not matter. Names are compared exactly, while encoding/json also
// accepts other upper and lower case, so that two clients could read one event in two ways. Every string, list and object has a limit.
//
// The package has no state. Its functions may be called from any goroutine.
package strictjson

import (
	"encoding/json"
	"math"
	"unicode/utf8"
)

// Limits on what is read.
const (
	// MaxContent is the longest content that is read, in bytes. A Matrix event cannot be longer.
	MaxContent = 64 << 10
	// MaxName is for device ids, member ids and sticky keys, in bytes. Matrix limits identifiers to the same length.
	MaxName = 255
	// MaxInteger is the largest whole number that every JSON parser reads exactly.
	MaxInteger = 1<<53 - 1
	// maxList is for lists inside a content.
	maxList = 32
)

// Object is a JSON object whose members were not read yet.
type Object map[string]json.RawMessage

// Parse reads a JSON object of at most MaxContent bytes.
func Parse(data []byte) (Object, bool) {
	if len(data) > MaxContent || !utf8.Valid(data) {
		return nil, false
	}
	var o Object
	if json.Unmarshal(data, &o) != nil || o == nil {
		return nil, false
	}
	return o, true
}

// Has says whether there is a member of this name.
func (o Object) Has(key string) bool {
	_, ok := o[key]
	return ok
}

// Text reads a string of at most limit bytes. ok is false when it is missing, longer, or something else.
func (o Object) Text(key string, limit int) (value string, ok bool) {
	return Text(o[key], limit)
}

// Text reads a string of at most limit bytes.
func Text(raw json.RawMessage, limit int) (value string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &value) != nil || len(value) > limit {
		return "", false
	}
	return value, true
}

// Number reads a number. ok is false when it is missing or something else.
func (o Object) Number(key string) (value float64, ok bool) {
	raw := o[key]
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') || json.Unmarshal(raw, &value) != nil {
		return 0, false
	}
	return value, true
}

// Integer reads a whole number from 0 to limit.
func (o Object) Integer(key string, limit int64) (value int64, ok bool) {
	n, ok := o.Number(key)
	if !ok || n != math.Trunc(n) || n < 0 || n > float64(limit) {
		return 0, false
	}
	return int64(n), true
}

// Object reads an object inside this one.
func (o Object) Object(key string) (Object, bool) {
	return Parse(o[key])
}

// List reads an array of at most 32 entries.
func (o Object) List(key string) ([]json.RawMessage, bool) { return o.ListOf(key, maxList) }

// ListOf reads an array of at most limit entries.
func (o Object) ListOf(key string, limit int) ([]json.RawMessage, bool) {
	raw := o[key]
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil || len(list) > limit {
		return nil, false
	}
	return list, true
}

// Boolean reads true or false. ok is false when it is missing or something else.
func (o Object) Boolean(key string) (value, ok bool) {
	switch string(o[key]) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}
