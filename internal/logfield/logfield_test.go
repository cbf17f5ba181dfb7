package logfield

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/fotor-webhook/caddy-fotor-webhook/callback"
)

// Of the names of members, which whoever sent the callback has chosen, a line shows little.
func TestProblemsShowLittleOfNames(t *testing.T) {
	_, err := callback.Parse([]byte(`{"`+strings.Repeat("n", 240)+`":1,"`+strings.Repeat("n", 240)+`":2}`), nil)
	invalid := new(callback.InvalidError)
	require.ErrorAs(t, err, &invalid)
	enc := zapcore.NewMapObjectEncoder()
	Problems(append(invalid.Problems, callback.Problem{Detail: strings.Repeat("d", 200)})).AddTo(enc)
	assert.Equal(t, map[string]any{"problems": []any{
		"/" + strings.Repeat("n", maxPointer-1) + "…: is the second member of this name in its object, at byte offset 246",
		": " + strings.Repeat("d", 200),
	}}, enc.Fields)
}

// A line may not end within a character.
func TestCutLeavesCharactersWhole(t *testing.T) {
	assert.Equal(t, strings.Repeat("é", maxText/2), Cut(strings.Repeat("é", maxText/2)))
	assert.Equal(t, strings.Repeat("é", maxText/2-1)+"x…", Cut(strings.Repeat("é", maxText/2-1)+"xéé"))
}
