package dashboard

import (
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
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
			zipped:  zipWith(zipper(gzip.BestCompression), content),
		}
	}
	return loaded
}

// ServeHTTP implements http.Handler.
func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("Content-Type", a.media)
	writeZipped(w, r, http.StatusOK, a.content, func([]byte) []byte { return a.zipped })
}
