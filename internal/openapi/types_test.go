package openapi

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

var unattended = control.Unattended{Storage: "sqlite:/x.db", Pending: 1, Dead: 2, Quarantined: 3, Tracked: 4, Error: "x"}

var (
	sampleTime = time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
	sampleID   = strings.Repeat("0a", 24)
)

var (
	quantiles      = control.Quantiles{P50: 1, P95: 2, P99: 3}
	leastTimes     = control.Times{P50: []*float64{}, P95: []*float64{}, P99: []*float64{}}
	leastCallbacks = control.CallbackHistory{
		Accepted: []int64{}, Duplicates: []int64{}, Refused: []int64{}, Invalid: []int64{}, Unavailable: []int64{}, Answer: leastTimes,
	}
)

// answers has, for every type of package control that is JSON of the admin API, a value
// with all members, and one with only the required ones.
var answers = map[string]struct{ full, least any }{
	"Handlers": {
		control.Handlers{Process: process, Handlers: []control.Handler{handler}, Unattended: []control.Unattended{unattended}, MoreUnattended: true},
		control.Handlers{Handlers: []control.Handler{}, Unattended: []control.Unattended{}},
	},
	"Process":    {process, control.Process{}},
	"Unattended": {unattended, control.Unattended{}},
	"Handler": {handler, control.Handler{
		Name: "a", Config: leastConfig, Holds: []control.Hold{}, Destinations: []control.Destination{}, Refusals: []control.Refusal{},
	}},
	"Destination":       {destination, control.Destination{Name: "a", Holds: []control.Hold{}}},
	"Bodies":            {control.Bodies{Reading: 1, Bytes: 1, Limit: 1}, control.Bodies{}},
	"Counts":            {counts, control.Counts{}},
	"Recent":            {sampleRecent, control.Recent{}},
	"Unavailable":       {*sampleRecent.LastUnavailable, control.Unavailable{}},
	"Config":            {config, leastConfig},
	"DestinationConfig": {destinationConfig, control.DestinationConfig{Name: "a", Match: []string{}}},
	"Hold":              {hold, control.Hold{Destination: "a", By: control.ByUpstream}},
	"Refusal":           {refusal, control.Refusal{Count: 1}},
	"Event":             {event, leastEvent},
	"Delivery":          {delivery, control.Delivery{Destination: "a", State: "pending"}},
	"Attempt":           {attempt, control.Attempt{Number: 1}},
	"Replay":            {control.Replay{At: sampleTime, After: 3, From: "a"}, control.Replay{}},
	"Events":            {control.Events{Events: []control.Event{event}, Next: "n"}, control.Events{Events: []control.Event{}}},
	"Done":              {control.Done{ID: sampleID, State: "pending"}, control.Done{ID: sampleID, State: "superseded"}},
	"Copy": {
		control.Copy{ID: sampleID, Destination: "a", Header: map[string]string{"Ce-Id": "x"}, Body: "{}", BodyEncoding: control.BodyText},
		control.Copy{ID: sampleID, Destination: "a", Header: map[string]string{"Ce-Id": "x"}, BodyEncoding: control.BodyBase64},
	},
	"Bulk":         {control.Bulk{Matched: 1, Changed: 2, Skipped: 3, DryRun: true, Done: true, Error: "x"}, control.Bulk{}},
	"HoldRequest":  {nil, control.HoldRequest{}}, // no value has all members, see TestHoldRequest
	"Pressure":     {pressure, control.Pressure{}},
	"Unsettled":    {unsettled, control.Unsettled{}},
	"Holds":        {control.Holds{Holds: []control.Hold{hold}, UnderWay: 1, Pressure: pressure, Destinations: []string{"a"}}, control.Holds{Holds: []control.Hold{}, Destinations: []string{}}},
	"Quarantined":  {quarantined, leastQuarantined},
	"Problem":      {problem, control.Problem{}},
	"Quarantine":   {control.Quarantine{Callbacks: []control.Quarantined{quarantined}, Next: "n"}, control.Quarantine{Callbacks: []control.Quarantined{}}},
	"TrackRequest": {control.TrackRequest{Tasks: []string{"a"}}, control.TrackRequest{Tasks: []string{"a"}}},
	"Tracked":      {control.Tracked{Added: 1, Known: 1}, control.Tracked{}},
	"Task":         {task, control.Task{TaskID: "a", Source: "operator"}},
	"Tasks":        {control.Tasks{Tasks: []control.Task{task}, Asking: true, Next: "n"}, control.Tasks{Tasks: []control.Task{}}},
	"TaskStats":    {taskStats, control.TaskStats{}},
	"Asking":       {asking, control.Asking{URL: "x", State: control.AskingWorks}},
	"AskingShare":  {askingShare, control.AskingShare{}},
	"Confirm":      {control.Confirm{OnFailure: "hold", Patience: "10m0s"}, control.Confirm{OnFailure: "deliver", Patience: "1m0s"}},
	"Released":     {control.Released{ID: sampleID, Duplicate: true}, control.Released{ID: sampleID}},
	"Refused":      {control.Refused{Error: "x", Problems: []control.Problem{problem}}, control.Refused{Error: "x", Problems: []control.Problem{}}},
	"Rule":         {rule, control.Rule{Option: "allow_from"}},
	"EventDetail": {
		control.EventDetail{Event: event, TraceParent: "00-x", AttemptRecords: []control.Attempt{attempt}, Body: json.RawMessage(`{"id":"x"}`)},
		control.EventDetail{Event: leastEvent, AttemptRecords: []control.Attempt{}, Body: json.RawMessage(`{}`)},
	},
	"QuarantinedDetail": {
		control.QuarantinedDetail{Quarantined: quarantined, Body: "x", BodyEncoding: control.BodyBase64},
		control.QuarantinedDetail{Quarantined: leastQuarantined, BodyEncoding: control.BodyText},
	},
	"Quantiles": {quantiles, control.Quantiles{}},
	"Times": {
		control.Times{P50: []*float64{new(1.5), nil}, P95: []*float64{nil}, P99: []*float64{new(2.5)}, All: &quantiles},
		leastTimes,
	},
	"CallbackHistory": {
		control.CallbackHistory{
			Accepted: []int64{1}, Duplicates: []int64{1}, Refused: []int64{1}, Invalid: []int64{1}, Unavailable: []int64{1},
			Answer: leastTimes,
		},
		leastCallbacks,
	},
	"DeliveryHistory": {
		control.DeliveryHistory{Destination: "a", Delivered: []int64{1}, Retried: []int64{1}, Dead: []int64{1}, Age: leastTimes},
		control.DeliveryHistory{Destination: "a", Delivered: []int64{}, Retried: []int64{}, Dead: []int64{}, Age: leastTimes},
	},
	"History": {
		control.History{
			Span: "day", From: sampleTime, Step: 900, Started: sampleTime, KnownFrom: &sampleTime, Complete: true,
			Callbacks: leastCallbacks, Destinations: []control.DeliveryHistory{},
		},
		control.History{Span: "hour", Step: 60, Callbacks: leastCallbacks, Destinations: []control.DeliveryHistory{}},
	},
	"Explanation": {
		control.Explanation{
			IP: "::1", ForwardedFor: "x", TrustedProxy: true, ClientIP: "::2", Allowed: true, Rule: &rule,
			Steps: []string{"x"}, Warnings: []string{"x"},
		},
		control.Explanation{Steps: []string{}, Warnings: []string{}},
	},
	"Notice": {
		control.Notice{
			Kind: control.Gap, Handler: "a", At: sampleTime, ID: sampleID, TaskID: "t", Type: "x", Status: "failed", Origin: "api",
			Destination: "a", Attempt: 1, UpstreamStatus: 200, DurationMS: 1.5, Due: &sampleTime, Reason: "x",
			QuarantineID: 1, Count: 1, SourceIP: "::1", Problems: 1, By: control.ByOperator, Until: &sampleTime, Since: &sampleTime, Asked: 1, Missed: -1,
		},
		control.Notice{Kind: control.Resumed, Handler: "a"},
	},
}

var (
	sampleRecent = control.Recent{
		From: sampleTime, Accepted: 1, Duplicates: 2, Refused: 3, TooLarge: 4, Invalid: 5, NotKept: 6, Unavailable: 7,
		LastUnavailable: &control.Unavailable{At: sampleTime, Reason: "x"},
	}
	counts = control.Counts{Pending: 1, Delivered: 2, Superseded: 3, Dead: 4, Skipped: 5}
	config = control.Config{
		Allow: []string{"fotor"}, AllowFrom: []string{"static"}, MaxBody: 1, Inbox: "sqlite", Storage: "sqlite:/x", Keep: "1h",
		Quarantine: 1, Forward: "routes", SignSecrets: 1, Timeout: "1s", Concurrency: 1, Rate: 0.5, RetryFirst: "1s", RetryMax: "1s", GiveUp: "1h",
		Destinations: []control.DestinationConfig{destinationConfig},
	}
	leastConfig       = control.Config{Allow: []string{}, AllowFrom: []string{}, Destinations: []control.DestinationConfig{}}
	destinationConfig = control.DestinationConfig{
		Name: "a", Match: []string{"type avatar"}, Forward: "routes", SignSecrets: 1, Timeout: "1s", Concurrency: 1, Rate: 0.5,
		RetryFirst: "1s", RetryMax: "1s", GiveUp: "1h",
	}
	destination = control.Destination{
		Name: "a", Configured: true, Deliveries: &counts, OldestPending: &sampleTime, UnderWay: 1, Pressure: &pressure, Holds: []control.Hold{hold},
		LastDelivery: &sampleTime,
	}
	process   = control.Process{Caddy: "v2.11.9", Module: "v1.0.0", Started: sampleTime}
	hold      = control.Hold{Destination: "a", By: control.ByOperator, Since: sampleTime, Until: &sampleTime, Reason: "x"}
	refusal   = control.Refusal{Address: "::1", Peer: "[::1]:1", Reason: "x", Count: 1, First: sampleTime, Last: sampleTime}
	pressure  = control.Pressure{Limit: 1, Concurrency: 2, Attempts: 3, Delivered: 2, Failed: 1, Unsettled: &unsettled}
	unsettled = control.Unsettled{Outcomes: 1, Since: sampleTime, Reason: "a"}
	handler   = control.Handler{
		Name: "a", Config: config, Events: &counts, OldestPending: &sampleTime, Quarantined: new(int64(1)), InboxBytes: new(int64(1)), InboxLimit: new(int64(1)),
		Lost: 1, LostAt: &sampleTime, Bodies: control.Bodies{Reading: 1, Bytes: 1, Limit: 1}, Recent: sampleRecent, UnderWay: 1, Pressure: pressure,
		Holds: []control.Hold{hold}, Destinations: []control.Destination{destination}, Refusals: []control.Refusal{refusal}, Error: "x",
		Process: &process, ConfigLoaded: sampleTime, LastMinute: sampleRecent, Tasks: &taskStats, Asking: &asking, LastCallback: &sampleTime,
	}
	asking      = control.Asking{URL: "https://h", State: control.AskingUnreachable, Since: sampleTime, Reason: "x", Rate: 0.5, ConfigRate: 2, Share: &askingShare, Confirm: &control.Confirm{OnFailure: "hold", Patience: "10m0s"}}
	askingShare = control.AskingShare{Rate: 1, Askers: 2, Reason: "x"}
	taskStats   = control.TaskStats{Waiting: 1, Due: 1, Oldest: &sampleTime, Dropped: 1}
	task        = control.Task{TaskID: "a", Source: "callback", Since: sampleTime, Due: sampleTime, Asked: 1, AskedAt: &sampleTime, Answer: "x"}
	attempt     = control.Attempt{Number: 1, At: sampleTime, DurationMS: 1.5, Status: 200, Reason: "x"}
	event       = control.Event{
		ID: sampleID, TaskID: "t", Type: "x", Status: "completed", State: "dead", ReceivedAt: sampleTime, Attempts: 1,
		Due: &sampleTime, SettledAt: &sampleTime, LastAttempt: &attempt, Deliveries: []control.Delivery{delivery},
	}
	delivery = control.Delivery{
		Destination: "a", State: "dead", Attempts: 1, Due: &sampleTime, SettledAt: &sampleTime, LastAttempt: &attempt, AttemptRecords: []control.Attempt{attempt}, Replays: []control.Replay{{At: sampleTime, After: 1}},
	}
	leastEvent  = control.Event{ID: sampleID, Status: "in_progress", State: "skipped", Deliveries: []control.Delivery{}}
	problem     = control.Problem{Pointer: "/x", Detail: "x"}
	quarantined = control.Quarantined{
		ID: 1, ReceivedAt: sampleTime, LastAt: sampleTime, Count: 2, SourceIP: "::1", Status: 422, Size: 1, Problems: []control.Problem{problem}, ProblemCount: 1,
	}
	leastQuarantined = control.Quarantined{ID: 1, Count: 1, Status: 400, Problems: []control.Problem{}}
	rule             = control.Rule{Option: "allow", Value: "fotor", Range: "::/0"}
)

// declared returns the syntax tree of a file of package control.
func declared(t *testing.T, name string) *ast.File {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "control", name), nil, 0)
	require.NoError(t, err)
	return tree
}

func TestEveryTypeIsHeldAgainstItsSchema(t *testing.T) {
	var types []string
	for _, file := range []string{"handlers.go", "answers.go", "destinations.go", "recent.go", "history.go", "pressure.go", "tasks.go", "asking.go"} {
		ast.Inspect(declared(t, file), func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				types = append(types, spec.Name.Name)
			}
			return true
		})
	}
	assert.ElementsMatch(t, types, slices.Collect(maps.Keys(answers)))
	for name, values := range answers {
		assert.Equal(t, name, reflect.TypeOf(values.least).Name())
	}
}

func TestTypesAgreeWithSchemas(t *testing.T) {
	doc := Load(t)
	for name, values := range answers {
		t.Run(name, func(t *testing.T) {
			place := []string{"components", "schemas", name}
			schema := doc.object(place...)
			require.NotNil(t, schema)
			all, required := properties(reflect.TypeOf(values.least))
			assert.ElementsMatch(t, all, slices.Collect(maps.Keys(doc.object(append(place, "properties")...))))
			assert.ElementsMatch(t, required, texts(schema["required"]))

			least := marshal(t, values.least)
			assert.ElementsMatch(t, required, keys(t, least))
			require.NoError(t, doc.validate(place, least), "%s", least)
			if values.full != nil {
				full := marshal(t, values.full)
				assert.ElementsMatch(t, all, keys(t, full))
				assert.NoError(t, doc.validate(place, full), "%s", full)
			}
		})
	}
}

// properties returns the names of all JSON members of a struct, and of those that are
// always present.
func properties(typ reflect.Type) (all, required []string) {
	for field := range typ.Fields() {
		if field.Anonymous {
			embeddedAll, embeddedRequired := properties(field.Type)
			all, required = append(all, embeddedAll...), append(required, embeddedRequired...)
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		all = append(all, name)
		if options != "omitempty" {
			required = append(required, name)
		}
	}
	return all, required
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	content, err := json.Marshal(value)
	require.NoError(t, err)
	return content
}

func keys(t *testing.T, object []byte) []string {
	t.Helper()
	members := make(map[string]json.RawMessage)
	require.NoError(t, json.Unmarshal(object, &members))
	return slices.Collect(maps.Keys(members))
}

func texts(list any) []string {
	var found []string
	values, _ := list.([]any)
	for _, value := range values {
		found = append(found, value.(string))
	}
	return found
}

func TestHoldRequest(t *testing.T) {
	doc := Load(t)
	place := []string{"components", "schemas", "HoldRequest"}
	assert.NoError(t, doc.validate(place, marshal(t, control.HoldRequest{Reason: "x", Until: &sampleTime})))
	assert.NoError(t, doc.validate(place, marshal(t, control.HoldRequest{Reason: "x", For: "30m"})))
	assert.NoError(t, doc.validate(place, []byte(`{"until":"2026-11-23T12:00:00+02:00"}`)))
	assert.Error(t, doc.validate(place, marshal(t, control.HoldRequest{Until: &sampleTime, For: "30m"})))
}

// TestSchemasRefuse shows that the schemas do not accept just anything.
func TestSchemasRefuse(t *testing.T) {
	doc := Load(t)
	for name, change := range map[string]struct{ schema, old, new string }{
		"a member more":       {"Bulk", `"done"`, `"more":1,"done"`},
		"a member less":       {"Bulk", `"done":true,`, ``},
		"null for a list":     {"Holds", `"holds":[`, `"holds":null,"x":[`},
		"a count below zero":  {"Counts", `"dead":4`, `"dead":-4`},
		"a local time":        {"Hold", `.123456Z","until"`, `.123456+02:00","until"`},
		"no time":             {"Hold", `"since":"2026-11-23`, `"since":"2026-11-33`},
		"an unknown state":    {"Event", `"dead"`, `"lost"`},
		"a skipped delivery":  {"Delivery", `"dead"`, `"skipped"`},
		"no deliveries":       {"Event", `"deliveries":[`, `"deliveries":null,"x":[`},
		"an unknown kind":     {"Notice", `"gap"`, `"ping"`},
		"an id of capitals":   {"Released", `0a"`, `0A"`},
		"a short id":          {"Released", `0a"`, `"`},
		"an empty error":      {"Refused", `"error":"x"`, `"error":""`},
		"a name with a slash": {"Handler", `"name":"a"`, `"name":"a/b"`},
		"quarantined at 403":  {"Quarantined", `422`, `403`},
		"a body of a number":  {"EventDetail", `"body":{"id":"x"}`, `"body":1`},
		"missed too few":      {"Notice", `"missed":-1`, `"missed":-2`},
	} {
		t.Run(name, func(t *testing.T) {
			right := string(marshal(t, answers[change.schema].full))
			wrong := strings.Replace(right, change.old, change.new, 1)
			require.NotEqual(t, right, wrong)
			assert.Error(t, doc.validate([]string{"components", "schemas", change.schema}, []byte(wrong)), wrong)
		})
	}
}

// TestConstantsAreEnums compares the constants for the values of members with the values
// that the schemas allow.
func TestConstantsAreEnums(t *testing.T) {
	words := make(map[string][]string) // by the first constant of the block
	for _, decl := range declared(t, "answers.go").Decls {
		block, ok := decl.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		first := block.Specs[0].(*ast.ValueSpec).Names[0].Name
		for _, spec := range block.Specs {
			lit, ok := spec.(*ast.ValueSpec).Values[0].(*ast.BasicLit)
			require.True(t, ok)
			if lit.Kind == token.STRING {
				word, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				words[first] = append(words[first], word)
			}
		}
	}
	doc := Load(t)
	enum := func(place ...string) []string {
		return texts(doc.object(append([]string{"components", "schemas"}, place...)...)["enum"])
	}
	assert.Equal(t, map[string][]string{
		"ByOperator": enum("By"),
		"BodyText":   enum("QuarantinedDetail", "properties", "bodyEncoding"),
		"Accepted":   enum("NoticeKind"),
	}, words)
	refusals := doc.object("components", "schemas", "Handler", "properties", "refusals")
	assert.Equal(t, json.Number(strconv.Itoa(control.MaxRefusals)), refusals["maxItems"])
}
