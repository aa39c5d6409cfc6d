package broker_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

// callBound calls the API of p with the token of a DPoP credential and a proof, as any
// program would with what the hub gives it.
func callBound(t testing.TB, hub *grantwaytest.Hub, p *grantwaytest.Provider, name string) {
	t.Helper()
	url := p.API.URL + "messages"
	got := token(t, hub, grantway.Ref{Credential: name, Proof: &grantway.ProofRequest{Method: "GET", URL: url}})
	if got.TokenType != "DPoP" || got.Proof == "" || got.Header.Value != "DPoP "+got.AccessToken {
		t.Fatalf("token %+v", got)
	}
	request, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(got.Header.Name, got.Header.Value)
	request.Header.Set("DPoP", got.Proof)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 {
		t.Errorf("the API answered %d, %s", response.StatusCode, response.Header.Get("WWW-Authenticate"))
	}
}

// TestDPoP gets a bound token with a key that the hub made and that nobody sees.
func TestDPoP(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", DPoP: true, JWT: true})
		c := create(t, hub, credential(p, "app", map[string]string{"dpop": "true"}))
		if !c.Inputs["dpop_key"].Set {
			t.Errorf("inputs %+v", c.Inputs)
		}
		r := validate(t, hub, "app")
		cnf, _ := r.Claims["cnf"].(map[string]any)
		if !r.OK || cnf["jkt"] == nil {
			t.Fatalf("report %s", asJSON(t, r))
		}
		callBound(t, hub, p, "app")
		callBound(t, hub, p, "app") // the same token, a new proof
		wantRequests(t, p, 1)

		// The key stays the same over changes, or tokens that are out there would be of no use.
		update(t, hub, c, map[string]string{"scopes": "a"})
		if again, _ := validate(t, hub, "app").Claims["cnf"].(map[string]any); again["jkt"] != cnf["jkt"] {
			t.Errorf("bound to %v, before to %v", again["jkt"], cnf["jkt"])
		}
		client := &http.Client{Transport: hub.Transport(grantway.Ref{Credential: "app"})}
		response, err := client.Get(p.API.URL + "messages")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Errorf("through Transport: %d", response.StatusCode)
		}

		create(t, hub, credential(p, "bearer", nil))
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		if e := noToken(t, hub, grantway.Ref{Credential: "bearer", Proof: &grantway.ProofRequest{Method: "GET", URL: p.API.URL}}, grantway.Invalid); e.Fields[0].Pointer != "/proof" {
			t.Errorf("a proof for a bearer token: %v", e)
		}
	})
}

// TestMutualTLS authenticates by a certificate, and by nothing else.
func TestMutualTLS(t *testing.T) {
	each(t, func(t *testing.T, database string) {
		p := grantwaytest.NewTLSProvider(t)
		hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database, RootCAs: p.RootCAs()})
		certificate, err := grantwaytest.NewClientCertificate()
		if err != nil {
			t.Fatal(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		p.Register(grantwaytest.Client{ID: "app", Method: grantwaytest.AuthTLS, Certificate: certificate.Leaf})
		c := create(t, hub, credential(p, "app", map[string]string{
			"client_secret": "", "auth_method": "self_signed_tls_client_auth",
			"client_certificate":     string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})),
			"client_certificate_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		}))
		if !c.Inputs["client_certificate_key"].Set || c.Inputs["client_certificate"].Text == "" {
			t.Errorf("inputs %+v", c.Inputs)
		}
		if r := validate(t, hub, "app"); !r.OK {
			t.Errorf("report %s", asJSON(t, r))
		}
		if err := hub.Invalidate(t.Context(), "app", ""); err != nil {
			t.Fatal(err)
		}
		token(t, hub, grantway.Ref{Credential: "app"})
		for _, r := range p.Token.Requests() {
			if !certificate.Leaf.Equal(r.Certificate) || string(r.Body) != "client_id=app&grant_type=client_credentials" || r.Header.Get("Authorization") != "" {
				t.Errorf("certificate %v, body %q", r.Certificate, r.Body)
			}
		}
	})
}

// verifier is an authorization server's side of RFC 7523: it takes an assertion signed by key,
// once, and issues a token for it.
type verifier struct {
	t         testing.TB
	key       any // public, or the secret
	parameter string
	want      jwt.Claims // issuer, subject and audience
	typ       string

	mu   sync.Mutex
	seen map[string]bool // jti
}

func (v *verifier) reply(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	if err := v.check(r); err != nil {
		v.t.Error(err)
		grantwaytest.OAuthError(401, "invalid_client", "no")(w, r, nil)
		return
	}
	grantwaytest.JSON(200, map[string]any{"access_token": fmt.Sprint("token", len(v.seen)), "token_type": "Bearer", "expires_in": 60})(w, r, nil)
}

func (v *verifier) check(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return err
	}
	assertion, err := jwt.ParseSigned(r.PostForm.Get(v.parameter), []jose.SignatureAlgorithm{jose.ES256, jose.HS256})
	if err != nil {
		return fmt.Errorf("%s: %w", v.parameter, err)
	}
	var claims jwt.Claims
	if err := assertion.Claims(v.key, &claims); err != nil {
		return err
	}
	if err := claims.Validate(jwt.Expected{Issuer: v.want.Issuer, Subject: v.want.Subject, AnyAudience: v.want.Audience, Time: time.Now()}); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case assertion.Headers[0].ExtraHeaders[jose.HeaderType] != v.typ:
		return fmt.Errorf("typ %v", assertion.Headers[0].ExtraHeaders[jose.HeaderType])
	case v.seen[claims.ID] || claims.ID == "":
		return fmt.Errorf("jti %q was used", claims.ID)
	case r.PostForm.Get("client_secret") != "" || r.Header.Get("Authorization") != "":
		return fmt.Errorf("a second method of authentication")
	}
	if v.seen == nil {
		v.seen = map[string]bool{}
	}
	v.seen[claims.ID] = true
	return nil
}

// TestAssertions proves a credential by a JWT, fresh at each try (C26, C28).
func TestAssertions(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		const secret = "a secret of at least thirty-two bytes"
		const issuer = "https://issuer.example.com"
		private := newKeyPEM(t)
		block, _ := pem.Decode(private)
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		public := parsed.(*ecdsa.PrivateKey).Public()
		for name, c := range map[string]struct {
			inputs map[string]string
			server *verifier
		}{
			"private_key_jwt": {
				map[string]string{"auth_method": "private_key_jwt", "client_secret": "", "signing_key": string(private), "assertion_audience": issuer},
				&verifier{key: public, parameter: "client_assertion", want: jwt.Claims{Issuer: "app", Subject: "app", Audience: jwt.Audience{issuer}}, typ: "client-authentication+jwt"},
			},
			"client_secret_jwt": {
				map[string]string{"auth_method": "client_secret_jwt", "client_secret": secret, "assertion_audience": issuer},
				&verifier{key: []byte(secret), parameter: "client_assertion", want: jwt.Claims{Issuer: "app", Subject: "app", Audience: jwt.Audience{issuer}}, typ: "client-authentication+jwt"},
			},
			"jwt-bearer": {
				map[string]string{"auth_method": "none", "client_secret": "", "grant_type": grant.JWTBearer, "signing_key": string(private),
					"assertion_issuer": "service@example.com", "assertion_subject": "someone@example.com", "assertion_audience": p.Token.URL},
				&verifier{key: public, parameter: "assertion", want: jwt.Claims{Issuer: "service@example.com", Subject: "someone@example.com", Audience: jwt.Audience{p.Token.URL}}, typ: "JWT"},
			},
		} {
			c.server.t = t
			p.Token.Always(c.server.reply)
			created := create(t, hub, credential(p, name, c.inputs))
			if key := created.Inputs["signing_key"]; key.Text != "" {
				t.Errorf("%s: the key is shown", name)
			}
			if r := validate(t, hub, name); !r.OK {
				t.Errorf("%s: %s", name, asJSON(t, r))
			}
			for range 3 {
				if err := hub.Invalidate(t.Context(), name, ""); err != nil {
					t.Fatal(err)
				}
				token(t, hub, grantway.Ref{Credential: name})
			}
			request := p.Token.Requests()[p.Token.Count()-1]
			if grantType := request.Form.Get("grant_type"); name == "jwt-bearer" && grantType != grant.JWTBearer || name != "jwt-bearer" && grantType != grant.ClientCredentials {
				t.Errorf("%s: grant_type %q", name, grantType)
			}
		}
	})
}
