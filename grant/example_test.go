package grant_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"golang.org/x/oauth2"

	"github.com/grantway/grantway/grant"
)

// provider is an authorization server with an API at /mail.
func provider() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if id, secret, ok := r.BasicAuth(); ok && (id != "reports" || secret != "s3cret") {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"error":"invalid_client","error_description":"unknown client or wrong secret"}`)
			return
		}
		io.WriteString(w, `{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"bearer","expires_in":3600,"scope":"mail.read"}`)
	})
	mux.HandleFunc("GET /mail", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer 2YotnFZFEjr1zCsicMWpAA" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, "3 new messages")
	})
	return httptest.NewTLSServer(mux)
}

func ExampleClient_Token() {
	server := provider()
	defer server.Close()
	client := &grant.Client{Transport: server.Client().Transport.(*http.Transport)} // trusts the server's certificate

	token, err := client.Token(context.Background(), &grant.Request{
		TokenURL: server.URL + "/token",
		ClientID: "reports",
		Auth:     grant.Basic{Secret: "s3cret"},
		Scope:    "mail.read",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token.Type, token.AccessToken, "for", token.Scope)
	fmt.Println("valid for", token.Lifetime())
	// Output:
	// Bearer [secret] for mail.read
	// valid for 1h0m0s
}

func ExampleError() {
	server := provider()
	defer server.Close()
	client := &grant.Client{Transport: server.Client().Transport.(*http.Transport)}

	_, err := client.Token(context.Background(), &grant.Request{
		TokenURL: server.URL + "/token",
		ClientID: "reports",
		Auth:     grant.Basic{Secret: "an old one"},
	})
	fmt.Println(err)
	if e, ok := errors.AsType[*grant.Error](err); ok && e.Class == grant.Permanent {
		fmt.Println("trying again is of no use")
	}
	// Output:
	// token request: invalid_client: unknown client or wrong secret (HTTP 401)
	// trying again is of no use
}

func ExamplePrivateKeyJWT() {
	server := provider()
	defer server.Close()
	client := &grant.Client{Transport: server.Client().Transport.(*http.Transport)}

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // yours is in a file
	if err != nil {
		fmt.Println(err)
		return
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := grant.ParseSigningKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		fmt.Println(err)
		return
	}
	key.KeyID = "2026-11"
	token, err := client.Token(context.Background(), &grant.Request{
		TokenURL: server.URL + "/token",
		ClientID: "reports",
		Auth:     grant.PrivateKeyJWT{Key: key, Audience: server.URL},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.Algorithm, token.Type)
	// Output: ES256 Bearer
}

func ExampleTransport() {
	server := provider()
	defer server.Close()
	base := server.Client().Transport.(*http.Transport)
	client := &grant.Client{Transport: base}
	request := &grant.Request{TokenURL: server.URL + "/token", ClientID: "reports", Auth: grant.Basic{Secret: "s3cret"}}

	// Source asks for a token each time; with package tokencache it keeps them.
	api := &http.Client{Transport: &grant.Transport{
		Source: func(ctx context.Context) (*grant.Token, error) { return client.Token(ctx, request) },
		Base:   base,
	}}
	resp, err := api.Get(server.URL + "/mail")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: 3 new messages <nil>
}

func ExampleTokenSource() {
	server := provider()
	defer server.Close()
	client := &grant.Client{Transport: server.Client().Transport.(*http.Transport)}
	request := &grant.Request{TokenURL: server.URL + "/token", ClientID: "reports", Auth: grant.Basic{Secret: "s3cret"}}

	tokens := oauth2.ReuseTokenSource(nil, grant.TokenSource(context.Background(), client, request))
	token, err := tokens.Token()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token.Type(), token.Valid(), time.Until(token.Expiry).Round(time.Minute))
	// Output: Bearer true 1h0m0s
}
