package broker

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
)

// Upstream is what it takes to send requests of others to the API of one credential: where that
// is, and how requests get their authorization. It is of one version of the credential, shared
// by all callers, and safe for concurrent use.
type Upstream struct {
	ID, Name, Division string
	connector.API

	b       *Broker
	head    *head
	nonce   atomic.Pointer[string]  // the DPoP nonce that the API sent last
	refused atomic.Pointer[refusal] // the last token that the API refused when it was fresh
}

type refusal struct {
	fingerprint string
	at          time.Time
}

// refusedPause is how long a token that was refused fresh is not dropped again, so that an API
// that refuses every token does not turn into a storm on the token endpoint.
const refusedPause = time.Minute

// Upstream returns the API of a credential, for a caller who may use that. Served from memory
// it touches no database. What the caller's list of credentials allows is for
// [access.Caller.CheckRequest]. Errors are of code NotFound, Forbidden, Unavailable, or
// Conflict when the credential does not say where its API is.
func (b *Broker) Upstream(ctx context.Context, who access.Caller, ref string) (*Upstream, error) {
	for try := 0; ; try++ {
		h, err := b.find(ctx, who, ref, access.UseCredential)
		if err != nil {
			return nil, err
		}
		if u := h.upstream.Load(); u != nil {
			return u, nil
		}
		rec, err := b.recordOf(ctx, h)
		if errors.Is(err, errSuperseded) && try < 3 {
			continue
		}
		if err != nil {
			return nil, tokenError(h, err)
		}
		def, err := definition(h.connector)
		if err != nil {
			return nil, err
		}
		api := def.API(rec.inputs)
		if api == nil {
			return nil, grantway.Errorf(grantway.Conflict, "credential %s does not say where its API is; give it an API base URL", h.name)
		}
		u := &Upstream{ID: h.id, Name: h.name, Division: h.division, API: *api, b: b, head: h}
		if !h.upstream.CompareAndSwap(nil, u) {
			u = h.upstream.Load()
		}
		return u, nil
	}
}

// Applied says which token a request carries.
type Applied struct{ token *grant.Token }

// Apply puts a token that is valid now on r, whose URL must be complete, and counts who got it
// used. Errors are those of Token.
func (u *Upstream) Apply(ctx context.Context, who access.Caller, r *http.Request) (Applied, error) {
	t, err := u.b.token(ctx, who, u.head, grantway.Ref{Credential: u.ID})
	if err != nil {
		return Applied{}, err
	}
	t.SetAuthHeader(r)
	if t.DPoP == nil {
		return Applied{t}, nil
	}
	nonce := ""
	if last := u.nonce.Load(); last != nil {
		nonce = *last
	}
	proof, err := t.DPoP.Proof(r.Method, r.URL.String(), nonce, t.AccessToken)
	if err != nil {
		return Applied{}, err
	}
	r.Header.Set("DPoP", proof)
	return Applied{t}, nil
}

// Refused looks at the answer to a request that Apply put a token on, and says whether another
// request may fare better: with another token, because the API refused this one, which is
// dropped on all replicas, or with the nonce that the API asked for (RFC 9449 section 9). A
// second request that is refused like the first is not the token's fault: then it stays.
func (u *Upstream) Refused(ctx context.Context, used Applied, resp *http.Response, second bool) (again bool) {
	fresh := false // a DPoP nonce that the request did not have
	if used.token.DPoP != nil {
		if nonce := resp.Header.Get("DPoP-Nonce"); nonce != "" {
			last := u.nonce.Swap(&nonce)
			fresh = last == nil || *last != nonce
		}
	}
	if resp.StatusCode != http.StatusUnauthorized {
		return false
	}
	if fresh && strings.Contains(strings.Join(resp.Header.Values("WWW-Authenticate"), ","), "use_dpop_nonce") {
		return true
	}
	fingerprint := used.token.Fingerprint()
	if second {
		u.refused.Store(&refusal{fingerprint, time.Now()})
		return false
	}
	if last := u.refused.Load(); last != nil && last.fingerprint == fingerprint && time.Since(last.at) < refusedPause {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseTimeout)
	defer cancel()
	if known, err := u.b.known(ctx, u.head, fingerprint); err == nil && !known {
		return true // an old one: a newer one is there already
	}
	if err := u.b.drop(ctx, u.head, fingerprint); err != nil {
		u.b.Log.Warn("a refused token was not forgotten everywhere", "credential", u.Name, "error", err)
	}
	return true
}

// Identify finds a credential by name or id, as far as who may know of it.
func (b *Broker) Identify(who access.Caller, ref string) (id, name string, ok bool) {
	h := b.heads.get(ref)
	if h == nil || !(who.May(access.PickCredential, h.division) || who.May(access.UseCredential, h.division)) {
		return "", "", false
	}
	return h.id, h.name, true
}
