package match

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// costLimit bounds the work of one evaluation: a step is 1, and a text that is read or
// made is 1 for each ten bytes. It is a matter of milliseconds. Beyond it the evaluation
// is an error.
const costLimit = 100_000

const (
	textFactor    = 10 // bytes of a text for each unit
	patternFactor = 4  // bytes of a pattern for each time that the text is gone over
)

// costs charges for calls by the values that they were made with. What CEL itself charges
// goes by their types, which nobody knows of what is in `extra`.
type costs struct{}

// CallCost implements interpreter.ActualCostEstimator.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	total := 1 + weight(result, false)
	deep := function == operators.Equals || function == operators.NotEquals || function == operators.In
	for _, arg := range args {
		total += weight(arg, deep)
	}
	if function == overloads.Matches && len(args) == 2 {
		pattern, _ := args[1].(types.String)
		total *= 1 + uint64(len(pattern)/patternFactor)
	}
	return &total
}

// weight returns what it costs to go over a value: over all that is in it if deep.
func weight(v ref.Val, deep bool) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v) / textFactor)
	case types.Bytes:
		return uint64(len(v) / textFactor)
	case traits.Lister:
		if deep {
			return weightOfAll(v, func(item ref.Val) ref.Val { return item })
		}
	case traits.Mapper:
		if deep {
			return weightOfAll(v, v.Get)
		}
	}
	return 0
}

func weightOfAll(items traits.Iterable, value func(ref.Val) ref.Val) (total uint64) {
	for it := items.Iterator(); it.HasNext() == types.True && total <= costLimit; {
		total += 1 + weight(value(it.Next()), true)
	}
	return total
}
