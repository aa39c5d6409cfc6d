package issuer_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
)

// people: the authorization code grant, refresh tokens, and what comes from them.

const redirect = "https://app.example/cb?x=1"

// forPeople makes a client that acts for people.
func (h *hub) forPeople(change func(*grantway.ClientSettings)) grantway.OAuthClient {
	s := grantway.ClientSettings{GrantType: grantway.GrantAuthorizationCode, RedirectURIs: []string{redirect}, Scopes: []string{"credential.use", "credential.pick"}}
	if change != nil {
		change(&s)
	}
	return h.make(settings(s))
}

// authorizing is the query of an authorization request that is good, with changes; "" leaves one out.
func authorizing(c grantway.OAuthClient, verifier string, pairs ...string) string {
	q := url.Values{"response_type": {"code"}, "client_id": {c.ID}, "redirect_uri": {redirect}, "state": {"s&1"},
		"code_challenge": {sha256Of(verifier)}, "code_challenge_method": {"S256"}}
	for n := 0; n < len(pairs); n += 2 {
		if q.Set(pairs[n], pairs[n+1]); pairs[n+1] == "" {
			q.Del(pairs[n])
		}
	}
	return q.Encode()
}

func as(who access.Caller) edit {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "person", Value: who.ID}) }
}

// ask sends an authorization request, answer says yes or no to it.
func (h *hub) ask(query string, edits ...edit) reply {
	return h.send("GET", "/oauth/authorize?"+query, "", edits...)
}

func (h *hub) answer(query, answer string, edits ...edit) reply {
	return h.send("POST", "/oauth/authorize", url.Values{"query": {query}, "answer": {answer}}.Encode(), edits...)
}

// back is where an answer sends the browser.
func (r reply) back(t *testing.T) url.Values {
	t.Helper()
	to, err := url.Parse(r.header.Get("Location"))
	if err != nil || r.status != http.StatusSeeOther || !strings.HasPrefix(to.String(), "https://app.example/cb?") || to.Query().Get("x") != "1" {
		t.Fatalf("%d, Location %q: %s", r.status, r.header.Get("Location"), r.body)
	}
	return to.Query()
}

// code gets a code for who, who allows it.
func (h *hub) code(t *testing.T, c grantway.OAuthClient, who access.Caller, verifier string, pairs ...string) string {
	t.Helper()
	q := h.answer(authorizing(c, verifier, pairs...), "allow", as(who)).back(t)
	if q.Get("code") == "" || q.Get("state") != "s&1" || q.Get("iss") != h.server.URL {
		t.Fatalf("%v", q)
	}
	return q.Get("code")
}

func exchanging(code, verifier string) string {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier}}.Encode()
}

func TestAuthorizationCode(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		ann := h.join("ann", "administrator home")
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.forPeople(func(s *grantway.ClientSettings) { s.TokenFormat = format })
			verifier := rand.Text() + rand.Text()
			query := authorizing(c, verifier)

			if got := h.ask(query); got.status != http.StatusSeeOther || !strings.HasPrefix(got.header.Get("Location"), "/sign-in?to=%2Foauth%2Fauthorize%3F") {
				t.Errorf("not signed in: %d %q", got.status, got.header.Get("Location"))
			}
			page := h.ask(query, as(ann))
			if page.status != 200 || !strings.Contains(page.body, c.Name) || !strings.Contains(page.body, "credential.use") || !strings.Contains(page.body, "https://app.example") {
				t.Errorf("%d %s %v", page.status, page.body, page.header)
			}
			if q := h.answer(query, "deny", as(ann)).back(t); q.Get("error") != "access_denied" || q.Get("state") != "s&1" {
				t.Errorf("denied: %v", q)
			}
			if got := h.answer(query, "allow", as(ann), header("Sec-Fetch-Site", "cross-site")); got.status != 403 {
				t.Errorf("from another site: %d", got.status)
			}

			code := h.code(t, c, ann, verifier)
			got := h.post(exchanging(code, verifier), basic(c.ID, c.Secret))
			got.want(t, 200, "")
			refresh, _ := got.json["refresh_token"].(string)
			if got.json["scope"] != "credential.pick credential.use" || refresh == "" || got.json["id_token"] != nil {
				t.Errorf("%s", got.body)
			}
			if me := h.me("Bearer " + got.token()); me.status != 200 || me.body != ann.ID { // the person, not the client
				t.Errorf("%d %s", me.status, me.body)
			}
			if about := h.introspect(c, got.token()); about["sub"] != ann.ID || about["username"] != "ann" || about["client_id"] != c.ID {
				t.Errorf("%v", about)
			}
			// Allowed once: the next time the person is not asked.
			h.ask(query, as(ann)).back(t)
			if page := h.ask(authorizing(c, verifier, "prompt", "consent"), as(ann)); page.status != 200 {
				t.Errorf("prompt=consent: %d", page.status)
			}

			// Within the roles of the person as they are now.
			h.mu.Lock()
			h.people[ann.ID] = access.Caller{ID: ann.ID, Name: "ann", Kind: access.Person, Roles: assignments("designer home")}
			h.mu.Unlock()
			if me := h.me("Bearer " + got.token()); me.status != 403 {
				t.Errorf("fewer roles: %d", me.status)
			}
			h.mu.Lock()
			delete(h.people, ann.ID)
			h.mu.Unlock()
			if me := h.me("Bearer " + got.token()); me.status != 401 {
				t.Errorf("deactivated: %d", me.status)
			}
			h.mu.Lock()
			h.people[ann.ID] = ann
			h.mu.Unlock()

			// A code that comes twice ends what it gave (RFC 6749 section 4.1.2).
			h.post(exchanging(code, verifier), basic(c.ID, c.Secret)).want(t, 400, "invalid_grant")
			if me := h.me("Bearer " + got.token()); me.status != 401 {
				t.Errorf("after the code came twice: %d", me.status)
			}
			h.post("grant_type=refresh_token&refresh_token="+refresh, basic(c.ID, c.Secret)).want(t, 400, "invalid_grant")
			h.post(grantBody, basic(c.ID, c.Secret)).want(t, 400, "unauthorized_client")
		}
	})
}

// What is wrong with an authorization request: the client hears of it only when the redirect URI is
// its own.
func TestAuthorizationRequest(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		ann := h.join("ann", "owner *")
		c, off := h.forPeople(nil), h.forPeople(nil)
		ok(t, h.SetActive(t.Context(), owner, off.ID, false))
		native := h.forPeople(func(s *grantway.ClientSettings) {
			s.RedirectURIs, s.AuthMethod = []string{"http://127.0.0.1/cb"}, grantway.AuthNone
		})
		machine := h.client("machine", "application home")
		verifier := rand.Text() + rand.Text()
		for name, test := range map[string]struct {
			c    grantway.OAuthClient
			with []string
			want string // error; "page" for none of the client's business
		}{
			"no client":             {grantway.OAuthClient{}, nil, "page"},
			"inactive client":       {off, nil, "page"},
			"client without people": {machine, nil, "page"},
			"another redirect":      {c, []string{"redirect_uri", redirect + "&y=2"}, "page"},
			"a longer path":         {c, []string{"redirect_uri", "https://app.example/cb/../x"}, "page"},
			"no response type":      {c, []string{"response_type", ""}, "invalid_request"},
			"implicit":              {c, []string{"response_type", "token"}, "unsupported_response_type"},
			"no PKCE":               {c, []string{"code_challenge", ""}, "invalid_request"},
			"plain PKCE":            {c, []string{"code_challenge_method", "plain"}, "invalid_request"},
			"a foreign scope":       {c, []string{"scope", "key.rotate"}, "invalid_scope"},
			"a foreign resource":    {c, []string{"resource", "https://x.example"}, "invalid_target"},
		} {
			got := h.ask(authorizing(test.c, verifier, test.with...), as(ann))
			if test.want == "page" {
				if got.status != 400 || got.header.Get("Location") != "" {
					t.Errorf("%s: %d, Location %q", name, got.status, got.header.Get("Location"))
				}
				continue
			}
			if q := got.back(t); q.Get("error") != test.want || q.Get("state") != "s&1" || q.Get("iss") != h.server.URL {
				t.Errorf("%s: %v", name, q)
			}
		}
		if got := h.ask(authorizing(c, verifier)+"&state=2", as(ann)); got.status != 400 { // twice
			t.Errorf("a parameter twice: %d", got.status)
		}
		// A program on somebody's machine listens on a free port, and is asked about each time.
		for _, port := range []string{"", ":49152"} {
			for range 2 {
				query := authorizing(native, verifier, "redirect_uri", "http://127.0.0.1"+port+"/cb")
				if got := h.ask(query, as(ann)); got.status != 200 {
					t.Errorf("port %q: %d", port, got.status)
				}
				if got := h.answer(query, "allow", as(ann)); !strings.HasPrefix(got.header.Get("Location"), "http://127.0.0.1"+port+"/cb?") {
					t.Errorf("Location %q", got.header.Get("Location"))
				}
			}
		}
		for _, bad := range []string{"http://127.0.0.1:1/other", "https://127.0.0.1/cb", "http://127.0.0.2/cb", "http://localhost/cb", "http://127.0.0.1@evil.example/cb"} {
			if got := h.ask(authorizing(native, verifier, "redirect_uri", bad), as(ann)); got.status != 400 {
				t.Errorf("%s: %d", bad, got.status)
			}
		}
	})
}

// RFC 7636, RFC 6749 section 4.1.3: a code is for one client, one redirect URI, one verifier, once.
func TestCodeExchange(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		ann := h.join("ann", "owner *")
		c, other := h.forPeople(nil), h.forPeople(nil)
		verifier := rand.Text() + rand.Text()
		try := func(as grantway.OAuthClient, change func(url.Values)) reply {
			q := url.Values{"grant_type": {"authorization_code"}, "code": {h.code(t, c, ann, verifier)}, "redirect_uri": {redirect}, "code_verifier": {verifier}}
			change(q)
			return h.post(q.Encode(), basic(as.ID, as.Secret))
		}
		try(c, func(url.Values) {}).want(t, 200, "")
		try(other, func(url.Values) {}).want(t, 400, "invalid_grant")
		try(c, func(q url.Values) { q.Set("code_verifier", strings.Repeat("x", 50)) }).want(t, 400, "invalid_grant")
		try(c, func(q url.Values) { q.Del("code_verifier") }).want(t, 400, "invalid_grant")
		try(c, func(q url.Values) { q.Set("redirect_uri", "https://app.example/cb") }).want(t, 400, "invalid_grant")
		try(c, func(q url.Values) { q.Set("code", issuer.Forge()) }).want(t, 400, "invalid_grant")
		try(c, func(q url.Values) { q.Del("code") }).want(t, 400, "invalid_request")
		code := h.code(t, c, ann, verifier)
		h.run(`UPDATE authorization_code SET expires_at = 1`)
		h.post(exchanging(code, verifier), basic(c.ID, c.Secret)).want(t, 400, "invalid_grant")

		// RFC 9449 section 10: a code that is bound to a key.
		k, wrong := newKeyPair(jose.ES256, ""), newKeyPair(jose.ES256, "")
		nonce := h.nonce(h.client("for-nonces", "application home"), k)
		code = h.code(t, c, ann, verifier, "dpop_jkt", k.thumbprint())
		h.post(exchanging(code, verifier), basic(c.ID, c.Secret), header("DPoP", h.proof(wrong, "POST", "/oauth/token", nonce, ""))).want(t, 400, "invalid_grant")
		code = h.code(t, c, ann, verifier, "dpop_jkt", k.thumbprint())
		h.post(exchanging(code, verifier), basic(c.ID, c.Secret), header("DPoP", h.proof(k, "POST", "/oauth/token", nonce, ""))).want(t, 200, "")
	})
}

// RFC 9700 section 4.14.2: each refresh token is good once; one that comes again ends all of its family,
// on every replica.
func TestRefresh(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		b.URL = a.URL
		ann := a.join("ann", "owner *")
		b.people[ann.ID] = ann
		public := func(s *grantway.ClientSettings) { s.AuthMethod = grantway.AuthNone }
		for _, change := range []func(*grantway.ClientSettings){nil, public} {
			c := a.forPeople(change)
			verifier := rand.Text() + rand.Text()
			send := func(h *hub, body string) reply {
				if c.Secret == "" {
					return h.post(body + "&client_id=" + c.ID)
				}
				return h.post(body, basic(c.ID, c.Secret))
			}
			first := send(a, exchanging(a.code(t, c, ann, verifier), verifier))
			first.want(t, 200, "")
			use := func(h *hub, r reply, more string) reply {
				return send(h, "grant_type=refresh_token&refresh_token="+r.json["refresh_token"].(string)+more)
			}
			use(a, first, "&scope=key.rotate").want(t, 400, "invalid_scope") // does not use it up
			second := use(a, first, "&scope=credential.use")
			second.want(t, 200, "")
			if second.json["scope"] != "credential.use" || second.json["refresh_token"] == first.json["refresh_token"] {
				t.Errorf("%s", second.body)
			}
			third := use(b, second, "")
			third.want(t, 200, "")
			if third.json["scope"] != "credential.pick credential.use" {
				t.Errorf("%s", third.body)
			}
			if me := b.me("Bearer " + third.token()); me.status != 200 || me.body != ann.ID {
				t.Fatalf("%d %s", me.status, me.body)
			}
			wait := b.heardOf("token")
			use(a, first, "").want(t, 400, "invalid_grant") // again: two have it
			use(a, third, "").want(t, 400, "invalid_grant")
			for b.me("Bearer "+third.token()).status != 401 {
				wait(1)
			}
			other := a.forPeople(nil)
			fresh := send(a, exchanging(a.code(t, c, ann, verifier), verifier))
			a.post("grant_type=refresh_token&refresh_token="+fresh.json["refresh_token"].(string), basic(other.ID, other.Secret)).want(t, 400, "invalid_grant")
			// RFC 7009: revoking a refresh token ends its access tokens.
			body := "token=" + fresh.json["refresh_token"].(string)
			auth := basic(c.ID, c.Secret)
			if c.Secret == "" {
				body, auth = body+"&client_id="+c.ID, func(*http.Request) {}
			}
			if got := a.send("POST", "/oauth/revoke", body, auth); got.status != 200 {
				t.Errorf("%d %s", got.status, got.body)
			}
			if me := a.me("Bearer " + fresh.token()); me.status != 401 {
				t.Errorf("after the refresh token was revoked: %d", me.status)
			}
			use(a, fresh, "").want(t, 400, "invalid_grant")
		}
		machine := a.client("machine", "application home")
		a.post("grant_type=refresh_token&refresh_token=x", basic(machine.ID, machine.Secret)).want(t, 400, "unauthorized_client")
	})
}

// A token of a client never acts as a person; R09.
func TestR09ClientIsNobody(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "owner *")
		r := newRequest("")
		r.Header.Set("Authorization", "Bearer "+h.token(c))
		who, err := h.Authenticate(r)
		ok(t, err)
		if who.Kind != access.Client || who.ID != c.ID {
			t.Errorf("%+v", who)
		}
		a, err := h.Authorization(authorizing(h.forPeople(nil), rand.Text()+rand.Text()))
		ok(t, err)
		if _, err := h.Allow(context.Background(), who, a); code(err) != grantway.Forbidden {
			t.Errorf("a client allowed: %v", err)
		}
	})
}

// RFC 8693: a token of the hub for a token of a credential.
func TestTokenExchange(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		const kind = "urn:ietf:params:oauth:token-type:access_token"
		c, other, designer := h.client("app", "application home"), h.client("other", "application home"), h.client("designer", "designer home")
		body := func(token string, pairs ...string) string {
			q := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {token}, "subject_token_type": {kind}, "audience": {"sales"}, "scope": {"mail.read"}}
			for n := 0; n < len(pairs); n += 2 {
				if q.Set(pairs[n], pairs[n+1]); pairs[n+1] == "" {
					q.Del(pairs[n])
				}
			}
			return q.Encode()
		}
		got := h.post(body(h.token(c)), basic(c.ID, c.Secret))
		got.want(t, 200, "")
		if got.token() != "of-the-provider" || got.json["issued_token_type"] != kind || got.json["token_type"] != "Bearer" || got.json["scope"] != "mail.read" || got.json["expires_in"].(float64) < 3500 {
			t.Errorf("%s", got.body)
		}
		h.post(body(h.token(other)), basic(c.ID, c.Secret)).want(t, 400, "invalid_grant") // not its own
		h.post(body(issuer.Forge()), basic(c.ID, c.Secret)).want(t, 400, "invalid_grant")
		h.post(body(h.token(c), "audience", "unknown"), basic(c.ID, c.Secret)).want(t, 400, "invalid_target")
		h.post(body(h.token(designer)), basic(designer.ID, designer.Secret)).want(t, 400, "invalid_target")
		for _, missing := range []string{"subject_token", "subject_token_type", "audience"} {
			h.post(body(h.token(c), missing, ""), basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
		}
		h.post(body(h.token(c), "actor_token", "x"), basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
		h.post(body(h.token(c), "requested_token_type", "urn:ietf:params:oauth:token-type:jwt"), basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
		narrow := h.post(grantBody+"&scope=credential.pick", basic(c.ID, c.Secret)).token()
		h.post(body(narrow), basic(c.ID, c.Secret)).want(t, 400, "invalid_target")
	})
}

// TestTakeBack: a person takes back what it has allowed, and everything that came of it ends, here and on the
// other replica.
func TestTakeBack(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		b.URL = a.URL
		wait := b.heardOf("token")
		ann := a.join("ann", "administrator home")
		b.mu.Lock()
		b.people[ann.ID] = ann
		b.mu.Unlock()
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := a.forPeople(func(s *grantway.ClientSettings) { s.TokenFormat = format })
			other := a.forPeople(nil)
			verifier := rand.Text() + rand.Text()
			got := a.post(exchanging(a.code(t, c, ann, verifier), verifier), basic(c.ID, c.Secret))
			got.want(t, 200, "")
			kept := a.post(exchanging(a.code(t, other, ann, verifier), verifier), basic(other.ID, other.Secret))
			unused := a.code(t, c, ann, verifier)
			if me := b.me("Bearer " + got.token()); me.status != 200 {
				t.Fatalf("the other replica: HTTP %d %s", me.status, me.body)
			}

			all, err := a.Consents(t.Context(), ann)
			if err != nil || !slices.ContainsFunc(all, func(one issuer.Consented) bool {
				return one.Client == c.ID && slices.Equal(one.Scopes, []string{"credential.pick", "credential.use"}) && !one.At.IsZero()
			}) {
				t.Errorf("%v %+v", err, all)
			}
			if err := a.TakeBack(t.Context(), ann, c.ID); err != nil {
				t.Fatal(err)
			}
			if me := a.me("Bearer " + got.token()); me.status != 401 {
				t.Errorf("%s: the token is good for HTTP %d", format, me.status)
			}
			wait(1)
			if me := b.me("Bearer " + got.token()); me.status != 401 {
				t.Errorf("%s: the token is good on the other replica, for HTTP %d", format, me.status)
			}
			refresh := got.json["refresh_token"].(string)
			a.post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}.Encode(), basic(c.ID, c.Secret)).want(t, 400, "invalid_grant")
			a.post(exchanging(unused, verifier), basic(c.ID, c.Secret)).want(t, 400, "invalid_grant")
			if page := a.ask(authorizing(c, verifier), as(ann)); page.status != 200 {
				t.Errorf("not asked again: HTTP %d", page.status)
			}
			if me := a.me("Bearer " + kept.token()); me.status != 200 {
				t.Errorf("another program's token: HTTP %d", me.status)
			}
			if err := a.TakeBack(t.Context(), ann, c.ID); err == nil {
				t.Error("taken back twice")
			}
		}
	})
}
