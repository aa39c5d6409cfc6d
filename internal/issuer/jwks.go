package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

// Keys of clients at a URL: they are fetched through the guarded client, kept, and fetched
// again when they are old or a signature is by none of them, but not at once, so that
// nobody can make the hub ask somebody else all the time.
const (
	maxJWKS      = 64 << 10
	fetchTimeout = 5 * time.Second
	keepKeys     = 5 * time.Minute
	fetchAgain   = time.Minute
	maxRemote    = 1000
)

// remote holds documents of other servers, by URL.
type remote struct {
	http    *http.Client
	mu      sync.Mutex
	m       map[string]document // guarded by mu
	flights singleflight.Group
}

type document struct {
	text    []byte // of the last fetch that worked
	err     error  // of the last fetch
	fetched time.Time
}

// get returns the document at address: as it was kept, unless that is old or, with fresh, older
// than fetchAgain.
func (r *remote) get(ctx context.Context, address string, fresh bool) ([]byte, error) {
	keep := keepKeys
	if fresh {
		keep = fetchAgain
	}
	r.mu.Lock()
	kept, ok := r.m[address]
	r.mu.Unlock()
	if kept.err != nil {
		keep = min(keep, fetchAgain)
	}
	if ok && time.Since(kept.fetched) < keep {
		return kept.result()
	}
	flight := r.flights.DoChan(address, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
		defer cancel()
		text, err := r.fetch(ctx, address)
		now := document{text, err, time.Now()}
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			now.text = r.m[address].text // an outage of the other side does not end what was good
		}
		for other := range r.m { // any
			if len(r.m) < maxRemote {
				break
			}
			delete(r.m, other)
		}
		if r.m == nil {
			r.m = make(map[string]document)
		}
		r.m[address] = now
		return now, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-flight:
		return got.Val.(document).result()
	}
}

func (d document) result() ([]byte, error) {
	if d.text != nil {
		return d.text, nil
	}
	return nil, d.err
}

func (r *remote) fetch(ctx context.Context, address string) ([]byte, error) {
	if r.http == nil {
		return nil, errWrong("this hub fetches no keys")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered HTTP %d", address, resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err == nil && len(text) > maxJWKS {
		err = fmt.Errorf("%s is longer than 64 KiB", address)
	}
	return text, err
}

// withKeys calls verify with the keys inline, or those at address; with these again, newly
// fetched, when verify returns errWrongKey.
func (i *Issuer) withKeys(ctx context.Context, inline json.RawMessage, address string, verify func([]jose.JSONWebKey) error) error {
	if inline != nil {
		keys, err := parseKeys(inline)
		if err != nil {
			return err
		}
		return verify(keys)
	}
	for _, fresh := range []bool{false, true} {
		text, err := i.remote.get(ctx, address, fresh)
		if err != nil {
			return fmt.Errorf("keys: %w", err)
		}
		keys, err := parseKeys(text)
		if err != nil {
			return err
		}
		if err := verify(keys); !errors.Is(err, errWrongKey) || fresh {
			return err
		}
	}
	return errWrongKey
}

// parseKeys reads a JWK set (RFC 7517 section 5). Keys of unknown kinds are left out.
func parseKeys(text []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || len(set.Keys) > 100 {
		return nil, errors.New("not a JWK set")
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) == nil && k.Valid() && k.IsPublic() && !weak(k) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// checkKeys finds what is wrong with where the keys of a client are.
func checkKeys(inline json.RawMessage, address, under string, required bool, wrong func(pointer, detail string)) {
	switch {
	case inline != nil && address != "":
		wrong(under+"/jwks_uri", "and jwks exclude each other")
	case inline != nil:
		keys, err := parseKeys(inline)
		var set struct{ Keys []json.RawMessage }
		if err != nil || len(keys) == 0 || json.Unmarshal(inline, &set) != nil || len(keys) != len(set.Keys) || len(inline) > maxJWKS {
			wrong(under+"/jwks", `must be {"keys": […]} with public keys only, RSA ones of 2048 bits or more`)
		}
	case address != "":
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
			wrong(under+"/jwks_uri", "must be an https URL")
		}
	case required:
		wrong(under+"/jwks", "or jwks_uri is required: the public keys of the client")
	}
}
