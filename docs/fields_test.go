package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	fotorwebhook "github.com/fotor-webhook/caddy-fotor-webhook"
	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/nats"
	"github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/sqlite"
	"github.com/fotor-webhook/caddy-fotor-webhook/match"
)

const modulePath = "github.com/fotor-webhook/caddy-fotor-webhook"

// configs returns the types that a JSON config is read into: those of our Caddy modules,
// and what they consist of.
func configs(t *testing.T) (found []reflect.Type) {
	t.Helper()
	var add func(reflect.Type)
	add = func(typ reflect.Type) {
		for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Map}, typ.Kind()) {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || !strings.HasPrefix(typ.PkgPath(), modulePath) || slices.Contains(found, typ) {
			return
		}
		found = append(found, typ)
		for field := range typ.Fields() {
			if field.IsExported() {
				add(field.Type)
			}
		}
	}
	for _, id := range caddy.Modules() {
		info, err := caddy.GetModule(id)
		require.NoError(t, err)
		add(reflect.TypeOf(info.New()))
	}
	require.Greater(t, len(found), 8)
	return found
}

// jsonName returns the name of a field in JSON, empty if it has none.
func jsonName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}

// Everything in a JSON config is in Caddy's spelling.
func TestJSONFieldsAreInSnakeCase(t *testing.T) {
	snakeCase := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	fields := 0
	for _, config := range configs(t) {
		for field := range config.Fields() {
			if !field.IsExported() {
				continue
			}
			fields++
			assert.Regexp(t, snakeCase, jsonName(field), "%s.%s", config, field.Name)
			// omitzero where an empty list means something
			assert.Regexp(t, ",(omitempty|omitzero)$", field.Tag.Get("json"), "%s.%s", config, field.Name)
		}
	}
	require.Greater(t, fields, 40)
}

// An option has one name, in a Caddyfile and in JSON, where it may be a plural.
func TestOptionsAreSpeltAsInJSON(t *testing.T) {
	destination, onNATS := parse(t, "caddyfile_destination.go"), parse(t, "caddymodule/nats/caddyfile.go")
	for _, is := range []struct {
		config  any
		options []string
	}{
		{fotorwebhook.Handler{}, cases(function(t, parse(t, "caddyfile.go"), "unmarshalOption"))},
		{fotorwebhook.Destination{}, cases(function(t, destination, "unmarshalOption"))},
		{match.Rules{}, cases(function(t, destination, "unmarshalMatch"))},
		{fotorwebhook.Retry{}, cases(function(t, destination, "unmarshalRetry"))},
		{sqlite.Inbox{}, cases(function(t, parse(t, "caddymodule/sqlite/caddyfile.go"), "UnmarshalCaddyfile"))},
		{nats.Inbox{}, entries(t, onNATS, "caddyfileOptions")},
		{nats.TLS{}, cases(function(t, onNATS, "parseTLS"))},
	} {
		var names []string
		for field := range reflect.TypeOf(is.config).Fields() {
			names = append(names, jsonName(field))
		}
		require.NotEmpty(t, is.options)
		for _, option := range is.options {
			assert.True(t, slices.ContainsFunc([]string{"", "s", "es"}, func(plural string) bool {
				return slices.Contains(names, option+plural)
			}), "%T: %s", is.config, option)
		}
	}
}

// Caddy's website makes the documentation of a module from its comments. Each field has
// one that says what its default is, or that it is required.
func TestEveryConfigFieldIsDocumented(t *testing.T) {
	for _, config := range configs(t) {
		comment, fields := documented(t, config)
		assert.NotEmpty(t, comment, "%s", config)
		for field := range config.Fields() {
			if !field.IsExported() {
				continue
			}
			assert.Regexp(t, `^[A-Z](?s:.*)\b(Default:|No default|Required)`, fields[field.Name], "%s.%s", config, field.Name)
		}
	}
}

// documented returns the doc comment of a type and those of its fields.
func documented(t *testing.T, typ reflect.Type) (comment string, fields map[string]string) {
	t.Helper()
	directory := filepath.Join(root, filepath.FromSlash(strings.TrimPrefix(typ.PkgPath(), modulePath)))
	files, err := filepath.Glob(filepath.Join(directory, "*.go"))
	require.NoError(t, err)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.TYPE || d.Specs[0].(*ast.TypeSpec).Name.Name != typ.Name() {
				continue
			}
			fields = make(map[string]string)
			for _, field := range d.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType).Fields.List {
				for _, name := range field.Names {
					fields[name.Name] = field.Doc.Text()
				}
			}
			return d.Doc.Text(), fields
		}
	}
	require.Fail(t, "no type "+typ.String())
	return "", nil
}
