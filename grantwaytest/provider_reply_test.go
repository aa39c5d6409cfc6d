package grantwaytest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/grantway/grantway/grantwaytest"
)

func TestProviderHold(t *testing.T) {
	p := newPoster(t)
	release := p.Token.Hold()
	const n = 5
	var done sync.WaitGroup
	for range n {
		r := tokenRequest(t, p, form("client_id", "poster", "client_secret", "s3cret"))
		done.Go(func() {
			if a, err := try(newHTTP(p, nil), r); a.status != 200 {
				t.Errorf("%d %s, %v", a.status, a.body, err)
			}
		})
	}
	if err := p.Token.Await(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if len(p.Tokens()) != 0 {
		t.Error("an answer was given while held")
	}
	release()
	release()
	done.Wait()
	if most := p.Token.MaxConcurrent(); most != n {
		t.Errorf("MaxConcurrent is %d, want %d", most, n)
	}
	if a := postForm(t, p); a.status != 200 {
		t.Errorf("after release: %d", a.status)
	}

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Token.Await(gone, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("Await: %v", err)
	}
}

func TestProviderScript(t *testing.T) {
	p := newPoster(t)
	p.Token.Always(grantwaytest.Status(500))
	p.Token.Next(grantwaytest.Status(503), grantwaytest.Healthy())
	var got []int
	for range 4 {
		got = append(got, postForm(t, p).status)
	}
	p.Token.Always(nil)
	got = append(got, postForm(t, p).status)
	if want := []int{503, 200, 500, 500, 200}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestReplies(t *testing.T) {
	p := newPoster(t)
	for _, c := range []struct {
		name   string
		reply  grantwaytest.Reply
		status int
		header string // "Name: value", "" for none
		body   string // a part of it
	}{
		{"status", grantwaytest.Status(503), 503, "", "Service Unavailable"},
		{"retry after", grantwaytest.RetryAfter(429, "120"), 429, "Retry-After: 120", ""},
		{"redirect", grantwaytest.Redirect(307, "https://else.example/"), 307, "Location: https://else.example/", ""},
		{"html", grantwaytest.HTML(200), 200, "Content-Type: text/html; charset=utf-8", "<h1>"},
		{"json", grantwaytest.JSON(200, []int{1}), 200, "Content-Type: application/json", "[1]"},
		{"error", grantwaytest.OAuthError(200, "invalid_scope", "no"), 200, "", `"error_description":"no"`},
		{"with", grantwaytest.With("expires_in", json.RawMessage("1e12")), 200, "Cache-Control: no-store", `"expires_in":1e12`},
		{"body", grantwaytest.Body(201, "text/plain", "hi"), 201, "Content-Type: text/plain", "hi"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.Token.Next(c.reply)
			a := postForm(t, p)
			name, value, _ := strings.Cut(c.header, ": ")
			if a.status != c.status || a.header.Get(name) != value || !bytes.Contains(a.body, []byte(c.body)) {
				t.Errorf("got %d %v %s", a.status, a.header, a.body)
			}
		})
	}
	p.Token.Next(grantwaytest.Without("expires_in"))
	if a := postForm(t, p); a.json["expires_in"] != nil || a.json["access_token"] == nil {
		t.Errorf("without: %s", a.body)
	}
	p.Token.Next(grantwaytest.With("access_token", "x"))
	if a := do(t, newHTTP(p, nil), tokenRequest(t, p, form())); a.status != 401 {
		t.Errorf("an edited answer lets anybody in: %d %s", a.status, a.body)
	}
	p.Token.Next(grantwaytest.Huge(2), grantwaytest.GzipBomb(2))
	for _, name := range []string{"huge", "gzip bomb"} {
		if a := postForm(t, p); len(a.json["access_token"].(string)) != 2<<20 {
			t.Errorf("%s: %d bytes", name, len(a.body))
		}
	}
}

// TestBrokenReplies are those that end in an error of the client.
func TestBrokenReplies(t *testing.T) {
	for name, c := range map[string]struct {
		reply grantwaytest.Reply
		want  error
	}{
		"truncated":    {grantwaytest.Truncated(), io.ErrUnexpectedEOF},
		"reset":        {grantwaytest.Reset(), syscall.ECONNRESET},
		"slow headers": {grantwaytest.SlowHeaders(), context.Canceled},
		"slow body":    {grantwaytest.SlowBody(), context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			p := grantwaytest.NewTLSProvider(t)
			p.Register(grantwaytest.Client{ID: "poster", Secret: "s3cret", Method: grantwaytest.AuthPost})
			p.Token.Next(c.reply)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.want == context.Canceled {
				go func() {
					p.Token.Await(ctx, 1)
					cancel()
				}()
			}
			r := tokenRequest(t, p, form("client_id", "poster", "client_secret", "s3cret"))
			_, err := try(newHTTP(p, nil), r.WithContext(ctx))
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}
