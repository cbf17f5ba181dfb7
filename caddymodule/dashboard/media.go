package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/fotor-webhook/caddy-fotor-webhook/internal/show"
)

// callbackView is what a callback said, as it was understood. Only the event that was made
// of it is kept.
type callbackView struct {
	StatusCode int             `json:"statusCode"`
	BusinessID *string         `json:"businessId"`
	ResultURL  *string         `json:"resultUrl"`
	Avatars    []avatar        `json:"avatars"`
	Sensitive  bool            `json:"sensitive"`
	ExtraRaw   json.RawMessage `json:"extra"`
	SourceIP   string          `json:"sourceIp"`
	Origin     string          `json:"origin"`   // "" in events of earlier releases, as is Revision 0
	Revision   int             `json:"revision"` // of several outcomes of the task

	Images int    `json:"-"` // of all avatars
	Extra  string `json:"-"` // the undocumented fields; "" for none
	Note   string `json:"-"` // the field msg, in which Fotor says why a task failed

	parts []part
}

type avatar struct {
	TemplateID string `json:"templateId"`
	Images     []struct {
		ID        string `json:"id"`
		URL       string `json:"url"`
		Sensitive bool   `json:"sensitive"`
	} `json:"images"`
}

// part is an entry of the undocumented field result.
type part struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// maxExtra bounds how much of the undocumented fields is shown beside the others; the body
// has all.
const maxExtra = 2000

// callbackOf reads an event. What is not as expected is left out: the body is shown whole.
func callbackOf(body []byte) (c callbackView) {
	_ = json.Unmarshal(body, &c)
	for i := range c.Avatars {
		c.Images += len(c.Avatars[i].Images)
	}
	if len(c.ExtraRaw) > 2 {
		c.Extra = cut(string(show.JSON(indented(c.ExtraRaw))), maxExtra)
		var known struct {
			Msg    json.RawMessage `json:"msg"`
			Result json.RawMessage `json:"result"`
		}
		_ = json.Unmarshal(c.ExtraRaw, &known)
		_ = json.Unmarshal(known.Msg, &c.Note)
		_ = json.Unmarshal(known.Result, &c.parts)
	}
	return c
}

func indented(document []byte) []byte {
	var b bytes.Buffer
	if json.Indent(&b, document, "", "  ") != nil {
		return document
	}
	return b.Bytes()
}

// pretty returns a JSON body for reading, and its size if only a part of it is shown.
func pretty(body []byte) (text, size string) {
	text = string(show.JSON(indented(body)))
	if len(text) <= maxBody {
		return text, ""
	}
	return strings.ToValidUTF8(text[:maxBody], ""), humanize.IBytes(uint64(len(body)))
}

// The kinds of media.
const (
	kindImage = "image"
	kindVideo = "video"
	kindLink  = "link"
)

// media is a result of a task.
type media struct {
	Kind, URL, Label, Host string
	Sensitive              bool

	// Foreign says that it is not shown because its host is not listed.
	Foreign bool
}

// maxMedia bounds how many results a page shows.
const maxMedia = 60

// media returns the results of the callback, and how many more there are.
func (c *callbackView) media(hosts []string) (shown []media, more int) {
	add := func(raw, label string, image, sensitive bool) {
		if len(shown) == maxMedia {
			more++
			return
		}
		if m, ok := mediaOf(raw, hosts, image); ok && !slices.ContainsFunc(shown, func(other media) bool { return other.URL == m.URL }) {
			m.Label, m.Sensitive = label, m.Kind != kindLink && (sensitive || c.Sensitive && !image)
			shown = append(shown, m)
		}
	}
	for i := range c.Avatars {
		for j := range c.Avatars[i].Images {
			image := &c.Avatars[i].Images[j]
			label := fmt.Sprintf("Image %s of template %s", value(image.ID, cutCell), value(c.Avatars[i].TemplateID, cutCell))
			add(image.URL, label, true, image.Sensitive)
		}
	}
	if c.ResultURL != nil {
		add(*c.ResultURL, "Result", false, false)
	}
	for _, p := range c.parts {
		add(p.URL, "Result "+value(p.Name, cutCell), false, false)
	}
	return shown, more
}

// mediaOf says how a URL is shown; ok is false for one that is none. Only http and https
// can be opened. That it is an image is known, or told by the end of its path.
func mediaOf(raw string, hosts []string, image bool) (m media, ok bool) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return m, false
	}
	m = media{Kind: kindLink, URL: raw, Host: value(u.Host, cutCell)}
	switch strings.ToLower(path.Ext(u.Path)) {
	case ".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".bmp":
		m.Kind = kindImage
	case ".mp4", ".webm", ".mov", ".m4v":
		m.Kind = kindVideo
	default:
		if image {
			m.Kind = kindImage
		}
	}
	if m.Kind != kindLink && !listed(u, hosts) {
		m.Kind, m.Foreign = kindLink, true
	}
	return m, true
}

// listed reports whether a URL is at one of the hosts, as Content-Security-Policy has it.
func listed(u *url.URL, hosts []string) bool {
	at := strings.ToLower(u.Host)
	if u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		at = strings.ToLower(u.Hostname())
	}
	return slices.ContainsFunc(hosts, func(host string) bool {
		if suffix, any := strings.CutPrefix(host, "*"); any {
			return strings.HasSuffix(at, suffix)
		}
		return at == host
	})
}
