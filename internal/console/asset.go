package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed static
var built embed.FS // from npm, by `make assets`

//go:embed own
var own embed.FS // ours

// wanted are the files that a console is not whole without.
var wanted = []string{"tabler.css", "htmx.js", "uplot.js", "uplot.css", "icons.svg"}

// assets serves what pages refer to, under names that change with the content, so that
// browsers keep it for good.
type assets struct {
	missing bool              // `make assets` was not run
	urls    map[string]string // by name
	files   map[string]asset  // by path
}

type asset struct {
	kind   string
	plain  []byte
	zipped func() []byte // done once, by who first asks for it: it takes longer than all else that a hub does at its start
}

// embedded is what is in the program, whoever serves it.
var embedded = sync.OnceValues(func() (*assets, error) { return loadAssets(built, own) })

func loadAssets(files ...fs.FS) (*assets, error) {
	a := &assets{urls: map[string]string{}, files: map[string]asset{}}
	for _, dir := range files {
		err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || path.Ext(name) == "" {
				return err
			}
			text, err := fs.ReadFile(dir, name)
			if err != nil {
				return err
			}
			a.add(path.Base(name), text)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, name := range wanted {
		if a.urls[name] == "" {
			a.missing = true
		}
	}
	return a, nil
}

func (a *assets) add(name string, text []byte) {
	sum := sha256.Sum256(text)
	ext := path.Ext(name)
	url := "/static/" + strings.TrimSuffix(name, ext) + "-" + hex.EncodeToString(sum[:6]) + ext
	kind := mime.TypeByExtension(ext)
	switch ext { // whatever the machine's tables say
	case ".css":
		kind = "text/css; charset=utf-8"
	case ".js":
		kind = "text/javascript; charset=utf-8"
	case ".svg":
		kind = "image/svg+xml"
	}
	a.urls[name], a.files[url] = url, asset{kind, text, sync.OnceValue(func() []byte { return zip(text) })}
}

func zip(text []byte) []byte {
	var zipped bytes.Buffer
	z, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		panic(err) // there is this level
	}
	z.Write(text) // memory takes all
	z.Close()
	return zipped.Bytes()
}

// ServeHTTP implements http.Handler.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	text := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		text = f.zipped()
	}
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.Write(text)
}
