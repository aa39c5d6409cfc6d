package grantwaytest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

func ExampleProvider() {
	// In a test, NewProvider(t) starts a provider that closes itself.
	p, err := grantwaytest.StartProvider(grantwaytest.ProviderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
	p.Token.Next(grantwaytest.OAuthError(401, "invalid_client", "no such client"))

	client := &grant.Client{}
	defer client.CloseIdleConnections()
	request := &grant.Request{
		TokenURL:       p.Token.URL,
		AllowPlainHTTP: true,
		ClientID:       "app",
		Auth:           grant.Basic{Secret: "s3cret"},
		Scope:          "read",
	}
	_, err = client.Token(context.Background(), request)
	fmt.Println(err)

	token, err := client.Token(context.Background(), request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Type, token.Lifetime(), token.Scope)
	fmt.Println(p.Token.Count(), "requests, the last with", p.Token.Requests()[1].Form.Encode())
	// Output:
	// token request: invalid_client: no such client (HTTP 401)
	// Bearer 1h0m0s read
	// 2 requests, the last with grant_type=client_credentials&scope=read
}
