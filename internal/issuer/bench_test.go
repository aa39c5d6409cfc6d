package issuer_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/grantway/grantway/internal/store/storetest"
)

func BenchmarkAuthenticate(b *testing.B) {
	h := start(b, storetest.Open(b, storetest.SQLite(b)), newKey(b))
	r := httptest.NewRequest(http.MethodPost, "/v1/credentials/x/token", nil)
	r.Header.Set("Authorization", "Bearer "+h.token(h.client("app", "application *")))
	authenticate := func() {
		if _, err := h.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			authenticate()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				authenticate()
			}
		})
	})
}

// post calls the token endpoint without a network.
func post(h http.Handler, from, id, secret string) int {
	r := newRequest(grantBody)
	r.Header.Set("Test-From", from)
	r.Header.Set("Test-Proto", "https")
	basic(id, secret)(r)
	w := newRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// BenchmarkToken is the token endpoint with opaque tokens, 64 requests at a time.
func BenchmarkToken(b *testing.B) {
	h := start(b, storetest.Open(b, storetest.SQLite(b)), newKey(b))
	handler, c := h.Handler(), h.client("app", "application *")
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got := post(handler, "192.0.2.1", c.ID, c.Secret); got != http.StatusOK {
				b.Fatal(got)
			}
		}
	})
}

// BenchmarkRefusal compares an unknown client with a wrong secret: the two must not be
// told apart by their times (S13).
func BenchmarkRefusal(b *testing.B) {
	h := start(b, storetest.Open(b, storetest.SQLite(b)), newKey(b))
	handler, c := h.Handler(), h.client("app", "application *")
	var n atomic.Uint32
	for name, id := range map[string]string{"wrong secret": c.ID, "unknown client": "client_" + strings.Repeat("a", 26)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				k := n.Add(1)
				from := fmt.Sprintf("10.%d.%d.%d", k>>16&255, k>>8&255, k&255)
				if got := post(handler, from, id, "gws_wrong"); got != http.StatusUnauthorized {
					b.Fatal(got)
				}
			}
		})
	}
}
