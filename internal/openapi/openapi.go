// Package openapi checks answers of the admin API against docs/openapi.yaml. It is for
// tests. Its own tests check the description itself: document_test.go that it is sound,
// types_test.go that it agrees with the types of package control.
package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// file is the path of the description in the repository.
const file = "docs/openapi.yaml"

// The media types of the admin API's answers.
const (
	mediaJSON   = "application/json"
	mediaNDJSON = "application/x-ndjson"
	mediaSSE    = "text/event-stream"
)

// methods are the methods whose fields in a path item are operations.
var methods = []string{
	http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete,
	http.MethodOptions, http.MethodHead, http.MethodPatch, http.MethodTrace,
}

// Doc is a parsed OpenAPI description.
type Doc struct {
	root     map[string]any
	compiler *jsonschema.Compiler
}

// Load reads docs/openapi.yaml, whichever package of the repository the test is in.
func Load(t testing.TB) *Doc {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
		if err == nil {
			doc, err := parse(content)
			require.NoError(t, err, file)
			return doc
		}
		parent := filepath.Dir(dir)
		require.NotEqual(t, dir, parent, "no directory above this one has %s", file)
		dir = parent
	}
}

func parse(content []byte) (*Doc, error) {
	var tree any
	if err := yaml.Unmarshal(content, &tree); err != nil {
		return nil, err
	}
	asJSON, err := json.Marshal(tree) // the schema library takes JSON's types
	if err != nil {
		return nil, err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return nil, err
	}
	root, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("the document is not an object")
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource(file, root); err != nil {
		return nil, err
	}
	return &Doc{root: root, compiler: compiler}, nil
}

// Route is a method and a path template.
type Route struct{ Method, Path string }

// Routes lists what the document describes, sorted by path and method.
func (d *Doc) Routes() []Route {
	var routes []Route
	paths := d.object("paths")
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, method := range methods {
			if _, ok := d.object("paths", path)[strings.ToLower(method)]; ok {
				routes = append(routes, Route{Method: method, Path: path})
			}
		}
	}
	return routes
}

// Parameters returns the names of the query parameters that a request may have, and false
// if the document does not describe the request. The path may have a query.
func (d *Doc) Parameters(method, path string) (names []string, found bool) {
	path, _, _ = strings.Cut(path, "?")
	template, found := d.match(path)
	operation := d.object("paths", template, strings.ToLower(method))
	if !found || operation == nil {
		return nil, false
	}
	list, _ := operation["parameters"].([]any)
	for _, item := range list {
		parameter, _ := item.(map[string]any)
		if ref, ok := parameter["$ref"].(string); ok {
			parameter, _ = d.follow(strings.Split(strings.TrimPrefix(ref, "#/"), "/"))
		}
		if parameter["in"] == "query" {
			names = append(names, parameter["name"].(string))
		}
	}
	return names, true
}

// Check fails the test if the document does not describe the answer. The path may have a
// query. An answer 405 to a method that the path does not list, and an answer 404 at a
// path that is not described, are checked against the responses of the components.
func (d *Doc) Check(t testing.TB, method, path string, status int, contentType string, body []byte) {
	t.Helper()
	if err := d.check(method, path, status, contentType, body); err != nil {
		t.Errorf("%s %s answered %d, which is not as %s says: %v\n%.2000s", method, path, status, file, err, body)
	}
}

func (d *Doc) check(method, path string, status int, contentType string, body []byte) error {
	response, err := d.response(method, path, status)
	if err != nil {
		return err
	}
	content := d.object(append(response, "content")...)
	if content == nil {
		if contentType != "" || len(body) > 0 {
			return fmt.Errorf("there is a body of type %q, but none is described", contentType)
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("Content-Type %q: %w", contentType, err)
	}
	if _, ok := content[media]; !ok {
		return fmt.Errorf("the media type %s is not described; expected one of %q", media, slices.Sorted(maps.Keys(content)))
	}
	kind := append(response, "content", media)
	switch media {
	case mediaJSON:
		return d.validate(append(kind, "schema"), body)
	case mediaNDJSON:
		return d.lines(append(kind, "x-itemSchema"), body)
	case mediaSSE:
		return d.events(append(kind, "x-itemSchema"), body)
	default:
		return fmt.Errorf("no way is known to check a body of type %s", media)
	}
}

// response returns the place where the document describes an answer.
func (d *Doc) response(method, path string, status int) ([]string, error) {
	path, _, _ = strings.Cut(path, "?")
	template, found := d.match(path)
	if !found {
		if status == http.StatusNotFound {
			return []string{"components", "responses", "NotFound"}, nil
		}
		return nil, errors.New("the path is not described")
	}
	operation := []string{"paths", template, strings.ToLower(method)}
	if d.object(operation...) == nil {
		if status == http.StatusMethodNotAllowed {
			return []string{"components", "responses", "MethodNotAllowed"}, nil
		}
		return nil, fmt.Errorf("%s does not list the method", template)
	}
	response := append(operation, "responses", strconv.Itoa(status))
	if d.object(response...) == nil {
		return nil, fmt.Errorf("the status is not described; expected one of %q",
			slices.Sorted(maps.Keys(d.object(append(operation, "responses")...))))
	}
	return response, nil
}

// match returns the path template that matches a path. If several do, it is the one that
// has a literal where they first differ.
func (d *Doc) match(path string) (template string, found bool) {
	segments := strings.Split(path, "/")
	var best []string
	for candidate := range d.object("paths") {
		parts := strings.Split(candidate, "/")
		if fits(parts, segments) && (best == nil || moreLiteral(parts, best)) {
			template, best = candidate, parts
		}
	}
	return template, best != nil
}

func fits(parts, segments []string) bool {
	if len(parts) != len(segments) {
		return false
	}
	for i, part := range parts {
		if isParameter(part) && segments[i] != "" {
			continue
		}
		if part != segments[i] {
			return false
		}
	}
	return true
}

func moreLiteral(parts, than []string) bool {
	for i, part := range parts {
		if literal := !isParameter(part); literal == isParameter(than[i]) {
			return literal
		}
	}
	return false
}

func isParameter(part string) bool {
	return strings.HasPrefix(part, "{") && strings.HasSuffix(part, "}")
}

// object returns the object at a place, with references resolved; nil if there is none.
func (d *Doc) object(place ...string) map[string]any {
	object, _ := d.follow(place)
	return object
}

// follow returns the object at a place and the JSON pointer to it, with the references on
// the way resolved.
func (d *Doc) follow(place []string) (map[string]any, string) {
	here, pointer := d.root, ""
	for _, name := range place {
		next, ok := here[name].(map[string]any)
		if !ok {
			return nil, ""
		}
		here, pointer = next, pointer+"/"+escape(name)
		if ref, ok := here["$ref"].(string); ok && len(here) == 1 {
			local := strings.TrimPrefix(ref, "#/")
			if here, pointer = d.follow(strings.Split(local, "/")); here == nil {
				return nil, ""
			}
		}
	}
	return here, pointer
}

// escape escapes a name for a JSON pointer in a URL's fragment.
func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(name)
}

func (d *Doc) validate(place []string, body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return d.validateValue(place, value)
}

func (d *Doc) validateValue(place []string, value any) error {
	object, pointer := d.follow(place)
	if object == nil {
		return fmt.Errorf("there is no schema at %q", place)
	}
	schema, err := d.compiler.Compile(file + "#" + pointer)
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// lines checks a body of NDJSON.
func (d *Doc) lines(place []string, body []byte) error {
	if !bytes.HasSuffix(body, []byte("\n")) {
		return errors.New("the body does not end with the end of a line")
	}
	number := 0
	for line := range bytes.Lines(body) {
		number++
		if err := d.validate(place, line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

// events checks a body of server-sent events. After the last empty line there may be an
// incomplete event, which clients drop.
func (d *Doc) events(place []string, body []byte) error {
	end := bytes.LastIndex(body, []byte("\n\n"))
	if end < 0 {
		return nil
	}
	for i, block := range strings.Split(string(body[:end]), "\n\n") {
		if err := d.event(place, block); err != nil {
			return fmt.Errorf("event %d: %w", i+1, err)
		}
	}
	return nil
}

func (d *Doc) validateNoticeID(id string) error {
	if err := d.validateValue([]string{"components", "schemas", "NoticeID"}, id); err != nil {
		return fmt.Errorf("id %q: %w", id, err)
	}
	return nil
}

// event checks one block of server-sent events: an event, only comments, or where the
// stream begins.
func (d *Doc) event(place []string, block string) error {
	fields := make(map[string]string)
	for line := range strings.SplitSeq(strings.Trim(block, "\n"), "\n") {
		name, value, found := strings.Cut(line, ":")
		switch {
		case found && name == "": // a comment
			continue
		case !found:
			return fmt.Errorf("%q is no field", line)
		case !slices.Contains([]string{"event", "id", "data", "retry"}, name):
			return fmt.Errorf("%q is an unknown field", line)
		}
		if _, twice := fields[name]; twice {
			return fmt.Errorf("the field %s is there twice", name)
		}
		fields[name] = strings.TrimPrefix(value, " ")
	}
	if retry, ok := fields["retry"]; ok {
		if _, err := strconv.ParseUint(retry, 10, 64); err != nil {
			return fmt.Errorf("retry %q is no number", retry)
		}
		delete(fields, "retry")
	}
	if len(fields) == 0 {
		return nil
	}
	if _, alone := fields["id"]; alone && len(fields) == 1 {
		return d.validateNoticeID(fields["id"])
	}
	for _, name := range []string{"event", "id", "data"} {
		if _, ok := fields[name]; !ok {
			return fmt.Errorf("the field %s is missing", name)
		}
	}
	if err := d.validateNoticeID(fields["id"]); err != nil {
		return err
	}
	if err := d.validate(place, []byte(fields["data"])); err != nil {
		return err
	}
	var notice struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal([]byte(fields["data"]), &notice); err != nil {
		return err
	}
	if notice.Kind != fields["event"] {
		return fmt.Errorf("event is %q, but the notice's kind is %q", fields["event"], notice.Kind)
	}
	return nil
}
