package openapi

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestExamples validates every example with the schema beside it.
func TestExamples(t *testing.T) {
	doc := Load(t)
	checked, shared := 0, 0
	referred := make(map[string]bool)
	var walk func(place []string)
	walk = func(place []string) {
		here := doc.object(place...)
		examples := doc.object(append(place, "examples")...)
		if len(place) == 1 { // those of the components are checked where they are referenced
			shared += len(examples)
			examples = nil
		}
		for _, name := range slices.Sorted(maps.Keys(examples)) {
			if ref, ok := examples[name].(map[string]any)["$ref"].(string); ok {
				referred[ref] = true
			}
			example := doc.object(append(place, "examples", name)...)
			require.Contains(t, example, "value", "%q %s", place, name)
			value := example["value"]
			media := place[len(place)-1]
			var err error
			switch media {
			case mediaNDJSON:
				err = doc.lines(append(place, "x-itemSchema"), []byte(value.(string)))
			case mediaSSE:
				require.Contains(t, value, "event: ")
				err = doc.events(append(place, "x-itemSchema"), []byte(value.(string)))
			default:
				err = doc.validateValue(append(place, "schema"), value)
			}
			require.NoError(t, err, "%q %s", place, name)
			checked++
		}
		for name, child := range here {
			if _, ok := child.(map[string]any); ok && name != "examples" {
				walk(append(slices.Clone(place), name))
			}
			list, _ := child.([]any)
			for _, item := range list {
				assertParameterExamples(t, doc, item, &checked)
			}
		}
	}
	walk([]string{"paths"})
	walk([]string{"components"})
	assert.Greater(t, checked, 60)
	assert.Positive(t, shared)
	assert.Len(t, referred, shared)
}

// assertParameterExamples checks the examples of an item of a list, if it is a parameter.
func assertParameterExamples(t *testing.T, doc *Doc, item any, checked *int) {
	t.Helper()
	parameter, _ := item.(map[string]any)
	examples, _ := parameter["examples"].(map[string]any)
	for name, example := range examples {
		alone, err := parse(marshal(t, map[string]any{"schema": parameter["schema"], "components": doc.root["components"]}))
		require.NoError(t, err)
		assert.NoError(t, alone.validateValue([]string{"schema"}, example.(map[string]any)["value"]), "%s %s", parameter["name"], name)
		*checked++
	}
}

var inPath = regexp.MustCompile(`\{([^}]+)\}`)

// TestDocumentIsSound checks what is not in the schemas of the answers: operation ids,
// parameters, references, and the statuses that every route may answer.
func TestDocumentIsSound(t *testing.T) {
	doc := Load(t)
	assert.Regexp(t, `^3\.1\.`, doc.root["openapi"])
	ids := make(map[string]bool)
	tags := make(map[string]bool)
	for _, tag := range doc.root["tags"].([]any) {
		tags[tag.(map[string]any)["name"].(string)] = true
	}
	for _, route := range doc.Routes() {
		operation := doc.object("paths", route.Path, strings.ToLower(route.Method))
		id, _ := operation["operationId"].(string)
		assert.NotEmpty(t, id, route)
		assert.False(t, ids[id], id)
		ids[id] = true
		assert.NotEmpty(t, operation["summary"], route)
		for _, tag := range texts(operation["tags"]) {
			assert.True(t, tags[tag], tag)
		}

		var names, declared []string
		for _, match := range inPath.FindAllStringSubmatch(route.Path, -1) {
			names = append(names, match[1])
		}
		common, _ := doc.object("paths", route.Path)["parameters"].([]any)
		own, _ := operation["parameters"].([]any)
		seen := make(map[string]bool)
		for _, item := range slices.Concat(common, own) {
			parameter := item.(map[string]any)
			if ref, ok := parameter["$ref"].(string); ok {
				parameter = doc.object(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
				require.NotNil(t, parameter, ref)
			}
			require.NotNil(t, parameter["schema"], "%v %v", route, parameter)
			require.NotEmpty(t, parameter["description"], "%v %v", route, parameter)
			key := parameter["in"].(string) + " " + parameter["name"].(string)
			require.False(t, seen[key], key)
			seen[key] = true
			if parameter["in"] == "path" {
				declared = append(declared, parameter["name"].(string))
				assert.Equal(t, true, parameter["required"])
			}
		}
		assert.ElementsMatch(t, names, declared, route)

		statuses := slices.Collect(maps.Keys(doc.object("paths", route.Path, strings.ToLower(route.Method), "responses")))
		for _, status := range []string{"400", "403", "500"} {
			assert.Contains(t, statuses, status, route)
		}
		if len(names) > 0 {
			assert.Contains(t, statuses, "404", route)
		}
	}
	for name := range doc.object("components", "schemas") {
		_, err := doc.compiler.Compile(file + "#/components/schemas/" + name)
		require.NoError(t, err, name)
		if schema := doc.object("components", "schemas", name); schema["properties"] != nil {
			assert.Equal(t, false, schema["additionalProperties"], name)
		}
	}
	assertReferences(t, doc, doc.root)
}

// assertReferences checks that every reference can be resolved.
func assertReferences(t *testing.T, doc *Doc, node any) {
	t.Helper()
	switch node := node.(type) {
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok {
			assert.NotNil(t, doc.object(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...), ref)
		}
		for _, child := range node {
			assertReferences(t, doc, child)
		}
	case []any:
		for _, child := range node {
			assertReferences(t, doc, child)
		}
	}
}
