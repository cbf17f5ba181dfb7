package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// asset is a file that pages load. Its name has a hash of its content, so that it can be
// cached for ever.
type asset struct {
	name    string // as in links
	media   string
	content []byte
	zipped  []byte
}

// assets are those that there are, by their names without the hash.
var assets = loadAssets(map[string]string{
	"app.css":  "text/css; charset=utf-8",
	"app.js":   "text/javascript; charset=utf-8",
	"icon.svg": "image/svg+xml",
})

func loadAssets(mediaTypes map[string]string) map[string]*asset {
	loaded := make(map[string]*asset, len(mediaTypes))
	for name, media := range mediaTypes {
		content, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		sum := sha256.Sum256(content)
		extension := path.Ext(name)
		loaded[name] = &asset{
			name:    strings.TrimSuffix(name, extension) + "." + hex.EncodeToString(sum[:6]) + extension,
			media:   media,
			content: content,
			zipped:  zip(content, gzip.BestCompression),
		}
	}
	return loaded
}

// zip compresses a text that is in memory as a whole.
func zip(content []byte, level int) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		panic(err) // there is such a level
	}
	_, _ = w.Write(content) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// ServeHTTP implements http.Handler.
func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("Content-Type", a.media)
	writeZipped(w, r, http.StatusOK, a.content, a.zipped)
}

// writeZipped writes an answer, compressed if the client takes that. Its Content-Type has
// been set.
func writeZipped(w http.ResponseWriter, r *http.Request, status int, content, zipped []byte) {
	header := w.Header()
	header.Add("Vary", "Accept-Encoding")
	if takesGzip(r.Header.Values("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		content = zipped
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
