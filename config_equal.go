package fotorwebhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// canonicalConfig returns the handler's config, with its defaults, in a form that
// can be compared: neither the order of members nor white space count, nor how
// groups of routes are called. It has to be taken before the guest modules are
// loaded, which uses their config up.
func (h *Handler) canonicalConfig() (map[string]any, error) {
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var config map[string]any
	if err := decoder.Decode(&config); err != nil {
		return nil, err
	}
	numberGroups(config["forward"], make(map[string]string))
	return config, nil
}

// numberGroups names the groups of routes by their order: a Caddyfile gives each
// block groups of other names.
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

// differences returns the names of the options in which two configs differ, such
// as "retry.max", in alphabetical order. Their values may be secret: they are not
// shown.
func differences(a, b map[string]any) []string {
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
		for _, inner := range differences(inA, inB) {
			differ = append(differ, name+"."+inner)
		}
	}
	return differ
}

// join makes the handler one gateway with another of its name, if their configs
// are equal: a site on two ports is two handlers, and so is a snippet that two
// sites import, or a named route that two servers invoke. The first of them
// delivers; each answers the requests of its own server.
func (h *Handler) join(first *Handler) error {
	if differ := differences(first.config, h.config); len(differ) > 0 {
		return fmt.Errorf("name %q is used by two fotor_webhook handlers that differ in %s: expected the same options in both,"+
			" or a name of its own for each", h.Name, strings.Join(differ, ", "))
	}
	h.tracers = first.tracers
	first.copies = append(first.copies, h)
	return nil
}
