package proxy

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// FuzzTarget: whatever the request line holds, what goes on stays behind the base URL, by any
// reading, and is the path that was checked.
func FuzzTarget(f *testing.F) {
	for _, uri := range []string{
		"/proxy/api", "/proxy/api/", "/proxy/api/a/b?c=d", "/proxy/api/a%20b;c", "/proxy/api/%2e%2e/x", "/proxy/api/..%2f", "/proxy/api//x", "/proxy/api/%252e%252e", "/proxy/a%2fb/c",
		"http://x/proxy/api/", "/proxy/api/\\..\\", "/proxy/api/%c0%ae", "/proxy/api/a?b#c", "/proxy/%00/", "/proxy/api/:80/@x", "/proxy/api/%",
	} {
		f.Add(uri)
	}
	base := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/base/v1"}
	f.Fuzz(func(t *testing.T, uri string) {
		target, refused := parseTarget(uri)
		if refused != "" {
			return
		}
		to := target.url(base)
		wire := to.RequestURI()
		rest, query, _ := strings.Cut(wire, "?")
		if strings.ContainsFunc(wire, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			t.Fatalf("%q goes on as %q", uri, wire)
		}
		if !strings.HasPrefix(rest, "/base/v1") || query != target.query {
			t.Fatalf("%q goes on as %q", uri, wire)
		}
		again, err := url.ParseRequestURI(wire)
		if err != nil || again.Host != "" {
			t.Fatalf("%q goes on as %q: %v", uri, wire, err)
		}
		for decoded := rest; ; { // as often as somebody may decode it
			if clean := path.Clean(strings.ReplaceAll(decoded, `\`, "/")); clean != "/base/v1" && !strings.HasPrefix(clean, "/base/v1/") {
				t.Fatalf("%q may be read as %q", uri, clean)
			}
			next, err := url.PathUnescape(decoded)
			if err != nil || next == decoded {
				break
			}
			decoded = next
		}
		if to.Path != "/base/v1"+target.path || again.Path != to.Path {
			t.Fatalf("%q: checked %q, sent %q", uri, target.path, again.Path)
		}
		if back, ok := through(base, to, target.credential); !ok {
			t.Fatalf("%q: the proxy refuses its own %s", uri, to)
		} else if same, refused := parseTarget(back); refused != "" || same != target && target.query == same.query && same.path != target.path {
			t.Fatalf("%q came back as %q", uri, back)
		}
	})
}
