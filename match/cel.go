package match

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// maxFault is the length in bytes to which the errors of CEL are cut.
const maxFault = 300

// variable is the event's name in expressions, typeName that of its type in errors.
const (
	variable = "event"
	typeName = "fotor.Event"
)

// fields are the event's members, as schema/event.schema.json has them. They have
// types, so that a misspelt one is found when the config is loaded.
var fields = map[string]*cel.Type{
	"id":         cel.StringType,
	"taskId":     cel.StringType,
	"type":       cel.StringType,
	"status":     cel.StringType,
	"statusCode": cel.IntType,
	"businessId": cel.NullableType(cel.StringType),
	"resultUrl":  cel.NullableType(cel.StringType),
	"avatars":    cel.ListType(cel.DynType),
	"sensitive":  cel.BoolType,
	"extra":      cel.MapType(cel.StringType, cel.DynType),
	"receivedAt": cel.StringType,
	"sourceIp":   cel.NullableType(cel.StringType),
	"origin":     cel.StringType,
	"confirmed":  cel.NullableType(cel.BoolType),
	"revision":   cel.IntType,
}

// provider adds the type of events to those of CEL.
type provider struct {
	types.Provider
	event  *cel.Type
	fields map[string]*types.FieldType
}

func newProvider(base types.Provider) *provider {
	p := &provider{Provider: base, event: types.NewTypeTypeWithParam(cel.ObjectType(typeName)), fields: make(map[string]*types.FieldType)}
	for name, fieldType := range fields {
		p.fields[name] = &types.FieldType{
			Type: fieldType,
			IsSet: func(target any) bool {
				value, err := memberOf(target, name)
				return err == nil && value != nil && value != types.NullValue
			},
			GetFrom: func(target any) (any, error) { return memberOf(target, name) },
		}
	}
	return p
}

func memberOf(target any, name string) (any, error) {
	e, ok := target.(*Event)
	if !ok {
		return nil, fmt.Errorf("%s of %T: expected an event", name, target)
	}
	value, err := e.member(name)
	if value == nil && err == nil {
		return types.NullValue, nil
	}
	return value, err
}

// FindStructType implements types.Provider.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if name == typeName {
		return p.event, true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldType implements types.Provider.
func (p *provider) FindStructFieldType(structType, field string) (*types.FieldType, bool) {
	if structType == typeName {
		found, ok := p.fields[field]
		return found, ok
	}
	return p.Provider.FindStructFieldType(structType, field)
}

// program is a compiled expression. What it can call has no side effects and no clock:
// the functions and macros of the CEL specification.
type program struct{ cel.Program }

// environment is where expressions are compiled. It does not change once it is made.
var environment = sync.OnceValue(func() *cel.Env {
	registry, err := types.NewRegistry()
	if err != nil {
		panic(err) // with no types given there is nothing that can fail
	}
	env, err := cel.NewEnv(
		cel.CustomTypeAdapter(registry),
		cel.CustomTypeProvider(newProvider(registry)),
		cel.Variable(variable, cel.ObjectType(typeName)),
	)
	if err != nil {
		panic(err)
	}
	return env
})

func compile(source string) (program, error) {
	env := environment()
	checked, issues := env.Compile(source)
	if found := issues.Errors(); len(found) > 0 {
		at := found[0].Location
		return program{}, fmt.Errorf("line %d, column %d: %s; expected CEL such as event.type == \"avatar\"", at.Line(), max(at.Column(), 0)+1, oneLine(found[0].Message))
	}
	switch checked.OutputType() {
	case cel.BoolType, cel.DynType:
	default:
		return program{}, fmt.Errorf("it gives %s: expected true or false", checked.OutputType())
	}
	p, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostTracking(costs{}), cel.CostLimit(costLimit))
	if err != nil {
		return program{}, errors.New(oneLine(err.Error()))
	}
	return program{p}, nil
}

func (p program) eval(e *Event) (bool, error) {
	out, _, err := p.Eval(map[string]any{variable: e})
	if err != nil {
		return false, errors.New(oneLine(err.Error()))
	}
	fits, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("the expression gives %s: expected true or false", out.Type().TypeName())
	}
	return fits, nil
}

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxFault {
		text = strings.ToValidUTF8(text[:maxFault], "") + "…"
	}
	return text
}
