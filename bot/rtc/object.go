package rtc

import (
	"encoding/json"
	"math"
	"unicode/utf8"
)

const (
	// maxContent is the longest content that is read, in bytes: an event can't be longer.
	maxContent = 64 << 10
	// maxName caps device ids, member ids and sticky keys, in bytes, as Matrix caps identifiers.
	maxName = 255
	// maxList caps lists inside a content.
	maxList = 32
	// maxInteger is the largest integer that JSON carries everywhere.
	maxInteger = 1<<53 - 1
)

// object is a JSON object whose members are read one by one, by their exact names: a member of a wrong type makes a content invalid,
// as in the clients that everybody else runs, and an unknown one doesn't matter.
type object map[string]json.RawMessage

// parseObject reads a JSON object of at most maxContent bytes.
func parseObject(data []byte) (object, bool) {
	if len(data) > maxContent || !utf8.Valid(data) {
		return nil, false
	}
	var o object
	if json.Unmarshal(data, &o) != nil || o == nil {
		return nil, false
	}
	return o, true
}

func (o object) has(key string) bool {
	_, ok := o[key]
	return ok
}

// text reads a string of at most limit bytes; ok is false when it isn't there, is longer, or is something else.
func (o object) text(key string, limit int) (value string, ok bool) {
	return text(o[key], limit)
}

func text(raw json.RawMessage, limit int) (value string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &value) != nil || len(value) > limit {
		return "", false
	}
	return value, true
}

// number reads a number; ok is false when it isn't there or is something else.
func (o object) number(key string) (value float64, ok bool) {
	raw := o[key]
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') || json.Unmarshal(raw, &value) != nil {
		return 0, false
	}
	return value, true
}

// integer reads a whole number from 0 to limit.
func (o object) integer(key string, limit int64) (value int64, ok bool) {
	n, ok := o.number(key)
	if !ok || n != math.Trunc(n) || n < 0 || n > float64(limit) {
		return 0, false
	}
	return int64(n), true
}

func (o object) object(key string) (object, bool) {
	return parseObject(o[key])
}

// list reads an array of at most maxList entries.
func (o object) list(key string) ([]json.RawMessage, bool) { return o.listOf(key, maxList) }

// listOf reads an array of at most limit entries.
func (o object) listOf(key string, limit int) ([]json.RawMessage, bool) {
	raw := o[key]
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil || len(list) > limit {
		return nil, false
	}
	return list, true
}

// boolean reads true or false; ok is false when it is something else.
func (o object) boolean(key string) (value, ok bool) {
	switch string(o[key]) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}
