package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
)

// Upstream is what it takes to send requests to the API of one credential: where that is, how
// requests get their authorization, and by which signs the API refuses it. It is safe for concurrent
// use. Most hold no secret and are shared by all callers. That of a connector that sends or
// signs with secret inputs is made for one request, and must not be kept longer.
type Upstream struct {
	ID, Name, Division string

	// Limit is how many requests the API takes: what the credential says, else the connector. Zero
	// is no limit.
	Limit Limit

	plan     *connector.Plan
	hasToken bool
	b        *Broker
	head     *head
}

// Limit is a number of requests in some time.
type Limit struct {
	Requests int
	Per      time.Duration
}

// learned is what the answers of an API said, for the requests that come.
type learned struct {
	nonce   atomic.Pointer[string]  // the DPoP nonce that came last
	refused atomic.Pointer[refusal] // the last token that was refused when it was fresh
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
// [access.Caller.CheckRequest]. Errors are of code NotFound, Forbidden or Unavailable, or those
// of secrets that cannot be had.
func (b *Broker) Upstream(ctx context.Context, who access.Caller, ref string) (*Upstream, error) {
	for try := 0; ; try++ {
		h, err := b.find(ctx, who, ref, access.UseCredential)
		if err != nil {
			return nil, err
		}
		def, err := b.definition(h.connector, h.connectorVersion)
		if err != nil {
			return nil, err
		}
		if u := h.upstream.Load(); u != nil && u.plan.Made(def.Definition) {
			return u, nil
		}
		rec, err := b.recordOf(ctx, h)
		if errors.Is(err, errSuperseded) && try < 3 {
			continue
		}
		if err != nil {
			return nil, tokenError(h, err)
		}
		u := &Upstream{ID: h.id, Name: h.name, Division: h.division, Limit: limitOf(rec, def.Definition), hasToken: def.HasToken(), b: b, head: h}
		values, secret := connector.Values{Plain: rec.inputs, Zone: rec.zone}, def.AppliesSecrets(rec.given)
		if secret {
			if values, err = b.open(ctx, h, rec, ""); err != nil {
				return nil, tokenError(h, err)
			}
		}
		if u.plan, err = def.CompileApply(values); err != nil {
			return nil, &grantway.Error{Code: grantway.Conflict, Message: "credential " + h.name + " does not fit its connector: " + err.Error(), Err: err}
		}
		if !secret {
			h.upstream.Store(u)
		}
		return u, nil
	}
}

func limitOf(rec *record, def *connector.Definition) Limit {
	if l := rec.limit; l != nil {
		return Limit{l.Requests, l.Per.Duration()}
	}
	if def.Source.Hints == nil || def.Source.Hints.RateLimit == nil {
		return Limit{}
	}
	l := def.Source.Hints.RateLimit
	if l.Requests < 1 || l.Per <= 0 {
		return Limit{}
	}
	return Limit{l.Requests, time.Duration(l.Per)}
}

// Certificate is the client certificate for connections to the API; nil when there is none.
func (u *Upstream) Certificate() *tls.Certificate { return u.plan.Certificate() }

// NeedsBody tells whether Apply reads the bodies of requests: the connector signs or changes them.
func (u *Upstream) NeedsBody() bool { return u.plan.NeedsBody() }

// ReadsAnswers tells whether Refused looks into the bodies of answers, which should not be compressed then.
func (u *Upstream) ReadsAnswers() bool { return u.plan.ReadsAnswers() }

// Follows tells whether a redirect may be followed with authorization.
func (u *Upstream) Follows(from, to *url.URL) bool { return u.plan.FollowsRedirect(from, to) }

// Undo takes what Apply adds to queries out of one that an API repeats.
func (u *Upstream) Undo(query string) string { return u.plan.Undo(query) }

// Authorization is what requests are authorized with: a token that is valid now, unless the
// connector has none.
type Authorization struct {
	Base *url.URL // what the paths of the API are below; must not be changed

	u     *Upstream
	token *grant.Token
}

// Authorize gets a token, and counts who got the credential used. Errors are those of Token, or of code
// Conflict when nobody says where the API is.
func (u *Upstream) Authorize(ctx context.Context, who access.Caller) (Authorization, error) {
	a, err := u.authorize(ctx, who, grantway.Ref{Credential: u.ID})
	if err != nil {
		return a, err
	}
	if a.Base, err = u.plan.BaseURL(a.token); err != nil {
		return a, &grantway.Error{Code: grantway.Conflict, Message: "credential " + u.Name + " does not say where its API is: " + err.Error(), Err: err}
	}
	return a, nil
}

// authorize is Authorize for a variant of the token, and without a base URL.
func (u *Upstream) authorize(ctx context.Context, who access.Caller, ref grantway.Ref) (Authorization, error) {
	a := Authorization{u: u}
	if u.hasToken {
		var err error
		a.token, err = u.b.token(ctx, who, u.head, ref)
		return a, err
	}
	u.head.usage.reads.Add(1)
	u.b.Reads.Count(who.ID, u.ID)
	return a, nil
}

// Apply authorizes r, whose URL must be complete, as the connector says. It changes r and its header. It
// reads the body when the connector NeedsBody, at most 10 MiB of it.
func (a Authorization) Apply(r *http.Request) error {
	if err := a.u.plan.Apply(r, a.token); err != nil || a.token == nil || a.token.DPoP == nil {
		return err
	}
	nonce := ""
	if last := a.u.head.learned.nonce.Load(); last != nil {
		nonce = *last
	}
	proof, err := a.token.DPoP.Proof(r.Method, r.URL.String(), nonce, a.token.AccessToken)
	if err == nil {
		r.Header.Set("DPoP", proof)
	}
	return err
}

// Endpoint makes the request to an endpoint of the connector with values for its inputs, which is
// still to be authorized by Apply. Errors are of code NotFound or Invalid.
func (a Authorization) Endpoint(ctx context.Context, name string, inputs map[string]string) (*http.Request, error) {
	return a.u.plan.Endpoint(ctx, name, inputs, a.token)
}

// Refused looks at the answer to a request that Apply authorized, and says whether another
// request may fare better: with another token, because the API refused this one, which is
// dropped on all replicas, or with the nonce that the API asked for (RFC 9449 section 9). A
// second request that is refused like the first is not the token's fault: then it stays.
func (a Authorization) Refused(ctx context.Context, resp *http.Response, second bool) (again bool) {
	if a.token == nil {
		return false // there is no other
	}
	u, learned := a.u, &a.u.head.learned
	fresh := false // a DPoP nonce that the request did not have
	if a.token.DPoP != nil {
		if nonce := resp.Header.Get("DPoP-Nonce"); nonce != "" {
			last := learned.nonce.Swap(&nonce)
			fresh = last == nil || *last != nonce
		}
	}
	if !u.plan.Refused(resp) {
		return false
	}
	if fresh && strings.Contains(strings.Join(resp.Header.Values("WWW-Authenticate"), ","), "use_dpop_nonce") {
		return true
	}
	fingerprint := a.token.Fingerprint()
	if second {
		learned.refused.Store(&refusal{fingerprint, time.Now()})
		return false
	}
	if last := learned.refused.Load(); last != nil && last.fingerprint == fingerprint && time.Since(last.at) < refusedPause {
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
