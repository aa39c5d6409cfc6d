package bench

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/tokencache"
)

// BenchmarkCacheRead compares reading a token in process from tokencache with reading it from
// the ReuseTokenSource of x/oauth2, by 1, 2 and 8 goroutines. Targets for x-faster: more than 1, at
// least 2, at least 4; and 0 allocations.
func BenchmarkCacheRead(b *testing.B) {
	cache := tokencache.New(tokencache.Options[string]{Fetch: func(context.Context, string, tokencache.Want) (*grant.Token, error) {
		now := time.Now()
		return &grant.Token{AccessToken: "token", Type: "Bearer", IssuedAt: now, ExpiresAt: now.Add(time.Hour)}, nil
	}})
	defer cache.Close(b.Context())
	reuse := oauth2.ReuseTokenSource(&oauth2.Token{AccessToken: "token", TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)}, nil)
	ctx := b.Context()
	fromCache := func() error { _, err := cache.Token(ctx, "sales-email", 0); return err }
	fromReuse := func() error { _, err := reuse.Token(); return err }

	for _, goroutines := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			b.ReportAllocs()
			const rounds = 10
			n := max(b.N/rounds, 1)
			var cacheTook, reuseTook time.Duration
			for range rounds {
				reuseTook += read(b, goroutines, n, fromReuse)
				cacheTook += read(b, goroutines, n, fromCache)
			}
			b.ReportMetric(float64(cacheTook.Nanoseconds())/float64(n*rounds), "cache-ns")
			b.ReportMetric(float64(reuseTook.Nanoseconds())/float64(n*rounds), "reuse-ns")
			b.ReportMetric(reuseTook.Seconds()/cacheTook.Seconds(), "x-faster")
		})
	}
}

// read does n reads, shared among goroutines, and returns how long all of them took.
func read(b *testing.B, goroutines, n int, one func() error) time.Duration {
	var wg sync.WaitGroup
	began := time.Now()
	for i := range goroutines {
		wg.Go(func() {
			for range (n + i) / goroutines {
				if err := one(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}
