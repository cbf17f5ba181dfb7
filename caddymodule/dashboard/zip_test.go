package dashboard

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// What compresses is used again, by many at once, and nothing of one page gets into another.
func TestPagesAreCompressedEachByItself(t *testing.T) {
	var jobs sync.WaitGroup
	got := make([][]string, 16)
	for n := range got {
		jobs.Go(func() {
			for i := range 20 {
				got[n] = append(got[n], unzip(zip([]byte(strings.Repeat(string(rune('a'+n)), 1000*i)))))
			}
		})
	}
	jobs.Wait()
	for n := range got {
		for i, text := range got[n] {
			require.Equal(t, strings.Repeat(string(rune('a'+n)), 1000*i), text)
		}
	}
}

// unzip returns the text, or why it cannot.
func unzip(zipped []byte) string {
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
