package dashboard

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// zippers are used again: a new one has over a megabyte of tables, which takes longer to
// make than to compress a page.
var zippers = sync.Pool{New: func() any { return zipper(gzip.BestSpeed) }}

func zipper(level int) *gzip.Writer {
	w, err := gzip.NewWriterLevel(nil, level)
	if err != nil {
		panic(err) // there is such a level
	}
	return w
}

// zip compresses a text that is in memory as a whole.
func zip(content []byte) []byte {
	w := zippers.Get().(*gzip.Writer)
	defer zippers.Put(w)
	return zipWith(w, content)
}

func zipWith(w *gzip.Writer, content []byte) []byte {
	var b bytes.Buffer
	w.Reset(&b)
	_, _ = w.Write(content) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// writeZipped writes an answer, compressed if the client takes that. Its Content-Type has
// been set. zipped returns the content as compressed.
func writeZipped(w http.ResponseWriter, r *http.Request, status int, content []byte, zipped func([]byte) []byte) {
	header := w.Header()
	header.Add("Vary", "Accept-Encoding")
	if takesGzip(r.Header.Values("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		content = zipped(content)
	}
	header.Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(content) // the client may have gone, and there is nobody else to tell
	}
}

// takesGzip reports whether a client takes gzip. One that names it with a weight of 0 does
// not.
func takesGzip(accept []string) bool {
	for coding := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		value, found := strings.CutPrefix(strings.ToLower(strings.TrimSpace(weight)), "q=")
		quality, err := strconv.ParseFloat(value, 64)
		return !found || err == nil && quality > 0
	}
	return false
}
