package grant_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

// jwt is an unsigned JWT with the given claims.
func jwt(claims string) string {
	return "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
}

func TestC12_NotJSON(t *testing.T) {
	if r := sent(t, func(*grant.Request) {}); r.Header.Get("Accept") != "application/json" {
		t.Errorf("Accept %q", r.Header.Get("Accept"))
	}
	for _, c := range []struct {
		status  int
		kind    string
		body    string
		message string
	}{
		{200, "text/html; charset=utf-8", "<html><body>Please  sign\nin, " + appSecret + "</body></html>", "the answer is a web page, not JSON: <html><body>Please sign in, [secret]</body></html>"},
		{200, "application/json", `["a token"]`, `the answer is a JSON array, not an object: ["a token"]`},
		{200, "application/json", `"opaque-token"`, "the answer is JSON, but not an object: [secret]"},
		{200, "application/json", `null`, "the answer is JSON, but not an object: [secret]"},
		{200, "text/plain", "opaque-token", "the answer is not JSON: [secret]"},
		{200, "text/plain", `token=abc; password: "a b c" x`, "the answer is not JSON: token=[secret]; password: [secret] x"},
		{200, "application/json", `{"access_token":"half`, `the answer is not JSON: {"access_token":[secret]`},
		{200, "application/json", " ", "the answer is empty"},
		{204, "", "", "the answer is empty"},
		{502, "text/html", "<h1>Bad gateway</h1>", "the server answered Bad Gateway and a web page, not JSON: <h1>Bad gateway</h1>"},
		{404, "text/plain", "no\x00 such\u202e page\x1b[31m", "the server answered Not Found and not JSON: no such page [31m"},
		{400, "text/plain", "wrong " + url.QueryEscape(appSecret) + " and eyJhbGciOiJIUzI1NiJ9.eyJhbGciOiJIUzI1NiJ9.eyJhbGciOiJIUzI1NiJ9x", "wrong [secret] and [secret].[secret].[secret]"},
		{403, "application/json", `{"message":"trace 0f0e0d0c-0000-4000-8000-123456789abc"}`, "0f0e0d0c-0000-4000-8000-123456789abc"},
		{500, "text/plain", strings.Repeat("é ", 300), strings.Repeat("é ", 99) + "é…"},
		{599, "text/plain", "", "the server answered with an unknown status and empty"},
	} {
		_, err := answered(t, grantwaytest.Body(c.status, c.kind, c.body), nil)
		e := failed(t, err)
		if e.Stage != grant.StageResponse || e.Status != c.status || !strings.Contains(e.Message, c.message) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d %q:\n got %v\nwant %s", c.status, c.body, err, c.message)
		}
	}
}

func TestC13_TokenType(t *testing.T) {
	for _, c := range []struct {
		typ      string // the JSON of token_type, "" to leave it out
		optional bool
		want     string // "" for an error
	}{
		{`"Bearer"`, false, "Bearer"}, {`"bearer"`, false, "Bearer"}, {`"BEARER"`, true, "Bearer"},
		{``, false, ""}, {``, true, "Bearer"}, {`null`, true, "Bearer"},
		{`"mac"`, false, ""}, {`"mac"`, true, ""}, {`"N_A"`, false, ""}, {`"DPoP"`, false, ""},
	} {
		member := ""
		if c.typ != "" {
			member = `,"token_type":` + c.typ
		}
		token, err := answered(t, body(`{"access_token":"t"`+member+`}`), func(r *grant.Request) { r.TokenTypeOptional = c.optional })
		if c.want == "" {
			if e := failed(t, err); e.Class != grant.Permanent || token != nil {
				t.Errorf("%+v: got %v, %v", c, token, err)
			}
		} else if err != nil || token.Type != c.want || token.Authorization() != c.want+" t" {
			t.Errorf("%+v: got %v, %v", c, token, err)
		}
	}
	for _, c := range []struct{ body, message string }{
		{`{"token_type":"Bearer","Access_Token":"t","scope":"s"}`, "the answer has no access_token; it has: Access_Token, scope, token_type"},
		{`{}`, "the answer has no access_token; it has: nothing"},
		{`{"access_token":"","token_type":"Bearer"}`, "not a token"},
		{`{"access_token":17,"token_type":"Bearer"}`, "not a token"},
		{`{"access_token":"a\nb","token_type":"Bearer"}`, "not a token"},
		{`{"access_token":"é","token_type":"Bearer"}`, "not a token"},
	} {
		_, err := answered(t, body(c.body), nil)
		if e := failed(t, err); e.Class != grant.Permanent || !strings.Contains(e.Message, c.message) {
			t.Errorf("%s: got %v", c.body, err)
		}
	}
}

func TestC14_UnknownMembersAndLongTokens(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	token, err := answered(t, body(`{"x":{"y":[1]},"access_token":"`+long+`","token_type":"Bearer","access_token_":1}`), nil)
	if err != nil || string(token.AccessToken) != long {
		t.Error(err)
	}
}

func TestTokenKey(t *testing.T) {
	for _, c := range []struct{ key, body, scope string }{
		{"jwt", `{"jwt":"t","expires_in":60}`, ""},
		{"data.token", `{"data":{"token":"t","expires_in":"60","scope":"a b"}}`, "a b"},
		{"data.token", `{"data.token":"t","expires_in":60}`, ""},
		{"a.b.c", `{"a":{"b.c":"t"},"expires_in":60}`, ""},
		{"a.b.c", `{"a":1,"a.b":{"c":"t","token_type":"bearer"},"expires_in":60}`, ""},
	} {
		token, err := answered(t, body(c.body), func(r *grant.Request) { r.TokenKey = c.key })
		if err != nil || token.AccessToken != "t" || token.Type != "Bearer" || token.Lifetime() != time.Minute || token.Scope != c.scope {
			t.Errorf("%s of %s: %+v, %v", c.key, c.body, token, err)
		}
	}
	_, err := answered(t, body(`{"data":{"other":"canary"}}`), func(r *grant.Request) { r.TokenKey = "data.token" })
	if e := failed(t, err); e.Message != "the answer has no data.token; it has: data" {
		t.Error(err)
	}
}

func TestC15_Expiry(t *testing.T) {
	hour := time.Now().Add(time.Hour).Truncate(time.Second)
	unix := hour.Unix()
	for _, c := range []struct {
		members string
		token   string        // "t" when empty
		life    time.Duration // 0 for an ExpiresAt of hour
		source  string
	}{
		{members: `"expires_in":3600`, life: time.Hour, source: "response"},
		{members: `"expires_in":"3600"`, life: time.Hour, source: "response"},
		{members: `"expires_in":" 3600 "`, life: time.Hour, source: "response"},
		{members: `"expires_in":3600.5`, life: time.Hour + 500*time.Millisecond, source: "response"},
		{members: `"expires_in":3.6e3`, life: time.Hour, source: "response"},
		{members: `"expires_in":1e12`, life: grant.MaxLifetime, source: "response"},
		{members: `"expires_in":1e400`, life: grant.MaxLifetime, source: "response"},
		{members: `"expires_in":"99999999999999999999999"`, life: grant.MaxLifetime, source: "response"},
		{members: `"expires_in":60,"ext_expires_in":7200,"expires":9`, life: time.Minute, source: "response"},
		{members: `"ext_expires_in":7200`, life: grant.DefaultLifetime, source: "default"},
		{members: `"expires_in":null`, life: grant.DefaultLifetime, source: "default"},
		{members: `"expires_in":"soon"`, life: grant.DefaultLifetime, source: "default"},
		{members: `"expires_in":"NaN"`, life: grant.DefaultLifetime, source: "default"},
		{members: `"expires_in":{}`, life: grant.DefaultLifetime, source: "default"},
		{members: `"expires":60`, life: time.Minute, source: "response"},
		{members: fmt.Sprintf(`"expires":%d`, unix), source: "response"},
		{members: fmt.Sprintf(`"expires_on":"%d"`, unix), source: "response"},
		{members: fmt.Sprintf(`"expires_at":%d000`, unix), source: "response"},
		{members: fmt.Sprintf(`"expires_at":%q`, hour.Format(time.RFC3339)), source: "response"},
		{members: fmt.Sprintf(`"expires":%q`, hour.UTC().Format(http.TimeFormat)), source: "response"},
		{members: `"x":1`, token: jwt(fmt.Sprintf(`{"exp":%d}`, unix)), source: "jwt"},
		{members: `"expires_in":60`, token: jwt(fmt.Sprintf(`{"exp":%d}`, unix)), life: time.Minute, source: "response"},
		{members: `"x":1`, token: jwt(`{"exp":"x"}`), life: grant.DefaultLifetime, source: "default"},
		{members: `"x":1`, token: "a.b.c", life: grant.DefaultLifetime, source: "default"},
		{members: `"x":1`, life: grant.DefaultLifetime, source: "default"},
	} {
		if c.token == "" {
			c.token = "t"
		}
		token, err := answered(t, body(`{"access_token":"`+c.token+`","token_type":"Bearer",`+c.members+`}`), nil)
		if err != nil {
			t.Errorf("%s: %v", c.members, err)
			continue
		}
		right := token.Lifetime() == c.life
		if c.life == 0 {
			right = token.ExpiresAt.Sub(hour).Abs() < 5*time.Millisecond
		}
		if !right || token.ExpirySource != c.source {
			t.Errorf("%s: %v, until %v, from %s", c.members, token.Lifetime(), token.ExpiresAt, token.ExpirySource)
		}
	}
	token, err := answered(t, body(`{"access_token":"t","token_type":"Bearer"}`), func(r *grant.Request) { r.DefaultLifetime = 7 * time.Minute })
	if err != nil || token.Lifetime() != 7*time.Minute || token.ExpirySource != "default" {
		t.Errorf("%+v, %v", token, err)
	}

	// A lifetime that is over is never handed out.
	for member, name := range map[string]string{
		`"expires_in":0`: "expires_in", `"expires_in":-1`: "expires_in", `"expires_in":"0"`: "expires_in", `"expires_in":1e-9`: "expires_in",
		`"expires_at":1500000000`: "expires_at", `"expires_on":"2001-01-01T00:00:00Z"`: "expires_on",
	} {
		_, err := answered(t, body(`{"access_token":"t","token_type":"Bearer",`+member+`}`), nil)
		if e := failed(t, err); e.Class != grant.Temporary || !strings.Contains(e.Message, "by "+name+" its lifetime is") {
			t.Errorf("%s: %s %v", member, e.Class, err)
		}
	}
	_, err = answered(t, body(`{"access_token":"`+jwt(`{"exp":1500000000}`)+`","token_type":"Bearer"}`), nil)
	if e := failed(t, err); e.Class != grant.Temporary {
		t.Errorf("%s %v", e.Class, err)
	}
}

func TestC16_GrantedScope(t *testing.T) {
	for _, c := range []struct{ member, want string }{
		{"", "a b"}, {`,"scope":"b"`, "b"}, {`,"scope":" b  A "`, "b A"}, {`,"scope":["x","y"]`, "x y"}, {`,"scope":null`, "a b"},
		{`,"scope":""`, ""}, {`,"scope":7`, "a b"},
	} {
		token, err := answered(t, body(`{"access_token":"t","token_type":"Bearer"`+c.member+`}`), func(r *grant.Request) { r.Scope = "a  b" })
		if err != nil || token.Scope != c.want {
			t.Errorf("%s: %+v, %v", c.member, token, err)
		}
	}
}

func TestC17_MissingScopes(t *testing.T) {
	for _, c := range []struct {
		token grant.Token
		want  []string
	}{
		{grant.Token{AccessToken: "opaque", Scope: "a b c"}, nil},
		{grant.Token{AccessToken: "opaque", Scope: "b"}, []string{"a", "c"}},
		{grant.Token{AccessToken: grant.Secret(jwt(`{"scope":"c a"}`)), Scope: "a b c"}, []string{"b"}},
		{grant.Token{AccessToken: grant.Secret(jwt(`{"scp":["c","b"]}`)), Scope: "a b c"}, []string{"a"}},
		{grant.Token{AccessToken: grant.Secret(jwt(`{"roles":["x"]}`)), Scope: "a b c"}, nil},
	} {
		if d := cmp.Diff(c.want, grant.MissingScopes("a b  c", &c.token)); d != "" {
			t.Error(d)
		}
	}
}

func TestC18_RefreshTokenIgnored(t *testing.T) {
	p, c := start(t)
	p.Token.Always(body(`{"access_token":"t","token_type":"Bearer","refresh_token":"canary","expires_in":1}`))
	for range 2 {
		if _, err := c.Token(t.Context(), newRequest(p)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range p.Token.Requests() {
		if r.Form.Get("grant_type") != "client_credentials" || strings.Contains(string(r.Body), "canary") {
			t.Errorf("sent %s", r.Body)
		}
	}
}

func TestC19_ErrorReplies(t *testing.T) {
	const reply = `{"error":"invalid_client","error_description":"unknown\r\nclient \u001b[31m%s","error_uri":"https://as.example/e?x=1","access_token":"canary"}`
	for _, status := range []int{400, 401, 403, 200, 500} {
		_, err := answered(t, grantwaytest.Body(status, "application/json", fmt.Sprintf(reply, appSecret)), nil)
		e := failed(t, err)
		want := grant.Error{Stage: grant.StageResponse, Class: grant.Permanent, Status: status, Code: "invalid_client",
			Description: "unknown client [31m[secret]", URI: "https://as.example/e?x=1"}
		if got := *e; got.Class != want.Class || got.Stage != want.Stage || got.Code != want.Code || got.Description != want.Description || got.URI != want.URI || got.Status != status {
			t.Errorf("got %+v", got)
		}
	}
	for _, c := range []struct{ body, code, text string }{
		{`{"error":{"code":"denied","message":"no"}}`, "denied", "denied: no"},
		{`{"error":{"message":"just no"}}`, "", "just no"},
		{`{"error":"x","error_uri":"javascript:alert(1)"}`, "x", "x (HTTP 400)"},
		{`{"error":"x","error_description":"` + strings.Repeat("a ", 4000) + `"}`, "x", "a…"},
		{`{"error":true}`, "", `{"error":true}`},
		{`{"message":"bad"}`, "", `{"message":"bad"}`},
	} {
		_, err := answered(t, grantwaytest.Body(400, "application/json", c.body), nil)
		if e := failed(t, err); e.Code != c.code || !strings.Contains(err.Error(), c.text) || strings.Contains(e.URI, "javascript") || len(err.Error()) > 700 {
			t.Errorf("%s: %q %v", c.body, e.Code, err)
		}
	}
}

func TestC20_ErrorIn200(t *testing.T) {
	_, err := answered(t, body(`{"access_token":"canary","token_type":"Bearer","error":"invalid_scope"}`), nil)
	if e := failed(t, err); e.Code != "invalid_scope" || e.Class != grant.Permanent || e.Status != 200 || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
	for _, none := range []string{`""`, `null`, `false`, `0`, `{}`, `[]`} {
		if _, err := answered(t, body(`{"access_token":"t","token_type":"Bearer","error":`+none+`}`), nil); err != nil {
			t.Errorf("error %s: %v", none, err)
		}
	}
}

func TestC21_Permanent(t *testing.T) {
	for _, code := range []string{"invalid_client", "unauthorized_client", "invalid_scope", "invalid_target", "invalid_grant", "invalid_request", "unsupported_grant_type", "access_denied"} {
		for _, status := range []int{400, 401} {
			p, c := start(t)
			p.Token.Always(grantwaytest.OAuthError(status, code, ""))
			_, err := c.Token(t.Context(), newRequest(p))
			if e := failed(t, err); e.Class != grant.Permanent || e.Code != code || p.Token.Count() != 1 {
				t.Errorf("%d %s: %s, %d requests", status, code, e.Class, p.Token.Count())
			}
		}
	}
	for _, code := range []string{"temporarily_unavailable", "server_error"} {
		_, err := answered(t, grantwaytest.OAuthError(400, code, ""), nil)
		if e := failed(t, err); e.Class != grant.Temporary {
			t.Errorf("%s: %s", code, e.Class)
		}
	}
}

func TestC22_RetryAfter(t *testing.T) {
	date := time.Now().Add(10 * time.Minute).UTC().Truncate(time.Second)
	for _, c := range []struct {
		status int
		header string
		class  grant.Class
		after  time.Duration // 0 for no RetryAt, -1 for date
	}{
		{429, "90", grant.Throttled, 90 * time.Second},
		{429, date.Format(http.TimeFormat), grant.Throttled, -1},
		{429, date.Format(time.RFC850), grant.Throttled, -1},
		{429, "", grant.Throttled, 0},
		{429, "soon", grant.Throttled, 0},
		{429, "-1", grant.Throttled, 0},
		{429, "999999999999", grant.Throttled, 24 * time.Hour},
		{503, "30", grant.Throttled, 30 * time.Second},
		{503, "", grant.Temporary, 0},
		{500, "", grant.Temporary, 0},
		{502, "30", grant.Temporary, 30 * time.Second},
		{408, "", grant.Temporary, 0},
	} {
		earliest := time.Now().Add(c.after)
		_, err := answered(t, grantwaytest.RetryAfter(c.status, c.header), nil)
		latest := time.Now().Add(c.after)
		switch c.after {
		case 0:
			earliest, latest = time.Time{}, time.Time{}
		case -1:
			earliest, latest = date, date
		}
		if e := failed(t, err); e.Class != c.class || e.RetryAt.Before(earliest) || e.RetryAt.After(latest) {
			t.Errorf("%d %q: %s, %v", c.status, c.header, e.Class, e.RetryAt)
		}
	}
}

func TestClaims(t *testing.T) {
	for token, want := range map[string]int{
		jwt(`{"a":1,"b":2}`): 2, "opaque": 0, "a.b": 0, "a.!.c": 0, "a.bnVsbA.c": 0, "a.b.c.d.e": 0, "": 0,
	} {
		if got := (&grant.Token{AccessToken: grant.Secret(token)}).Claims(); len(got) != want {
			t.Errorf("%s: %v", token, got)
		}
	}
}
