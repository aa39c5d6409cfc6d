package issuer_test

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
)

// The lines S35 to S39 of the checklist: proofs of possession at the token endpoint (RFC 9449).

// RFC 9449 section 4.3: the checks of a proof.
func TestS35Proof(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		k, other := newKeyPair(jose.ES256, ""), newKeyPair(jose.ES256, "")
		now := time.Now().Unix()
		nonce := h.nonce(c, k)
		good := func(pairs ...any) string { return h.proof(k, "POST", "/oauth/token", nonce, "", pairs...) }
		base := func() claims {
			return claims{"jti": rand.Text(), "htm": "POST", "htu": h.server.URL + "/oauth/token", "iat": now, "nonce": nonce}
		}
		private, _ := json.Marshal(jose.JSONWebKey{Key: k.private})
		public, _ := json.Marshal(other.public())
		for name, test := range map[string]struct {
			proof string
			want  int
		}{
			"good":                        {good(), 200},
			"htu in another spelling":     {good("htu", strings.Replace(h.server.URL, "http", "HTTP", 1)+"/oauth/token?x=1#y"), 200},
			"RS256":                       {newKeyPair(jose.RS256, "").prove(base(), "dpop+jwt"), 200},
			"EdDSA":                       {newKeyPair(jose.EdDSA, "").prove(base(), "dpop+jwt"), 200},
			"not a JWT":                   {"x", 400},
			"two proofs in one header":    {good() + "," + good(), 400},
			"no jti":                      {good("jti", nil), 400},
			"no htm":                      {good("htm", nil), 400},
			"no htu":                      {good("htu", nil), 400},
			"no iat":                      {good("iat", nil), 400},
			"typ of another JWT":          {k.prove(base(), "JWT"), 400},
			"unsigned":                    {unsigned(base()), 400},
			"symmetric":                   {signWith(jose.SigningKey{Algorithm: jose.HS256, Key: make([]byte, 32)}, (&jose.SignerOptions{}).WithType("dpop+jwt"), base()), 400},
			"no key":                      {k.sign(base(), map[jose.HeaderKey]any{"typ": "dpop+jwt"}), 400},
			"the private key in it":       {k.sign(base(), map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": json.RawMessage(private)}), 400},
			"somebody else's key in it":   {k.sign(base(), map[jose.HeaderKey]any{"typ": "dpop+jwt", "jwk": json.RawMessage(public)}), 400},
			"another method":              {good("htm", "GET"), 400},
			"the method in small letters": {good("htm", "post"), 400},
			"another endpoint":            {good("htu", h.server.URL+"/oauth/revoke"), 400},
			"another host":                {good("htu", "https://other.example/oauth/token"), 400},
			"old":                         {good("iat", now-120), 400},
			"of the future":               {good("iat", now+120), 400},
		} {
			got := h.post(grantBody, basic(c.ID, c.Secret), header("DPoP", test.proof))
			if got.status != test.want || test.want == 400 && got.error() != "invalid_dpop_proof" {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
		}
		got := h.post(grantBody, basic(c.ID, c.Secret), header("DPoP", good()), func(r *http.Request) { r.Header.Add("DPoP", good()) })
		got.want(t, 400, "invalid_dpop_proof") // S37
	})
}

// RFC 9449 section 11.1: a jti is good once for its key and URL, on all replicas.
func TestS36ProofReplay(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		b.URL = a.URL
		c := a.client("app", "application home")
		k := newKeyPair(jose.ES256, "")
		proof := a.proof(k, "POST", "/oauth/token", a.nonce(c, k), "")
		a.post(grantBody, basic(c.ID, c.Secret), header("DPoP", proof)).want(t, 200, "")
		a.post(grantBody, basic(c.ID, c.Secret), header("DPoP", proof)).want(t, 400, "invalid_dpop_proof")
		b.post(grantBody, basic(c.ID, c.Secret), header("DPoP", proof)).want(t, 400, "invalid_dpop_proof")
		if n := a.count(`SELECT count(*) FROM used_once WHERE length(hash) <> 43`); n != 0 {
			t.Error("more than a hash is stored")
		}
	})
}

// RFC 9449 section 8: nonces are stateless, unpredictable, and those of a short while ago count.
func TestS38Nonce(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		b.URL = a.URL
		c := a.client("app", "application home")
		k := newKeyPair(jose.ES256, "")
		try := func(h *hub, nonce string) reply {
			return h.post(grantBody, basic(c.ID, c.Secret), header("DPoP", h.proof(k, "POST", "/oauth/token", nonce, "", "htu", a.server.URL+"/oauth/token")))
		}
		try(b, a.nonce(c, k)).want(t, 200, "") // of the other replica
		now := time.Now()
		try(a, a.NonceAt(now.Add(-2*time.Minute))).want(t, 200, "")
		for _, nonce := range []string{"", "x", a.NonceAt(now.Add(-5 * time.Minute)), a.NonceAt(now.Add(5 * time.Minute))} {
			got := try(a, nonce)
			got.want(t, 400, "use_dpop_nonce")
			if len(got.header["Dpop-Nonce"]) != 1 {
				t.Errorf("nonces %q", got.header["Dpop-Nonce"])
			}
		}
	})
}

// RFC 9449 sections 5 and 6: the answer and the token say what it is bound to; the proof counts
// before the certificate.
func TestS39Bound(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		k := newKeyPair(jose.ES256, "")
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: format, CertificateBound: true}))
			got := h.post(grantBody, basic(c.ID, c.Secret), certificate(selfSigned("app")), header("DPoP", h.proof(k, "POST", "/oauth/token", h.nonce(c, k), "")))
			got.want(t, 200, "")
			want := map[string]any{"jkt": k.thumbprint()}
			about := h.introspect(c, got.token())
			if got.json["token_type"] != "DPoP" || !equal(about["cnf"], want) || about["token_type"] != "DPoP" {
				t.Errorf("%s: %s %v", format, got.body, about)
			}
			if format == grantway.FormatJWT {
				if _, body := payload(t, got.token()); !equal(body["cnf"], want) {
					t.Errorf("%v", body)
				}
			}
		}
	})
}

// RFC 9449 section 7: at the API a bound token needs its scheme and a proof by its key, for it.
func TestR06BoundToken(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		k, other := newKeyPair(jose.ES256, ""), newKeyPair(jose.ES256, "")
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: format}))
			token, plain := h.bound(c, k), h.token(c)
			proof := h.proof(k, "GET", "/me", "", token)
			if got := h.me("DPoP "+token, header("DPoP", proof)); got.status != 200 {
				t.Fatalf("good: %d %s", got.status, got.body)
			}
			for name, got := range map[string]reply{
				"as Bearer":           h.me("Bearer " + token),
				"as Bearer, proved":   h.me("Bearer "+token, header("DPoP", h.proof(k, "GET", "/me", "", token))),
				"no proof":            h.me("DPoP " + token),
				"the proof again":     h.me("DPoP "+token, header("DPoP", proof)),
				"another key":         h.me("DPoP "+token, header("DPoP", h.proof(other, "GET", "/me", "", token))),
				"no ath":              h.me("DPoP "+token, header("DPoP", h.proof(k, "GET", "/me", "", ""))),
				"for another token":   h.me("DPoP "+token, header("DPoP", h.proof(k, "GET", "/me", "", plain))),
				"for another request": h.me("DPoP "+token, header("DPoP", h.proof(k, "POST", "/me", "", token))),
				"not bound":           h.me("DPoP "+plain, header("DPoP", h.proof(k, "GET", "/me", "", plain))),
			} {
				// R08
				if challenge := got.header.Get("WWW-Authenticate"); got.status != 401 || !strings.HasPrefix(challenge, "DPoP ") || !strings.Contains(challenge, `algs="ES256 `) {
					t.Errorf("%s: %d %q", name, got.status, challenge)
				}
			}
			got := h.me("DPoP "+token, header("DPoP", h.proof(k, "GET", "/me", "stale", token)))
			if got.status != 401 || len(got.header["Dpop-Nonce"]) != 1 || !strings.Contains(got.header.Get("WWW-Authenticate"), "use_dpop_nonce") {
				t.Errorf("stale nonce: %d %v", got.status, got.header)
			}
			if got = h.me("dpop "+token, header("DPoP", h.proof(k, "GET", "/me", got.header.Get("DPoP-Nonce"), token))); got.status != 200 {
				t.Errorf("fresh nonce: %d %s", got.status, got.body)
			}
		}
	})
}

// RFC 8705 section 3: at the API a token that is bound to a certificate needs it on the connection.
func TestR07CertificateBoundToken(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		cert := selfSigned("app")
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{CertificateBound: true, TokenFormat: format}))
			got := h.post(grantBody, basic(c.ID, c.Secret), certificate(cert))
			if got := h.me("Bearer "+got.token(), certificate(cert)); got.status != 200 {
				t.Errorf("good: %d %s", got.status, got.body)
			}
			for _, bad := range []reply{h.me("Bearer " + got.token()), h.me("Bearer "+got.token(), certificate(selfSigned("app")))} {
				if bad.status != 401 || !strings.Contains(bad.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
					t.Errorf("%d %v", bad.status, bad.header)
				}
			}
		}
	})
}
