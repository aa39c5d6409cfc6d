package issuer_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// The lines S40 to S46 of the checklist: what tokens are for, JWTs, their keys, and metadata.

// RFC 8707 section 2, RFC 9068 section 3: a token is for the hub, or for one API that the client is
// registered for, and no other.
func TestS40Resource(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		const mail = "https://mail.example/api"
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: format, Resources: []string{mail}}))
			ask := func(resources ...string) reply {
				return h.post(grantBody+"&"+url.Values{"resource": resources}.Encode(), basic(c.ID, c.Secret))
			}
			for _, test := range []struct {
				resources []string
				aud       string
				api       int
			}{{nil, h.server.URL, 200}, {[]string{h.server.URL}, h.server.URL, 200}, {[]string{mail}, mail, 401}} {
				got := ask(test.resources...)
				got.want(t, 200, "")
				if about := h.introspect(c, got.token()); about["aud"] != test.aud {
					t.Errorf("%q: introspection says %v", test.resources, about)
				}
				if format == grantway.FormatJWT {
					if _, body := payload(t, got.token()); body["aud"] != test.aud {
						t.Errorf("%q: %v", test.resources, body)
					}
				}
				h.ForgetSessions()
				if got := h.me("Bearer " + got.token()); got.status != test.api { // R05
					t.Errorf("%q at the API: %d", test.resources, got.status)
				}
			}
			for _, bad := range []string{"mail", "/api", mail + "#x", "https://other.example", h.server.URL + "/"} {
				ask(bad).want(t, 400, "invalid_target")
			}
		}
	})
}

// RFC 9700 section 2.3: a token does what was asked for and no more; S41.
func TestS41LeastPrivilege(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: format}))
			got := h.post(grantBody+"&scope=credential.pick", basic(c.ID, c.Secret))
			if got := h.me("Bearer " + got.token()); got.status != 403 {
				t.Errorf("%s: %d", format, got.status)
			}
		}
	})
}

// RFC 9068 section 2: header and claims; S43: the subject is the client.
func TestS42JWT(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		for _, alg := range []string{grantway.AlgES256, grantway.AlgRS256, grantway.AlgEdDSA} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: grantway.FormatJWT, TokenAlg: alg, TokenSeconds: 600}))
			token := h.token(c)
			head, body := payload(t, token)
			if head["alg"] != alg || head["typ"] != "at+jwt" || head["kid"] == "" {
				t.Errorf("header %v", head)
			}
			now := float64(time.Now().Unix())
			if body["iss"] != h.server.URL || body["aud"] != h.server.URL || body["sub"] != c.ID || body["client_id"] != c.ID ||
				body["exp"].(float64)-body["iat"].(float64) != 600 || body["iat"].(float64) > now || body["iat"].(float64) < now-60 ||
				body["scope"] != "credential.pick credential.status credential.use connector.read" {
				t.Errorf("claims %v", body)
			}
			if jti, _ := body["jti"].(string); len(jti) < 26 {
				t.Errorf("jti %q", jti)
			}
			if !h.verifies(token) {
				t.Errorf("%s: the keys at /oauth/jwks do not verify it", alg)
			}
			if got := h.me("Bearer " + token); got.status != 200 || got.body != c.ID {
				t.Errorf("%d %s", got.status, got.body)
			}
		}
	})
}

// verifies says whether a key that is published verifies a JWT.
func (h *hub) verifies(token string) bool {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA})
	if err != nil {
		return false
	}
	set := h.jwks()
	for _, k := range set.Key(jws.Signatures[0].Protected.KeyID) {
		if _, err := jws.Verify(k); err == nil {
			return true
		}
	}
	return false
}

func (h *hub) jwks() (set jose.JSONWebKeySet) {
	got := h.send("GET", "/oauth/jwks", "")
	if err := json.Unmarshal([]byte(got.body), &set); err != nil {
		h.t.Errorf("%s: %v", got.body, err)
	}
	return set
}

// RFC 9068 section 4: what is not a token of ours that is good is refused; R05 too.
func TestR04VerifyJWT(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.make(settings(grantway.ClientSettings{TokenFormat: grantway.FormatJWT, TokenSeconds: 300}))
		token := h.token(c)
		parts := strings.Split(token, ".")
		head, body := payload(t, token)
		enc := func(v any) string {
			text, _ := json.Marshal(v)
			return base64.RawURLEncoding.EncodeToString(text)
		}
		k := newKeyPair(jose.ES256, head["kid"].(string))
		mine := claims(body)
		typed := func(c claims, typ string) string { return k.sign(c, map[jose.HeaderKey]any{"typ": typ}) }
		for name, bad := range map[string]string{
			"another key with the same kid": typed(mine, "at+jwt"),
			"unsigned":                      enc(map[string]any{"alg": "none", "typ": "at+jwt", "kid": head["kid"]}) + "." + parts[1] + ".",
			"no kid":                        enc(map[string]any{"alg": "ES256", "typ": "at+jwt"}) + "." + parts[1] + "." + parts[2],
			"another alg":                   enc(map[string]any{"alg": "HS256", "typ": "at+jwt", "kid": head["kid"]}) + "." + parts[1] + "." + parts[2],
			"changed claims":                parts[0] + "." + enc(mine.with("sub", "client_x")) + "." + parts[2],
			"cut":                           token[:len(token)-5],
			"two parts":                     parts[0] + "." + parts[1],
		} {
			if got := h.me("Bearer " + bad); got.status != 401 || !strings.Contains(got.header.Get("WWW-Authenticate"), "invalid_token") {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
		}
		// The same with signatures that are good, by the hub's own key.
		for name, test := range map[string]struct {
			typ    string
			claims claims
			want   int
		}{
			"good":              {"at+jwt", mine, 200},
			"full type":         {"application/at+jwt", mine, 200},
			"another type":      {"JWT", mine, 401},
			"another issuer":    {"at+jwt", mine.with("iss", "https://other.example"), 401},
			"another audience":  {"at+jwt", mine.with("aud", "https://other.example"), 401},
			"among audiences":   {"at+jwt", mine.with("aud", []string{"https://other.example", h.server.URL}), 200},
			"expired":           {"at+jwt", mine.with("exp", time.Now().Unix()-1), 401},
			"no audience":       {"at+jwt", mine.with("aud", nil), 401},
			"an unknown client": {"at+jwt", mine.with("client_id", "client_x", "sub", "client_x"), 401},
			"an unknown scope":  {"at+jwt", mine.with("scope", "everything"), 401},
		} {
			jwt, err := h.SignAs(test.typ, test.claims)
			ok(t, err)
			if got := h.me("Bearer " + jwt); got.status != test.want {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
		}
	})
}

// Keys are published before they sign and after; a key that is no longer secret goes at once.
func TestS44Keys(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		b.URL = a.URL
		for _, alg := range []string{grantway.AlgES256, grantway.AlgRS256} {
			a.make(settings(grantway.ClientSettings{TokenFormat: grantway.FormatJWT, TokenAlg: alg}))
		}
		c := a.make(settings(grantway.ClientSettings{TokenFormat: grantway.FormatJWT}))
		first := a.token(c)
		kids := func() (all []string) {
			for _, k := range a.jwks().Keys {
				if all = append(all, k.KeyID); !k.IsPublic() || k.Use != "sig" || k.Algorithm == "" {
					t.Errorf("key %+v", k)
				}
			}
			slices.Sort(all)
			return all
		}
		if n := len(kids()); n != 2 {
			t.Fatalf("%d keys, want one of each algorithm that is used", n)
		}
		now := time.Now()
		ok(t, a.Rotate(t.Context(), now.Add(28*24*time.Hour)))
		if n := len(kids()); n != 2 {
			t.Errorf("%d keys, and it is not time for the next ones", n)
		}
		ok(t, a.Rotate(t.Context(), now.Add(29*24*time.Hour+time.Hour)))
		if n := len(kids()); n != 4 {
			t.Errorf("%d keys, want the next ones too", n)
		}
		if one, _ := payload(t, a.token(c)); one["kid"] != mustKid(t, first) {
			t.Error("a key signs before its time")
		}
		ok(t, a.Rotate(t.Context(), now.Add(40*24*time.Hour)))
		if n := len(kids()); n != 2 {
			t.Errorf("%d keys, want the old ones gone", n)
		}
		if got := a.me("Bearer " + first); got.status != 401 {
			t.Errorf("a token whose key is gone: %d", got.status)
		}

		// By hand: in a day, and in an emergency now.
		c = a.make(settings(grantway.ClientSettings{TokenFormat: grantway.FormatJWT, TokenAlg: grantway.AlgEdDSA}))
		token := a.token(c)
		if got := b.me("Bearer " + token); got.status != 200 { // it looks for the client and the key, of which it has not heard
			t.Fatalf("where it was not issued: %d %s", got.status, got.body)
		}
		wait := b.heardOf("signing_key")
		ok(t, a.RemoveSigningKey(t.Context(), owner, mustKid(t, token)))
		for b.me("Bearer "+token).status != 401 {
			wait(1)
		}
		if got := a.me("Bearer " + token); got.status != 401 {
			t.Errorf("where it was removed: %d", got.status)
		}
		if got := a.me("Bearer " + a.token(c)); got.status != 200 {
			t.Errorf("the new key: %d %s", got.status, got.body)
		}
		keys, err := a.RotateSigningKeys(t.Context(), owner)
		ok(t, err)
		again, err := a.RotateSigningKeys(t.Context(), owner)
		ok(t, err)
		if len(again) != len(keys) {
			t.Errorf("a second rotation made %d keys of %d", len(again), len(keys))
		}
		if n := a.count(`SELECT count(*) FROM signing_key WHERE length(sealed) < 60`); n != 0 {
			t.Error("a key is not sealed")
		}
	})
}

func mustKid(t *testing.T, token string) string {
	head, _ := payload(t, token)
	return head["kid"].(string)
}

// Keys change while clients get tokens and use them, and no request fails.
func TestS44RotationUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.make(settings(grantway.ClientSettings{TokenFormat: grantway.FormatJWT}))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					token := h.token(c)
					if got := h.me("Bearer " + token); got.status != 200 || !h.verifies(token) {
						t.Errorf("%d %s", got.status, got.body)
					}
				}
			})
		}
		for range 5 {
			_, err := h.RotateSigningKeys(t.Context(), owner)
			ok(t, err)
			ok(t, h.store.Write(t.Context(), func(tx *store.Tx) error { // a day passes
				_, err := tx.ExecContext(t.Context(), `UPDATE signing_key SET signs_from = signs_from - 86400001`)
				tx.Changed("signing_key", "")
				return err
			}))
			time.Sleep(20 * time.Millisecond)
		}
		stop()
		wg.Wait()
	})
}

// RFC 8414: the metadata is there, complete, and true; S46.
func TestS45Metadata(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		got := h.send("GET", "/.well-known/oauth-authorization-server", "")
		m := map[string]any{}
		if err := json.Unmarshal([]byte(got.body), &m); err != nil || got.status != 200 || got.header.Get("Content-Type") != "application/json" {
			t.Fatalf("%d %s: %v", got.status, got.body, err)
		}
		base := h.server.URL
		for name, want := range map[string]any{
			"issuer": base, "token_endpoint": base + "/oauth/token", "jwks_uri": base + "/oauth/jwks", "introspection_endpoint": base + "/oauth/introspect",
			"revocation_endpoint": base + "/oauth/revoke", "authorization_endpoint": base + "/oauth/authorize",
			"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"},
			"tls_client_certificate_bound_access_tokens": true, "authorization_response_iss_parameter_supported": true,
			"grant_types_supported":                 []string{"client_credentials", "authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:token-exchange"},
			"token_endpoint_auth_methods_supported": []string{"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "client_secret_basic", "client_secret_post", "client_secret_jwt", "none"},
		} {
			if !equal(m[name], want) {
				t.Errorf("%s: %v, want %v", name, m[name], want)
			}
		}
		for name, value := range m {
			if list, ok := value.([]any); ok && len(list) == 0 {
				t.Errorf("%s is an empty list", name)
			}
			if strings.Contains(name, "signing_alg") && (slices.Contains(value.([]any), any("none"))) {
				t.Errorf("%s has none", name)
			}
		}
		h.Person, h.Exchange, h.TakesCertificates, h.ClientCAs = nil, nil, false, nil // another configuration, another document
		got = h.send("GET", "/.well-known/oauth-authorization-server", "")
		for _, gone := range []string{"authorization_endpoint", "refresh_token", "token-exchange", "tls_client", "none"} {
			if strings.Contains(got.body, gone) {
				t.Errorf("the metadata has %s: %s", gone, got.body)
			}
		}
		h.post("grant_type=authorization_code&code=x").want(t, 400, "unsupported_grant_type")
	})
}
