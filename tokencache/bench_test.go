package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/tokencache"
)

// BenchmarkRead compares a read of a valid token with x/oauth2's ReuseTokenSource, and
// with the least that could be done: one load of an atomic pointer and a look at the clock.
// ns/op is the time that passes per read, whichever of the goroutines makes it.
func BenchmarkRead(b *testing.B) {
	type key struct {
		credential string
		version    int64
		scope      string
	}
	ctx := b.Context()
	issue := func() *grant.Token { return token("t", 10*time.Hour) }

	byString := tokencache.New(tokencache.Options[string]{
		Fetch: func(context.Context, string, tokencache.Want) (*grant.Token, error) { return issue(), nil },
	})
	defer byString.Close(ctx)
	byStruct := tokencache.New(tokencache.Options[key]{
		Fetch: func(context.Context, key, tokencache.Want) (*grant.Token, error) { return issue(), nil },
	})
	defer byStruct.Close(ctx)
	for i := range 1000 {
		name := fmt.Sprint("credential-", i)
		byString.Put(name, issue())
		byStruct.Put(key{name, 1, "mail.read mail.send"}, issue())
	}
	reuse := oauth2.ReuseTokenSource(&oauth2.Token{AccessToken: "t", Expiry: time.Now().Add(10 * time.Hour)}, nil)
	var pointer atomic.Pointer[grant.Token]
	pointer.Store(issue())
	errExpired := errors.New("expired")

	for _, impl := range []struct {
		name string
		read func() error
	}{
		{"tokencache", func() error { _, err := byString.Token(ctx, "credential-17", 0); return err }},
		{"tokencache-struct", func() error {
			_, err := byStruct.Token(ctx, key{"credential-17", 1, "mail.read mail.send"}, 0)
			return err
		}},
		{"reusetokensource", func() error { _, err := reuse.Token(); return err }},
		{"atomicpointer", func() error {
			if !time.Now().Before(pointer.Load().ExpiresAt) {
				return errExpired
			}
			return nil
		}},
	} {
		for _, goroutines := range []int{1, 2, 8} {
			b.Run(fmt.Sprintf("%s/%d", impl.name, goroutines), func(b *testing.B) {
				b.ReportAllocs()
				var wg sync.WaitGroup
				for range goroutines {
					wg.Go(func() {
						for range (b.N + goroutines - 1) / goroutines {
							if err := impl.read(); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// BenchmarkKeys reads one token among many, and tells what each costs in memory.
func BenchmarkKeys(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			names := make([]string, n)
			tokens := make([]*grant.Token, n)
			for i := range n {
				names[i] = fmt.Sprint("credential-", i)
				tokens[i] = token("t", 10*time.Hour)
			}
			before := inUse()
			c := tokencache.New(tokencache.Options[string]{
				Fetch: func(context.Context, string, tokencache.Want) (*grant.Token, error) { return nil, nil },
			})
			defer c.Close(b.Context())
			for i := range n {
				c.Put(names[i], tokens[i])
			}
			perKey := float64(inUse()-before) / float64(n)
			ctx := b.Context()
			for b.Loop() {
				if _, err := c.Token(ctx, "credential-17", 0); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(perKey, "B/key")
			runtime.KeepAlive(tokens)
		})
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
