//go:build unix

package e2e

import (
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An inbox whose file was removed is not ready until it is opened anew, though no callback
// arrives meanwhile.
func TestReadyOfARemovedInboxFile(t *testing.T) {
	up := newUpstream(t, nil)
	g := newGateway(t)
	config := g.Caddyfile("forward "+up.URL+quick, readySite, silent)
	t.Cleanup(g.Stop)
	require.NoError(t, g.Load(config))
	g.becomesReady()
	require.NoError(t, os.Remove(g.DB))
	g.becomesUnready("default broken")
	require.NoError(t, g.Load(config))
	status, reasons := g.Ready()
	assert.Equal(t, http.StatusOK, status, "at once after the reload: %s", reasons)
}
