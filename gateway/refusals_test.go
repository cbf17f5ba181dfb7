package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

func TestRefusalsAreRememberedByAddress(t *testing.T) {
	var r refusals
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r.add("192.0.2.1", "192.0.2.1:1", "address is not whitelisted", noon)
	r.add("192.0.2.2", "192.0.2.2:1", "address is not whitelisted", noon.Add(time.Second))
	r.add("192.0.2.1", "10.0.0.1:2", "address is not whitelisted", noon.Add(time.Minute))
	assert.Equal(t, []control.Refusal{
		{
			Address: "192.0.2.1", Peer: "10.0.0.1:2", Reason: "address is not whitelisted",
			Count: 2, First: noon, Last: noon.Add(time.Minute),
		},
		{
			Address: "192.0.2.2", Peer: "192.0.2.2:1", Reason: "address is not whitelisted",
			Count: 1, First: noon.Add(time.Second), Last: noon.Add(time.Second),
		},
	}, r.list())
}

// Strangers cannot use up memory, and an address that comes again and again stays.
func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	now := time.Now()
	for i := range 10 * control.MaxRefusals {
		r.add(fmt.Sprint(i, strings.Repeat("x", 1000)), strings.Repeat("y", 1000), "reason", now)
		r.add("again", "peer", "reason", now)
	}
	all := r.list()
	require.Len(t, all, control.MaxRefusals)
	require.Len(t, r.byAddress, control.MaxRefusals)
	assert.Equal(t, "again", all[0].Address)
	assert.EqualValues(t, 10*control.MaxRefusals, all[0].Count)
	for _, refusal := range all[1:] {
		assert.Len(t, refusal.Address, maxAddress)
		assert.Len(t, refusal.Peer, maxAddress)
	}
}
