package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Parse reads YAML over the defaults. It opens no other file: it does not read secrets from files, and leaves paths as they are. The error
// has one line for each problem, with the line in the file and the key.
//
// The YAML library could fill the struct by itself. But its errors name Go types instead of keys, and it treats an empty value like a missing
// key.
func Parse(data []byte) (*Config, error) {
	c := Default()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return c, nil
	case err != nil:
		return nil, fmt.Errorf("not valid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document: remove everything from the second --- on")
	}
	var w walker
	w.section(document.Content[0], reflect.ValueOf(c).Elem(), "")
	if len(w.errs) > 0 {
		return nil, errors.Join(w.errs...)
	}
	return c, nil
}

// walker copies YAML nodes into struct fields and collects the errors.
type walker struct{ errs []error }

// fail notes a problem at a node.
func (w *walker) fail(n *yaml.Node, format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf("line %d: "+format, append([]any{n.Line}, args...)...))
}

// section reads a mapping into a struct. A section without any key (all lines commented out) changes nothing.
func (w *walker) section(n *yaml.Node, into reflect.Value, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		if path == "" {
			w.fail(n, "the file must hold keys with values, such as data_dir: data")
		} else {
			w.fail(n, "%s must hold keys of its own, indented below it", path)
		}
		return
	}
	fields := make(map[string]int, into.NumField())
	for i := range into.NumField() {
		fields[into.Type().Field(i).Tag.Get("yaml")] = i
	}
	seen := make(map[string]int, len(fields))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		full := key.Value
		if path != "" {
			full = path + "." + key.Value
		}
		field, known := fields[key.Value]
		if key.Kind != yaml.ScalarNode || !known {
			w.fail(key, "unknown key %q: correct or remove it", full)
			continue
		}
		if line, twice := seen[key.Value]; twice {
			w.fail(key, "%s is already set in line %d: keep only one", full, line)
			continue
		}
		seen[key.Value] = key.Line
		w.value(value, into.Field(field), full)
	}
}

// value reads one value into a field.
func (w *walker) value(n *yaml.Node, into reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		w.fail(n, "%s uses a YAML alias, which is not supported: write the value out", path)
		return
	}
	if into.Kind() == reflect.Struct {
		w.section(n, into, path)
		return
	}
	if isNull(n) {
		w.fail(n, "%s has no value: give one, or remove the line", path)
		return
	}
	switch target := into.Addr().Interface().(type) {
	case *string:
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			w.fail(n, "%s must be text: put it in quotes", path)
			return
		}
		*target = n.Value
	case *bool:
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(target) != nil {
			w.fail(n, "%s must be true or false", path)
		}
	case *int:
		number, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil {
			w.fail(n, "%s must be a whole number", path)
			return
		}
		*target = number
	case *time.Duration:
		d, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			w.fail(n, "%s must be a time with its unit, such as 1.2s or 500ms", path)
			return
		}
		*target = d
	case *[]string:
		if n.Kind != yaml.SequenceNode {
			w.fail(n, "%s must be a list, such as [one, two]", path)
			return
		}
		list := make([]string, 0, len(n.Content))
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode || item.ShortTag() != "!!str" {
				w.fail(item, "%s must be a list of texts: put each in quotes", path)
				return
			}
			list = append(list, item.Value)
		}
		*target = list
	default:
		// A test reads every key, so it fails when a field has a type that is missing above.
		panic("config: field of unsupported type at " + path)
	}
}

// isNull says whether a node has no value: nothing, ~ or null.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}
