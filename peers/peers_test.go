// Package peers_test runs package grant against authorization servers that nobody here
// wrote, in processes of their own: every client authentication method, bound and unbound
// tokens, opaque ones and JWTs, and what the servers say when something is wrong.
package peers_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/peers/peer"
)

// suite is one server and how it is asked.
type suite struct {
	server *peer.Server
	client *grant.Client

	// forAPI makes r ask for a JWT for peer.API.
	forAPI func(r *grant.Request)
	// legacyAudience is set for servers that take assertions for their token URL only.
	legacyAudience bool
}

func newSuite(t *testing.T, server *peer.Server) suite {
	t.Helper()
	client := &grant.Client{Transport: server.Transport()}
	t.Cleanup(client.CloseIdleConnections)
	return suite{server: server, client: client}
}

func TestOIDCProvider(t *testing.T) {
	s := newSuite(t, peer.OIDCProvider(t))
	s.forAPI = func(r *grant.Request) { r.Resource = []string{peer.API} }
	s.run(t, []string{
		"client_secret_basic", "client_secret_post", "client_secret_jwt",
		"private_key_jwt_ES256", "private_key_jwt_PS256", "private_key_jwt_RS256", "private_key_jwt_EdDSA",
		"tls_client_auth", "self_signed_tls_client_auth", "private_key_jwt_mtls",
		"dpop", "dpop_nonce",
		"awkward_basic", "awkward_post", "percent_basic", "percent_post",
	})

	t.Run("discovery", func(t *testing.T) {
		m, err := s.client.Discover(t.Context(), s.server.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"client_secret_basic", "tls_client_auth", "dpop"} {
			r := s.request(t, name)
			if got := m.TokenURL(r); got != r.TokenURL { // a certificate goes to the other door (RFC 8705 section 5)
				t.Errorf("%s: token endpoint = %s, want %s", name, got, r.TokenURL)
			}
			if warnings := m.Warnings(r); len(warnings) > 0 {
				t.Errorf("%s: warnings %q", name, warnings)
			}
		}
	})
	t.Run("wrong_certificate", func(t *testing.T) {
		r := s.request(t, "tls_client_auth")
		r.Certificate = s.server.Client(t, "self_signed_tls_client_auth").Certificate(t)
		s.refused(t, r, "invalid_client")
	})
	t.Run("certificate_at_the_wrong_door", func(t *testing.T) {
		r := s.request(t, "tls_client_auth")
		r.TokenURL = s.server.TokenURL // does not ask for a certificate
		s.refused(t, r, "invalid_client")
	})
	t.Run("proof_missing", func(t *testing.T) {
		r := s.request(t, "dpop")
		r.DPoP = nil
		s.refused(t, r, "invalid_grant")
	})
	t.Run("unknown_resource", func(t *testing.T) {
		r := s.request(t, "client_secret_basic")
		r.Resource = []string{"https://elsewhere.example.com/"}
		s.refused(t, r, "invalid_target")
	})
}

func TestFosite(t *testing.T) {
	s := newSuite(t, peer.Fosite(t))
	s.forAPI = func(r *grant.Request) { r.Audience = []string{peer.API} }
	s.legacyAudience = true
	s.run(t, []string{
		"client_secret_basic", "client_secret_post",
		"private_key_jwt_ES256", "private_key_jwt_PS256", "private_key_jwt_RS256",
		"awkward_basic", "awkward_post", "percent_basic", "percent_post",
	})

	t.Run("jwt_bearer", func(t *testing.T) {
		r := s.request(t, "jwt_bearer")
		key, err := grant.ParseSigningKey(s.server.Client(t, "jwt_bearer").Key)
		if err != nil {
			t.Fatal(err)
		}
		r.GrantType = grant.JWTBearer
		r.Assertion = grant.JWT{Key: key, Issuer: r.ClientID, Subject: r.ClientID, Audience: s.server.TokenURL}
		first, second := s.token(t, r), s.token(t, r) // a new assertion each: the server refuses replays
		if first.Fingerprint() == second.Fingerprint() {
			t.Error("two requests, one token")
		}
		if sub := s.server.Claims(t, string(first.AccessToken))["sub"]; sub != r.ClientID {
			t.Errorf("sub = %v, want %s", sub, r.ClientID)
		}
	})
	t.Run("grant_not_enabled", func(t *testing.T) {
		s.refused(t, s.request(t, "jwt_bearer"), "unauthorized_client")
	})
	t.Run("unknown_audience", func(t *testing.T) {
		r := s.request(t, "client_secret_basic")
		r.Audience = []string{"https://elsewhere.example.com/"}
		s.refused(t, r, "invalid_request")
	})
	t.Run("wrong_assertion_audience", func(t *testing.T) {
		modern := s
		modern.legacyAudience = false
		s.refused(t, modern.request(t, "private_key_jwt_ES256"), "invalid_client")
	})
}

// run is what every server has to pass: an opaque token and a JWT for each of the clients
// named, and the failures they have in common.
func (s suite) run(t *testing.T, names []string) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			r := s.request(t, name)
			s.check(t, r, s.token(t, r))
			s.forAPI(r)
			s.check(t, r, s.token(t, r))
		})
	}

	t.Run("no_scope", func(t *testing.T) {
		r := s.request(t, "client_secret_basic")
		r.Scope = ""
		s.check(t, r, s.token(t, r))
	})
	t.Run("several_scopes", func(t *testing.T) {
		r := s.request(t, "client_secret_basic")
		r.Scope = peer.ScopeWrite + " " + peer.ScopeRead
		s.check(t, r, s.token(t, r))
	})
	t.Run("short", func(t *testing.T) {
		token := s.token(t, s.request(t, "short"))
		if life := token.Lifetime(); life <= 0 || life > peer.ShortLifetime {
			t.Errorf("lifetime = %v, want at most %v", life, peer.ShortLifetime)
		}
	})
	t.Run("revoked", func(t *testing.T) {
		token := s.token(t, s.request(t, "client_secret_basic"))
		r := s.request(t, "client_secret_basic")
		if err := s.client.Revoke(t.Context(), s.server.RevokeURL, r, token.AccessToken); err != nil {
			t.Fatal(err)
		}
		if claims := s.server.Claims(t, string(token.AccessToken)); claims["active"] != false {
			t.Errorf("after revocation the server says %v", claims)
		}
	})

	t.Run("wrong_secret_basic", func(t *testing.T) {
		r := s.request(t, "client_secret_basic")
		r.Auth = grant.Basic{Secret: "wrong-secret-canary"}
		s.refused(t, r, "invalid_client")
	})
	t.Run("wrong_secret_post", func(t *testing.T) {
		r := s.request(t, "client_secret_post")
		r.Auth = grant.Post{Secret: "wrong-secret-canary"}
		s.refused(t, r, "invalid_client")
	})
	t.Run("wrong_method", func(t *testing.T) {
		r := s.request(t, "private_key_jwt_ES256")
		r.Auth = grant.Basic{Secret: "wrong-secret-canary"}
		s.refused(t, r, "invalid_client")
	})
	t.Run("wrong_key", func(t *testing.T) {
		r := s.request(t, "private_key_jwt_ES256")
		r.ClientID = "private_key_jwt_RS256"
		s.refused(t, r, "invalid_client")
	})
	t.Run("unknown_client", func(t *testing.T) {
		r := s.request(t, "client_secret_basic")
		r.ClientID = "nobody"
		s.refused(t, r, "invalid_client")
	})
	t.Run("unauthorized_scope", func(t *testing.T) {
		r := s.request(t, "client_secret_basic")
		r.Scope = peer.ScopeAdmin
		s.refused(t, r, "invalid_scope")
	})
	t.Run("raw_basic", func(t *testing.T) {
		// The switch of C06 is for other servers: these two do decode (RFC 6749 section 2.3.1).
		c := s.server.Client(t, "percent_basic")
		r := s.request(t, "percent_basic")
		r.Auth = grant.Basic{Secret: grant.Secret(c.Secret), Raw: true}
		s.failed(t, r)
	})
	t.Run("unknown_grant", func(t *testing.T) {
		r := s.request(t, "client_secret_basic")
		r.GrantType = "urn:example:nonsense"
		s.failed(t, r)
	})
	t.Run("untrusted_server", func(t *testing.T) {
		var failure *grant.Error
		_, err := new(grant.Client).Token(t.Context(), s.request(t, "client_secret_basic"))
		if !errors.As(err, &failure) || failure.Stage != grant.StageTLS || failure.Class != grant.Permanent {
			t.Errorf("error = %v, want a permanent one of the TLS handshake", err)
		}
	})
}

// request is a token request of the client of that name for an opaque token to read.
func (s suite) request(t *testing.T, name string) *grant.Request {
	t.Helper()
	c := s.server.Client(t, name)
	r := &grant.Request{
		TokenURL:    c.TokenURL,
		ClientID:    c.ID,
		Certificate: c.Certificate(t),
		Scope:       peer.ScopeRead,
	}
	switch secret := grant.Secret(c.Secret); c.Method {
	case "client_secret_basic":
		r.Auth = grant.Basic{Secret: secret}
	case "client_secret_post":
		r.Auth = grant.Post{Secret: secret}
	case "client_secret_jwt":
		r.Auth = grant.SecretJWT{Secret: secret, Audience: s.server.Issuer}
	case "private_key_jwt":
		key, err := grant.ParseSigningKey(c.Key)
		if err != nil {
			t.Fatal(err)
		}
		if s.legacyAudience {
			r.Auth = grant.PrivateKeyJWT{Key: key, TokenURLAudience: true}
		} else {
			r.Auth = grant.PrivateKeyJWT{Key: key, Audience: s.server.Issuer}
		}
	case "tls_client_auth", "self_signed_tls_client_auth":
		r.Auth = grant.TLS{}
	default:
		t.Fatalf("client %s authenticates by %s", name, c.Method)
	}
	if c.DPoP {
		key, err := grant.NewDPoPKey()
		if err != nil {
			t.Fatal(err)
		}
		r.DPoP = key
	}
	return r
}

func (s suite) token(t *testing.T, r *grant.Request) *grant.Token {
	t.Helper()
	token, err := s.client.Token(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// check compares what we made of the server's answer with the request, and with what the
// server itself says about the token.
func (s suite) check(t *testing.T, r *grant.Request, token *grant.Token) {
	t.Helper()
	wantType := "Bearer"
	if r.DPoP != nil {
		wantType = "DPoP"
	}
	if token.Type != wantType {
		t.Errorf("type = %q, want %q", token.Type, wantType)
	}
	if !sameScope(token.Scope, r.Scope) {
		t.Errorf("scope = %q, want %q", token.Scope, r.Scope)
	}
	if life := token.Lifetime(); life < peer.Lifetime-2*time.Second || life > peer.Lifetime {
		t.Errorf("lifetime = %v, want %v", life, peer.Lifetime)
	}
	if token.ExpirySource != "response" {
		t.Errorf("expiry source = %q, want response", token.ExpirySource)
	}

	said := s.server.Claims(t, string(token.AccessToken))
	asked := slices.Concat(r.Audience, r.Resource)
	if len(asked) == 0 {
		if said["active"] != true || said["client_id"] != r.ClientID {
			t.Errorf("introspection says %v, want an active token of %q", said, r.ClientID)
		}
	} else {
		if said["iss"] != s.server.Issuer || said["sub"] != r.ClientID {
			t.Errorf("the JWT is of %v for %v, want %s and %s", said["iss"], said["sub"], s.server.Issuer, r.ClientID)
		}
		if !slices.Equal(list(said["aud"]), asked) {
			t.Errorf("aud = %v, want %v", said["aud"], asked)
		}
		if token.Claims()["iss"] != said["iss"] {
			t.Errorf("decoded without verifying, iss = %v, want %v", token.Claims()["iss"], said["iss"])
		}
	}
	scope := slices.Concat(list(said["scope"]), list(said["scp"])) // fosite calls it scp
	if !sameScope(strings.Join(scope, " "), r.Scope) {
		t.Errorf("the server says scope %q, want %q", scope, r.Scope)
	}

	bound, _ := said["cnf"].(map[string]any)
	if r.DPoP != nil && bound["jkt"] != r.DPoP.Thumbprint() {
		t.Errorf("cnf = %v, want jkt %s", bound, r.DPoP.Thumbprint())
	}
	if r.Certificate != nil && bound["x5t#S256"] != thumbprint(r) {
		t.Errorf("cnf = %v, want x5t#S256 %s", bound, thumbprint(r))
	}
	if r.DPoP == nil && r.Certificate == nil && bound != nil {
		t.Errorf("cnf = %v of a token that is not bound", bound)
	}
}

// refused wants r to fail for good with this error code of the server.
func (s suite) refused(t *testing.T, r *grant.Request, code string) {
	t.Helper()
	if err := s.failed(t, r); err.Code != code {
		t.Errorf("error = %v, want %s", err, code)
	}
}

// failed wants r to be refused by the server for good, without the secret in what a
// person gets to read.
func (s suite) failed(t *testing.T, r *grant.Request) *grant.Error {
	t.Helper()
	_, err := s.client.Token(t.Context(), r)
	var failure *grant.Error
	if !errors.As(err, &failure) {
		t.Fatalf("error = %v, want a *grant.Error", err)
	}
	if failure.Class != grant.Permanent || failure.Stage != grant.StageResponse {
		t.Errorf("error = %v (%s, %s), want a %s one in the %s",
			err, failure.Class, failure.Stage, grant.Permanent, grant.StageResponse)
	}
	if failure.Status != 400 && failure.Status != 401 {
		t.Errorf("status = %d, want 400 or 401", failure.Status)
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("the error shows the secret: %v", err)
	}
	return failure
}

// thumbprint is the x5t#S256 of the certificate of r (RFC 8705 section 3.1).
func thumbprint(r *grant.Request) string {
	sum := sha256.Sum256(r.Certificate.Certificate[0])
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func sameScope(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// list is a claim that is a string, of one or more words, or a list of strings.
func list(claim any) []string {
	switch claim := claim.(type) {
	case string:
		return strings.Fields(claim)
	case []any:
		var words []string
		for _, word := range claim {
			s, _ := word.(string)
			words = append(words, s)
		}
		return words
	}
	return nil
}
