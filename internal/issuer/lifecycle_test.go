package issuer_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/store/storetest"
)

// The lines S47 to S52 of the checklist: what becomes of tokens; and the settings of clients.

// RFC 7662: who asks authenticates, and learns nothing of tokens that are none of its business.
func TestS47Introspect(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		const mail = "https://mail.example"
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: format, Resources: []string{mail}}))
			stranger := h.make(grantway.OAuthClient{})
			auditor := h.make(grantway.OAuthClient{Roles: assignments("auditor home")})
			server := h.make(settings(grantway.ClientSettings{Resources: []string{mail}})) // a resource server
			token := h.token(c)
			forMail := h.post(grantBody+"&resource="+url.QueryEscape(mail), basic(c.ID, c.Secret)).token()
			inactive := map[string]any{"active": false}
			for name, test := range map[string]struct {
				asks   grantway.OAuthClient
				token  string
				active bool
			}{
				"its own": {c, token, true}, "an auditor": {auditor, token, true}, "a stranger": {stranger, token, false}, "another resource": {server, token, false},
				"its resource": {server, forMail, true}, "made up": {c, issuer.Forge(), false}, "garbage": {c, "x", false}, "garbage JWT": {c, "eyJx.y.z", false},
			} {
				about := h.introspect(test.asks, test.token)
				if about["active"] != test.active || !test.active && !equal(about, inactive) {
					t.Errorf("%s %s: %v", format, name, about)
				}
			}
			about := h.introspect(c, token)
			if about["client_id"] != c.ID || about["sub"] != c.ID || about["iss"] != h.server.URL || about["scope"] != "credential.pick credential.status credential.use connector.read" ||
				about["exp"].(float64)-about["iat"].(float64) != 86400 || about["token_type"] != "Bearer" {
				t.Errorf("%v", about)
			}
			h.send("POST", "/oauth/introspect", "token="+token).want(t, 401, "invalid_client")
			h.send("POST", "/oauth/introspect", "token="+token, basic(c.ID, "x")).want(t, 401, "invalid_client")
			h.send("POST", "/oauth/introspect", "", basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
			h.send("POST", "/oauth/introspect", "token=a&token=b", basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
			if got := h.send("GET", "/oauth/introspect?token="+token, "", basic(c.ID, c.Secret)); got.status != 405 || got.header.Get("Allow") != "POST" {
				t.Errorf("GET: %d", got.status)
			}
		}
		c := h.client("guesser", "application home") // throttled
		token := h.token(c)
		for range 100 {
			got := h.send("POST", "/oauth/introspect", "token="+issuer.ForgeLike(token), basic(c.ID, c.Secret), header("Test-From", "192.0.2.77"), header("Test-Proto", "https"))
			if got.status == http.StatusTooManyRequests {
				if got.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				return
			}
		}
		t.Error("guessing is not throttled")
	})
}

// RFC 7662 section 4: the state of token, client and roles is that of now.
func TestS48State(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: format}))
			asks := h.make(grantway.OAuthClient{Roles: assignments("auditor *")})
			token := h.token(c)
			active := func() bool { return h.introspect(asks, token)["active"] == true }
			if !active() {
				t.Fatal("not active")
			}
			ok(t, h.SetActive(t.Context(), owner, c.ID, false))
			if active() {
				t.Errorf("%s: active, though its client is not", format)
			}
			ok(t, h.SetActive(t.Context(), owner, c.ID, true))
			if !active() {
				t.Errorf("%s: not active again", format)
			}
			for range 20 { // within a millisecond too, what came before ends, and what comes after is good
				ok(t, h.RevokeTokens(t.Context(), owner, c.ID))
				if active() {
					t.Fatalf("%s: active, though all tokens were revoked", format)
				}
				if token = h.token(c); !active() {
					t.Fatalf("%s: revoked with those before it", format)
				}
			}
			ok(t, h.DeleteClient(t.Context(), owner, c.ID))
			if active() {
				t.Errorf("%s: active, though its client is gone", format)
			}
		}
	})
}

// RFC 7009: a client revokes its own tokens, whatever the hint; S50: they end at once, here and on
// other replicas within store.Staleness.
func TestS49Revoke(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		b.URL = a.URL
		wait := b.heardOf("token")
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c, other := a.make(settings(grantway.ClientSettings{TokenFormat: format})), a.make(grantway.OAuthClient{})
			token, stays := a.token(c), a.token(c)
			for _, h := range []*hub{a, b} {
				if got := h.me("Bearer " + token); got.status != 200 {
					t.Fatalf("%d %s", got.status, got.body)
				}
			}
			revoke := func(as grantway.OAuthClient, body string) reply {
				return a.send("POST", "/oauth/revoke", body, basic(as.ID, as.Secret))
			}
			revoke(other, "token="+token).want(t, 400, "invalid_grant") // not its own
			if got := a.me("Bearer " + token); got.status != 200 {
				t.Errorf("%s: revoked by somebody else", format)
			}
			for _, body := range []string{"token=" + token + "&token_type_hint=refresh_token", "token=" + token, "token=x", "token=" + issuer.Forge() + "&token_type_hint=foo"} {
				if got := revoke(c, body); got.status != 200 || got.body != "" {
					t.Errorf("%s: %d %s", body, got.status, got.body)
				}
			}
			if got := a.me("Bearer " + token); got.status != 401 {
				t.Errorf("%s: %d at once", format, got.status)
			}
			for b.me("Bearer "+token).status != 401 {
				wait(1)
			}
			if got := b.me("Bearer " + stays); got.status != 200 {
				t.Errorf("%s: another token of the client: %d", format, got.status)
			}
			c2 := start(t, a.store, a.key) // after a restart it is still revoked
			c2.URL = a.URL
			if got := c2.me("Bearer " + token); got.status != 401 {
				t.Errorf("%s: %d after a restart", format, got.status)
			}
			a.send("POST", "/oauth/revoke", "token="+stays).want(t, 401, "invalid_client")
			revoke(c, "").want(t, 400, "invalid_request")
		}
	})
}

// Turning a client off, deleting it or taking a role away stops its tokens; a new secret does not,
// unless that is asked for. On every replica.
func TestS51LiveTokens(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		b.URL = a.URL
		wait := b.heard()
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := a.make(settings(grantway.ClientSettings{TokenFormat: format}))
			token := a.token(c)
			for b.me("Bearer "+token).status != 200 {
				wait(1)
			}
			reset, err := a.ResetSecret(t.Context(), owner, c.ID, grantway.SecretReset{})
			ok(t, err)
			if got := a.me("Bearer " + token); got.status != 200 || reset.LiveTokens != "kept" {
				t.Errorf("%s: reset: %d, tokens %s", format, got.status, reset.LiveTokens)
			}
			for _, step := range []struct {
				name string
				do   func() error
				want int
			}{
				{"off", func() error { return a.SetActive(t.Context(), owner, c.ID, false) }, 401},
				{"on", func() error { return a.SetActive(t.Context(), owner, c.ID, true) }, 200},
				{"no role", func() error {
					c.Roles, c.Version = assignments("designer home"), 0
					_, err := a.UpdateClient(t.Context(), owner, c)
					return err
				}, 403},
				{"role", func() error {
					c.Roles = assignments("application home")
					_, err := a.UpdateClient(t.Context(), owner, c)
					return err
				}, 200},
			} {
				ok(t, step.do())
				if got := a.me("Bearer " + token).status; got != step.want {
					t.Errorf("%s %s: %d, want %d", format, step.name, got, step.want)
				}
				for b.me("Bearer "+token).status != step.want {
					wait(1)
				}
			}
			c.Secret = reset.Secret
			reset, err = a.ResetSecret(t.Context(), owner, c.ID, grantway.SecretReset{RevokeTokens: true})
			ok(t, err)
			if late := b.post(grantBody, basic(c.ID, c.Secret)); late.status == 200 && a.me("Bearer "+late.token()).status != 401 { // b may not have heard of it
				t.Errorf("%s: a token by the old secret, issued after the reset, is good", format)
			}
			if got := a.me("Bearer " + token); got.status != 401 || reset.LiveTokens != "revoked" {
				t.Errorf("%s: reset with tokens: %d, tokens %s", format, got.status, reset.LiveTokens)
			}
			for b.me("Bearer "+token).status != 401 {
				wait(1)
			}
			c.Secret = reset.Secret
			if got := a.me("Bearer " + a.token(c)); got.status != 200 {
				t.Errorf("%s: a new token: %d", format, got.status)
			}
		}
	})
}

// RFC 7591 section 3.2.1: with a secret comes when it ends; several are good at once, and each by itself ends.
func TestS52Secrets(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		if c.SecretExpiresAt == nil || *c.SecretExpiresAt != 0 {
			t.Errorf("client_secret_expires_at %v, want 0", c.SecretExpiresAt)
		}
		end := time.Now().Add(time.Hour).Truncate(time.Second)
		second, err := h.AddSecret(t.Context(), owner, c.ID, grantway.NewSecret{ExpiresAt: end})
		ok(t, err)
		if *second.SecretExpiresAt != end.Unix() || second.Secret == "" {
			t.Errorf("%+v", second)
		}
		h.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
		h.post(grantBody, basic(c.ID, second.Secret)).want(t, 200, "")
		ok(t, h.RecordUsage(t.Context()))
		list, err := h.Secrets(t.Context(), owner, c.ID)
		ok(t, err)
		if len(list) != 2 || list[0].Secret+list[1].Secret != "" || list[0].LastUsed.IsZero() || !list[1].ExpiresAt.Equal(end) {
			t.Errorf("%+v", list)
		}
		// Rotation: the old ones stay good for a while.
		overlap := grantway.Seconds(3600)
		third, err := h.AddSecret(t.Context(), owner, c.ID, grantway.NewSecret{OldExpireIn: &overlap})
		ok(t, err)
		h.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
		list, _ = h.Secrets(t.Context(), owner, c.ID)
		if left := time.Until(list[0].ExpiresAt); left <= 0 || left > time.Hour {
			t.Errorf("the first secret ends in %s", left)
		}
		var now grantway.Seconds
		fourth, err := h.AddSecret(t.Context(), owner, c.ID, grantway.NewSecret{OldExpireIn: &now})
		ok(t, err)
		h.post(grantBody, basic(c.ID, third.Secret)).want(t, 401, "invalid_client")
		h.post(grantBody, basic(c.ID, fourth.Secret)).want(t, 200, "")
		ok(t, h.RevokeSecret(t.Context(), owner, c.ID, fourth.ID))
		h.post(grantBody, basic(c.ID, fourth.Secret)).want(t, 401, "invalid_client")
		if err := h.RevokeSecret(t.Context(), owner, c.ID, fourth.ID); code(err) != grantway.NotFound {
			t.Errorf("again: %v", err)
		}
		for _, n := range []grantway.NewSecret{{ExpiresAt: time.Now().Add(-time.Hour)}, {OldExpireIn: &[]grantway.Seconds{-1}[0]}} {
			if _, err := h.AddSecret(t.Context(), owner, c.ID, n); code(err) != grantway.Invalid {
				t.Errorf("%+v: %v", n, err)
			}
		}
		for err == nil {
			_, err = h.AddSecret(t.Context(), owner, c.ID, grantway.NewSecret{})
		}
		if code(err) != grantway.Conflict {
			t.Errorf("too many: %v", err)
		}
		if n := h.count(`SELECT count(*) FROM client_secret`); n != 10 {
			t.Errorf("%d secrets", n)
		}
		none := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "a.example"}))
		if _, err := h.AddSecret(t.Context(), owner, none.ID, grantway.NewSecret{}); code(err) != grantway.Conflict || none.Secret != "" {
			t.Errorf("a client without secrets: %v", err)
		}
		who := caller("application *")
		for name, err := range map[string]error{
			"add": errOf2(h.AddSecret(t.Context(), who, c.ID, grantway.NewSecret{})), "revoke": h.RevokeSecret(t.Context(), who, c.ID, "x"),
			"list": errOf2(h.Secrets(t.Context(), who, c.ID)), "tokens": h.RevokeTokens(t.Context(), who, c.ID),
		} {
			if code(err) != grantway.Forbidden {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func errOf2[T any](_ T, err error) error { return err }

// G-1 and its neighbours: every wrong setting is named.
func TestSettings(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		roles := assignments("application home")
		code := grantway.ClientSettings{GrantType: grantway.GrantAuthorizationCode, RedirectURIs: []string{"https://app.example/cb"}, Scopes: []string{"credential.use"}}
		with := func(s grantway.ClientSettings, change func(*grantway.ClientSettings)) grantway.OAuthClient {
			change(&s)
			return grantway.OAuthClient{ClientSettings: s}
		}
		set := func(s grantway.ClientSettings) grantway.OAuthClient {
			return grantway.OAuthClient{Roles: roles, ClientSettings: s}
		}
		for name, test := range map[string]struct {
			client grantway.OAuthClient
			wrong  string // pointers
		}{
			"nothing":               {set(grantway.ClientSettings{}), ""},
			"299 s":                 {set(grantway.ClientSettings{TokenSeconds: 299}), "/token_seconds"},
			"300 s":                 {set(grantway.ClientSettings{TokenSeconds: 300}), ""},
			"172800 s":              {set(grantway.ClientSettings{TokenSeconds: 172800}), ""},
			"172801 s":              {set(grantway.ClientSettings{TokenSeconds: 172801}), "/token_seconds"},
			"no role":               {grantway.OAuthClient{}, "/roles"},
			"redirect without code": {set(grantway.ClientSettings{RedirectURIs: []string{"https://a.example"}}), "/redirect_uris"},
			"scopes without code":   {set(grantway.ClientSettings{Scopes: []string{"credential.use"}}), "/scopes"},
			"code":                  {grantway.OAuthClient{ClientSettings: code}, ""},
			"code and roles":        {grantway.OAuthClient{Roles: roles, ClientSettings: code}, "/roles"},
			"code alone":            {settings(grantway.ClientSettings{GrantType: grantway.GrantAuthorizationCode}), "/redirect_uris /scopes"},
			"redirects": {with(code, func(s *grantway.ClientSettings) {
				s.RedirectURIs = []string{"http://127.0.0.1/cb", "http://a.example/cb", "/cb", "https://a.example/#x", "javascript:x", "com.example.app:/cb", "https://u:p@a.example/"}
			}), "/redirect_uris/1 /redirect_uris/2 /redirect_uris/3 /redirect_uris/4 /redirect_uris/6"},
			"scopes":               {with(code, func(s *grantway.ClientSettings) { s.Scopes = []string{"credential.use", "openid", "credential.use"} }), "/scopes/1 /scopes/2"},
			"public with code":     {with(code, func(s *grantway.ClientSettings) { s.AuthMethod = grantway.AuthNone }), ""},
			"public":               {set(grantway.ClientSettings{AuthMethod: grantway.AuthNone}), "/token_endpoint_auth_method"},
			"another grant":        {set(grantway.ClientSettings{GrantType: "password"}), "/grant_type"},
			"another method":       {set(grantway.ClientSettings{AuthMethod: "magic"}), "/token_endpoint_auth_method"},
			"either secret method": {set(grantway.ClientSettings{AuthMethod: grantway.AuthSecret}), "/token_endpoint_auth_method"},
			"networks":             {set(grantway.ClientSettings{AllowedNetworks: []string{"10.0.0.0/8", "10.0.0.0/40", "::1", "x"}}), "/allowed_networks/1 /allowed_networks/3"},
			"format":               {set(grantway.ClientSettings{TokenFormat: "paseto"}), "/token_format"},
			"alg of opaque":        {set(grantway.ClientSettings{TokenAlg: "ES256"}), "/token_signing_alg"},
			"alg":                  {set(grantway.ClientSettings{TokenFormat: "jwt", TokenAlg: "none"}), "/token_signing_alg"},
			"resources":            {set(grantway.ClientSettings{Resources: []string{"https://a.example", "a", "https://a.example#x"}}), "/resources/1 /resources/2"},
			"keys missing":         {set(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT}), "/jwks"},
			"keys not a set":       {set(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: []byte(`{}`)}), "/jwks"},
			"a secret key":         {set(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: []byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`)}), "/jwks"},
			"keys over http":       {set(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKSURI: "http://a.example/jwks"}), "/jwks_uri"},
			"keys of another":      {set(grantway.ClientSettings{JWKSURI: "https://a.example/jwks"}), "/jwks_uri"},
			"no name":              {set(grantway.ClientSettings{AuthMethod: grantway.AuthTLS}), "/token_endpoint_auth_method"},
			"two names":            {set(grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "a", TLSIP: "10.0.0.1"}), "/token_endpoint_auth_method"},
			"federation":           {set(grantway.ClientSettings{AuthMethod: grantway.AuthFederated, Federation: &grantway.Federation{Issuer: "http://a", Subject: "repo:*"}}), "/federation/issuer /federation/subject /federation/audience"},
			"no federation":        {set(grantway.ClientSettings{AuthMethod: grantway.AuthFederated}), "/federation"},
			"requests":             {set(grantway.ClientSettings{RequestsPerMinute: -1}), "/requests_per_minute"},
			"state":                {grantway.OAuthClient{Roles: roles, State: "asleep"}, "/state"},
			"advice":               {set(grantway.ClientSettings{Advice: &grantway.Advice{Answers: map[string]string{"user": "maybe"}}}), "/advice/answers"},
		} {
			test.client.Name = strings.ReplaceAll(name, " ", "-")
			_, err := h.CreateClient(t.Context(), owner, test.client)
			var wrong []string
			if e, ok := err.(*grantway.Error); ok {
				for _, f := range e.Fields {
					wrong = append(wrong, f.Pointer)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(wrong, " "); got != test.wrong {
				t.Errorf("%s: wrong are %q, want %q (%v)", name, got, test.wrong, err)
			}
		}
	})
}

// What is set is there again, also on a replica that reads it from the database, and an update
// replaces all of it.
func TestSettingsKept(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		all := grantway.ClientSettings{TokenSeconds: 600, TokenFormat: "jwt", TokenAlg: "ES256", RequestsPerMinute: 5, AllowedNetworks: []string{"10.1.2.3/8"},
			Resources: []string{"https://a.example"}, AuthMethod: grantway.AuthTLS, TLSDNS: "a.example", CertificateBound: true,
			Advice: &grantway.Advice{Answers: map[string]string{"user": "yes"}}}
		wait := b.heard()
		c := a.make(settings(all))
		all.GrantType, all.AllowedNetworks = "client_credentials", []string{"10.0.0.0/8"}
		all.Advice = &grantway.Advice{Answers: map[string]string{"user": "yes"}, Grant: "authorization_code", PKCE: true, Chosen: "client_credentials"}
		if diff := cmp.Diff(all, c.ClientSettings); diff != "" {
			t.Error(diff)
		}
		var got grantway.OAuthClient
		for got.ID == "" {
			var err error
			if got, err = b.Client(t.Context(), owner, c.ID); err != nil {
				wait(1)
			}
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Error(diff)
		}
		stale := c
		c, err := a.UpdateClient(t.Context(), owner, grantway.OAuthClient{ID: c.ID, Name: c.Name, Roles: c.Roles, Version: c.Version})
		ok(t, err)
		if c.TokenFormat != "opaque" || c.AuthMethod != "client_secret_basic" || c.AllowedNetworks != nil || c.State != "active" || c.Version != stale.Version+1 {
			t.Errorf("%+v", c)
		}
		if _, err := a.UpdateClient(t.Context(), owner, stale); code(err) != grantway.PreconditionFailed {
			t.Errorf("a stale update: %v", err)
		}
		c.State = grantway.ClientInactive
		c, err = a.UpdateClient(t.Context(), owner, c)
		ok(t, err)
		if c.State != grantway.ClientInactive {
			t.Errorf("%+v", c)
		}
		// G-4: a client for people acts in all divisions.
		_, err = a.CreateClient(t.Context(), caller("administrator home"), grantway.OAuthClient{Name: "cli", ClientSettings: grantway.ClientSettings{
			GrantType: grantway.GrantAuthorizationCode, RedirectURIs: []string{"http://127.0.0.1/"}, Scopes: []string{"credential.use"}}})
		if code(err) != grantway.Forbidden {
			t.Errorf("got %v", err)
		}
	})
}

// G-10: from elsewhere the client gets no token, and a token of it is of no use there.
func TestAllowedNetworks(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: format, AllowedNetworks: []string{"192.0.2.0/24", "2001:db8::/32"}}))
			from := func(addr string) edit {
				return func(r *http.Request) { r.Header.Set("Test-From", addr); r.Header.Set("Test-Proto", "https") }
			}
			token := ""
			for addr, want := range map[string]int{"192.0.2.9": 200, "::ffff:192.0.2.9": 200, "2001:db8::1": 200, "192.0.3.1": 401, "2001:db9::1": 401} {
				got := h.post(grantBody, basic(c.ID, c.Secret), from(addr))
				if got.status != want {
					t.Errorf("%s: %d %s", addr, got.status, got.body)
				}
				if want == 200 {
					token = got.token()
				}
			}
			if in, out := h.me("Bearer "+token, from("192.0.2.1")), h.me("Bearer "+token, from("192.0.3.1")); in.status != 200 || out.status != 401 {
				t.Errorf("at the API: %d inside, %d outside", in.status, out.status)
			}
		}
	})
}

// G-9: the 301st call in a minute on one token has to wait; other tokens do not notice.
func TestRequestsPerMinute(t *testing.T) {
	h := start(t, storetest.Open(t, storetest.SQLite(t)), newKey(t), func(o *issuer.Options) { o.RequestsPerMinute = 0 })
	c, slow := h.client("app", "application home"), h.make(settings(grantway.ClientSettings{RequestsPerMinute: 3}))
	token, other := h.token(c), h.token(c)
	for n := range 300 {
		if got := h.me("Bearer " + token); got.status != 200 {
			t.Fatalf("call %d: %d %s", n+1, got.status, got.body)
		}
	}
	if got := h.me("Bearer " + token); got.status != http.StatusTooManyRequests {
		t.Errorf("call 301: %d", got.status)
	}
	if got := h.me("Bearer " + other); got.status != 200 {
		t.Errorf("another token: %d", got.status)
	}
	token = h.token(slow)
	for n, want := range []int{200, 200, 200, 429} {
		if got := h.me("Bearer " + token); got.status != want {
			t.Errorf("call %d of 3: %d", n+1, got.status)
		}
	}
}

// Use is counted by client, and who did nothing is found.
func TestUsage(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		busy, failing, idle := h.client("busy", "application home"), h.client("failing", "application home"), h.client("idle", "application home")
		token := h.token(busy)
		for range 3 {
			h.me("Bearer " + token)
		}
		h.post(grantBody, basic(failing.ID, "x"))
		ok(t, h.RecordUsage(t.Context()))
		h.me("Bearer " + token)
		ok(t, h.RecordUsage(t.Context()))
		since := time.Now().Add(-time.Hour)
		all, err := h.Usage(t.Context(), owner, since, false)
		ok(t, err)
		if len(all) != 3 || all[0].Name != "busy" || all[0].Tokens != 1 || all[0].Calls != 4 || all[0].LastUsed.IsZero() || all[1].Failures != 1 || !all[2].LastUsed.IsZero() {
			t.Errorf("%+v", all)
		}
		unused, err := h.Usage(t.Context(), owner, since, true)
		ok(t, err)
		if len(unused) != 2 || unused[0].Client != failing.ID || unused[1].Client != idle.ID {
			t.Errorf("%+v", unused)
		}
		if all, err = h.Usage(t.Context(), owner, time.Now().Add(2*time.Hour), false); err != nil || all[0].Tokens != 0 || all[0].LastUsed.IsZero() {
			t.Errorf("later: %+v, %v", all, err)
		}
		if _, err := h.Usage(t.Context(), caller("application *"), since, false); code(err) != grantway.Forbidden {
			t.Errorf("got %v", err)
		}
	})
}

// G-2: the advisor.
func TestAdvise(t *testing.T) {
	for name, test := range map[string]struct {
		answers map[string]string
		grant   string
		pkce    bool
	}{
		"a backend":     {map[string]string{"user": "no", "data": "own"}, "client_credentials", false},
		"own mailbox":   {map[string]string{"user": "yes", "data": "user", "place": "browser"}, "authorization_code", true},
		"at night too":  {map[string]string{"user": "yes", "data": "user", "runs": "yes"}, "refresh_token", true},
		"SAML":          {map[string]string{"user": "yes", "saml": "yes"}, "saml2-bearer", false},
		"nothing known": {nil, "client_credentials", false},
	} {
		got, err := issuer.Advise(test.answers)
		if err != nil || got.Grant != test.grant || got.PKCE != test.pkce || len(got.For) < 2 || len(got.Against) == 0 || len(got.Request) < 2 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, _ := issuer.Advise(map[string]string{"user": "no"}); len(got.For) != 5 {
		t.Errorf("%d reasons for client credentials, want five", len(got.For))
	}
	for _, bad := range []map[string]string{{"user": "x"}, {"weather": "yes"}} {
		if _, err := issuer.Advise(bad); code(err) != grantway.Invalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
