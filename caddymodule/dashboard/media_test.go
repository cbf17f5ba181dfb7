package dashboard

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Events of earlier releases say neither how they were learnt nor their revision.
func TestWhereAnEventIsFrom(t *testing.T) {
	for body, want := range map[string]callbackView{
		`{"sourceIp":"192.0.2.1"}`: {SourceIP: "192.0.2.1"},
		`{"sourceIp":"192.0.2.1","origin":"callback","confirmed":null,"revision":1}`: {SourceIP: "192.0.2.1", Origin: "callback", Revision: 1},
		`{"sourceIp":null,"origin":"api","confirmed":true,"revision":2}`:             {Origin: "api", Revision: 2},
	} {
		got := callbackOf([]byte(body))
		assert.Equal(t, want.SourceIP, got.SourceIP, body)
		assert.Equal(t, want.Origin, got.Origin, body)
		assert.Equal(t, want.Revision, got.Revision, body)
	}
}
