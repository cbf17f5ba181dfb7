package forward

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// A body that is read again begins again, also after it was read in part.
func TestBodyIsReplayed(t *testing.T) {
	const text = "some text"
	b := &replayedBody{data: []byte(text)}
	for range 3 {
		whole, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, text, string(whole))
	}
	_, err := io.ReadFull(b, make([]byte, 4))
	require.NoError(t, err)
	require.NoError(t, b.Close())
	whole, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, text, string(whole))
	// as net/http does with a known length: it reads that much, and then once more
	_, err = io.CopyN(io.Discard, b, int64(len(text)))
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, b)
	require.NoError(t, err)
	require.Zero(t, n)
}
