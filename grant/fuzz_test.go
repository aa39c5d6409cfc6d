package grant_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/grantway/grantway/grant"
)

// FuzzTokenResponse: whatever an answer says, the outcome is either a usable token or a
// printable error without secrets.
func FuzzTokenResponse(f *testing.F) {
	const secret = "canary+of/the fuzz test"
	for _, body := range []string{
		`{"access_token":"t","token_type":"Bearer","expires_in":3600,"scope":"a b"}`,
		`{"access_token":"t","token_type":"DPoP","expires_at":"2030-01-01T00:00:00Z"}`,
		`{"data":{"token":"t"},"expires_on":"1e308","token_type":"x"}`,
		`{"access_token":"` + jwt(`{"exp":-1e400}`) + `","token_type":"Bearer"}`,
		`{"error":{"code":"c","message":"` + secret + `"},"error_uri":"http://x"}`,
		`{"error":"invalid_client","error_description":"` + url.QueryEscape(secret) + `\u0000"}`,
		`[{"access_token":"t"}]`, "<html>" + secret, "\xef\xbb\xbf{}", "\xff\x00", `"t"`, "",
	} {
		f.Add(200, "120", "application/json", []byte(body), "data.token")
		f.Add(401, "", "text/html", []byte(body), "")
	}
	f.Fuzz(func(t *testing.T, status int, retry, kind string, body []byte, key string) {
		header := http.Header{"Retry-After": {retry}, "Content-Type": {kind}, "Location": {kind}}
		token, err := grant.ParseAnswer(status, header, body, &grant.Request{TokenKey: key, Scope: "a"}, secret)
		now := time.Now()
		if err == nil {
			value := string(token.AccessToken)
			if status < 200 || status > 299 || value == "" || strings.ContainsAny(value, "\r\n\x00") || token.Type != "Bearer" ||
				token.Lifetime() <= 0 || token.Lifetime() > grant.MaxLifetime || token.ExpirySource == "" || token.IssuedAt.After(now) {
				t.Errorf("token %+v", token)
			}
			if strings.ContainsFunc(token.Scope, unicode.IsControl) {
				t.Errorf("scope %q", token.Scope)
			}
			token.Claims()
			grant.MissingScopes("a b", token)
			return
		}
		e := failed(t, err)
		if token != nil || e.Stage != grant.StageResponse || e.Status != status || e.Class == "" || e.Code == "" && e.Message == "" {
			t.Errorf("token %v, error %+v", token, e)
		}
		if e.RetryAt.After(now.Add(25 * time.Hour)) {
			t.Errorf("retry at %v", e.RetryAt)
		}
		for _, text := range []string{err.Error(), e.Code, e.Description, e.URI, e.Message} {
			if strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret)) || len([]rune(text)) > 800 ||
				strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("%q", text)
			}
		}
	})
}

func FuzzScope(f *testing.F) {
	for _, s := range []string{"", " ", "a", " a  B ", "https://x.example/.default", "a\tb", `"`, "é", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tokens, err := grant.ParseScope(s)
		normal, err2 := grant.NormalizeScope(s)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%v, %v", err, err2)
		}
		if err != nil {
			return
		}
		again, err := grant.NormalizeScope(normal)
		if err != nil || again != normal || normal != strings.Join(tokens, " ") ||
			strings.ReplaceAll(normal, " ", "") != strings.ReplaceAll(s, " ", "") {
			t.Errorf("%q: %q, %q, %v", s, normal, again, err)
		}
		for _, token := range tokens {
			if token == "" || strings.ContainsFunc(token, func(c rune) bool {
				return c != 0x21 && (c < 0x23 || c > 0x5b) && (c < 0x5d || c > 0x7e)
			}) {
				t.Errorf("%q: token %q", s, token)
			}
		}
	})
}

func FuzzTokenURL(f *testing.F) {
	for _, s := range []string{
		"https://as.example/token", "http://127.0.0.1:80/t?a=b", "http://[::1]/", "https://u:p@h/#f", "https:///x", "//h", "http://localhost.evil/",
		"https://h:99999/", "https://h/\n", "https://[::ffff:127.0.0.1]/", "HTTP://LOCALHOST", "https://h/%2e%2e/?client_secret=x", "http://127.1/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := grant.CheckTokenURL(s)
		r := &grant.Request{TokenURL: s, AllowPlainHTTP: true}
		if err != nil {
			if r.Check() == nil {
				t.Error("Check accepts what CheckTokenURL does not")
			}
			return
		}
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || strings.Contains(s, "#") || strings.ContainsFunc(s, unicode.IsControl) {
			t.Fatalf("%q was accepted: %v", s, err)
		}
		if host := u.Hostname(); u.Scheme != "https" && !(u.Scheme == "http" && (strings.EqualFold(host, "localhost") || strings.Contains(host, "127.") || strings.HasSuffix(host, ":1") || strings.Contains(host, ":7f"))) {
			t.Errorf("%q was accepted", s)
		}
		if r.Check() == nil {
			if _, err := r.Build(t.Context()); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}
