package peers_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/peers/peer"
)

// mailResource is what the tokens of mail programs are for.
const mailResource = "https://mail.example.com"

// TestDovecot signs in to Debian's Dovecot with our tokens.
func TestDovecot(t *testing.T) {
	hub := grantwaytest.Start(t, grantwaytest.HubOptions{})
	mail := grantway.ClientSettings{Resources: []string{mailResource}}
	server := register(t, hub, "dovecot", mail) // may ask about tokens for this resource
	opaque := register(t, hub, "opaque", mail)
	mail.TokenFormat = grantway.FormatJWT
	signed := register(t, hub, "signed", mail)

	t.Run("introspection", func(t *testing.T) {
		imap := peer.Dovecot(t, func(string) string {
			at, _ := url.Parse(hub.URL + "/oauth/introspect")
			at.User = url.UserPassword(server.ID, server.Secret)
			return fmt.Sprintf("introspection_url = %s\nintrospection_mode = post\nusername_attribute = sub\nactive_attribute = active\nactive_value = true\n", at)
		})
		plain := register(t, hub, "plain-too", grantway.ClientSettings{Resources: []string{mailResource}, TokenFormat: grantway.FormatJWT, TokenTyp: grantway.TypJWT})
		for _, c := range []oauthClient{opaque, signed, plain} {
			good := mailToken(t, hub, c)
			for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
				if !imap.SignIn(mechanism, c.ID, good) {
					t.Errorf("%s: a good token is refused", mechanism)
				}
				if imap.SignIn(mechanism, server.ID, good) {
					t.Errorf("%s: the token of another is taken", mechanism)
				}
				if imap.SignIn(mechanism, c.ID, good[:len(good)-8]+"AAAAAAAA") {
					t.Errorf("%s: a wrong token is taken", mechanism)
				}
			}
			post(t, hub, "/oauth/revoke", c, url.Values{"token": {good}})
			if imap.SignIn("XOAUTH2", c.ID, good) {
				t.Error("a revoked token is taken")
			}
		}
	})

	// Dovecot 2.3 wants typ JWT in the header, where RFC 9068 section 2.1 has at+jwt: a client may say so.
	t.Run("JWT", func(t *testing.T) {
		plain := register(t, hub, "plain", grantway.ClientSettings{Resources: []string{mailResource}, TokenFormat: grantway.FormatJWT, TokenTyp: grantway.TypJWT})
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		theirs := jose.JSONWebKey{Key: key, KeyID: "test", Algorithm: "ES256"}
		imap := peer.Dovecot(t, func(dir string) string {
			writeKeys(t, dir, append(hubKeys(t, hub), theirs.Public()))
			return fmt.Sprintf("introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix=%s/keys/\nissuers = %s\nusername_attribute = sub\n", dir, hub.URL)
		})
		good := mailToken(t, hub, plain)
		for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
			if !imap.SignIn(mechanism, plain.ID, good) {
				t.Errorf("%s: a good token is refused: %s", mechanism, imap.Log())
			}
			if imap.SignIn(mechanism, server.ID, good) {
				t.Errorf("%s: the token of another is taken", mechanism)
			}
			if imap.SignIn(mechanism, plain.ID, good[:len(good)-8]+"AAAAAAAA") {
				t.Errorf("%s: a wrong signature is taken", mechanism)
			}
		}
		if imap.SignIn("OAUTHBEARER", signed.ID, mailToken(t, hub, signed)) {
			t.Error("a token with typ at+jwt is taken: Dovecot has learned it, and docs/oauth-server.md has a limit less")
		}
		// A key that Dovecot knows, and another issuer.
		claims, err := jose.ParseSignedCompact(good, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: theirs}, (&jose.SignerOptions{}).WithType("JWT"))
		if err != nil {
			t.Fatal(err)
		}
		object, err := signer.Sign(bytes.ReplaceAll(claims.UnsafePayloadWithoutVerification(), []byte(hub.URL), []byte("https://other.example")))
		if err != nil {
			t.Fatal(err)
		}
		other, err := object.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		if imap.SignIn("OAUTHBEARER", plain.ID, other) {
			t.Error("another issuer is believed")
		}
	})
}

// mailToken is a token of c for the mail server.
func mailToken(t *testing.T, hub *grantwaytest.Hub, c oauthClient) string {
	t.Helper()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(post(t, hub, "/oauth/token", c, url.Values{"grant_type": {"client_credentials"}, "resource": {mailResource}}), &answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("no token: %v", err)
	}
	return answer.AccessToken
}

// post sends a form as c, and returns the answer, which must be a success.
func post(t *testing.T, hub *grantwaytest.Hub, path string, c oauthClient, form url.Values) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", hub.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(c.ID, c.Secret)
	return answerTo(t, r)
}

// hubKeys are the keys that the hub signs JWTs with.
func hubKeys(t *testing.T, hub *grantwaytest.Hub) []jose.JSONWebKey {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", hub.URL+"/oauth/jwks", nil)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(answerTo(t, r), &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

// writeKeys writes keys as Dovecot looks for them: in PEM, by algorithm and id.
func writeKeys(t *testing.T, dir string, keys []jose.JSONWebKey) {
	t.Helper()
	for _, key := range keys {
		der, err := x509.MarshalPKIXPublicKey(key.Key)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "keys", "default", key.Algorithm, key.KeyID)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// answerTo is the body of the answer to r, which must be a success.
func answerTo(t *testing.T, r *http.Request) []byte {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s answers HTTP %d: %s %v", r.URL.Path, resp.StatusCode, text, err)
	}
	return text
}
