package forward

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReadableIsOneBoundedLine(t *testing.T) {
	assert.Equal(t, "no such task", readable([]byte(" no such\r\n\ttask\x00\n")))
	assert.Equal(t, "bad bytes", readable([]byte("bad\xff\xfebytes")))
	assert.LessOrEqual(t, len(readable([]byte(strings.Repeat("主", 5000)))), 1024)
	assert.Empty(t, readable(nil))
}

func TestLocationShowsNoSecret(t *testing.T) {
	for value, want := range map[string]string{
		"":                                 "",
		"/events/":                         "/events/",
		"https://app.example/x y":          "https://app.example/x%20y",
		"https://user:secret@app/?secret":  "https://app/?…",
		"https://app/#secret":              "https://app/?…",
		"//app/?secret":                    "//app/?…",
		"mailto:secret":                    "mailto:…",
		"https://app/\x01secret":           "what is no URL",
		"https://app/" + "\xff":            "https://app/%FF",
		"/" + strings.Repeat("x", 100_000): "/" + strings.Repeat("x", maxLocation-1) + "…",
	} {
		got := location(http.Header{"Location": {value}})
		assert.Equal(t, want, got)
	}
}
