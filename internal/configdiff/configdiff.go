// Package configdiff compares the configs of two modules by what they mean.
package configdiff

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

// Canonical returns a config in a form that can be compared: the order of members, white
// space and the names of groups of routes do not count. It must be called before guest
// modules are loaded, because Caddy then removes their config.
func Canonical(module any) (map[string]any, error) {
	raw, err := json.Marshal(module)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var config map[string]any
	if err := decoder.Decode(&config); err != nil {
		return nil, err
	}
	numberGroups(config, make(map[string]string))
	return config, nil
}

// numberGroups renames groups of routes to their order: Caddy's adapter uses new names in
// each block of a Caddyfile.
func numberGroups(v any, names map[string]string) {
	switch v := v.(type) {
	case []any:
		for _, each := range v {
			numberGroups(each, names)
		}
	case map[string]any:
		if group, ok := v["group"].(string); ok {
			if names[group] == "" {
				names[group] = strconv.Itoa(len(names) + 1)
			}
			v["group"] = names[group]
		}
		for _, member := range slices.Sorted(maps.Keys(v)) {
			numberGroups(v[member], names)
		}
	}
}

// Differences returns the names of the options in which two configs differ, such
// as "retry.max", in alphabetical order. Their values may be secret: they are not
// shown.
func Differences(a, b map[string]any) []string {
	names := maps.Clone(a)
	maps.Copy(names, b)
	var differ []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if reflect.DeepEqual(a[name], b[name]) {
			continue
		}
		inA, okA := a[name].(map[string]any)
		inB, okB := b[name].(map[string]any)
		if !okA || !okB {
			differ = append(differ, name)
			continue
		}
		for _, inner := range Differences(inA, inB) {
			differ = append(differ, name+"."+inner)
		}
	}
	return differ
}
