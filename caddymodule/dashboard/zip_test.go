package dashboard

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What compresses is used again, by many at once, and nothing of one page gets into another.
func TestPagesAreCompressedEachByItself(t *testing.T) {
	var jobs sync.WaitGroup
	for n := range 16 {
		jobs.Go(func() {
			for i := range 20 {
				content := []byte(strings.Repeat(string(rune('a'+n)), 1000*i))
				unzipped, err := gzip.NewReader(bytes.NewReader(zip(content)))
				if !assert.NoError(t, err) {
					return
				}
				got, err := io.ReadAll(unzipped)
				assert.NoError(t, err)
				assert.True(t, bytes.Equal(content, got))
			}
		})
	}
	jobs.Wait()
}
