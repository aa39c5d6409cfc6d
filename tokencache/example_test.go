package tokencache_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/tokencache"
)

// A program that calls an API with several sets of permissions keeps one token for each.
func Example() {
	server, api := exampleServers()
	defer server.Close()
	defer api.Close()
	ctx := context.Background()

	var client grant.Client
	tokens := tokencache.New(tokencache.Options[string]{
		Fetch: func(ctx context.Context, scope string, _ tokencache.Want) (*grant.Token, error) {
			return client.Token(ctx, &grant.Request{
				TokenURL: server.URL + "/token",
				ClientID: "reports",
				Auth:     grant.Basic{Secret: "s3cret"},
				Scope:    scope,

				AllowPlainHTTP: true, // the server of this example is on this machine
			})
		},
	})
	defer tokens.Close(ctx)

	for range 3 {
		token, err := tokens.Token(ctx, "reports.read", time.Minute)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(token.Scope, time.Until(token.ExpiresAt).Round(time.Minute))
	}
	// Output:
	// token request for reports.read
	// reports.read 10m0s
	// reports.read 10m0s
	// reports.read 10m0s
}

// With grant.Transport requests are authorized on their way out; a token that the API
// refuses is dropped, and the request sent again with the next one.
func Example_transport() {
	server, api := exampleServers()
	defer server.Close()
	defer api.Close()
	ctx := context.Background()

	var client grant.Client
	tokens := tokencache.New(tokencache.Options[string]{
		Fetch: func(ctx context.Context, scope string, _ tokencache.Want) (*grant.Token, error) {
			return client.Token(ctx, &grant.Request{
				TokenURL:       server.URL + "/token",
				ClientID:       "reports",
				Auth:           grant.Basic{Secret: "s3cret"},
				Scope:          scope,
				AllowPlainHTTP: true,
			})
		},
	})
	defer tokens.Close(ctx)

	const scope = "reports.read"
	reports := &http.Client{Transport: &grant.Transport{
		Source: func(ctx context.Context) (*grant.Token, error) { return tokens.Token(ctx, scope, 0) },
		Drop:   func(fingerprint string) { tokens.Drop(scope, fingerprint) },
	}}
	resp, err := reports.Get(api.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// token request for reports.read
	// refused token-1
	// token request for reports.read
	// 200 OK
}

// exampleServers starts a token endpoint and an API that does not like its first token.
func exampleServers() (server, api *httptest.Server) {
	issued := 0
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		issued++
		fmt.Println("token request for", r.FormValue("scope"))
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":600}`, issued)
	}))
	api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer token-1" {
			fmt.Println("refused token-1")
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	return server, api
}
