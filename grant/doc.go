// Package grant asks OAuth 2.0 token endpoints for access tokens, machine to machine: the
// client credentials grant (RFC 6749 section 4.4), the jwt-bearer grant (RFC 7523 section
// 2.1) and any other grant that is one request.
//
// A [Request] says where and how to ask: the endpoint, the scope, and how the client
// authenticates, which is one of the implementations of [Authenticator]. A [Client] sends
// it and returns a [Token] that knows when it expires, or an [Error] that knows whether
// trying again makes sense:
//
//	var client grant.Client
//	token, err := client.Token(ctx, &grant.Request{
//		TokenURL: "https://login.example.com/oauth2/token",
//		ClientID: "reports",
//		Auth:     grant.Basic{Secret: grant.Secret(os.Getenv("REPORTS_SECRET"))},
//		Scope:    "reports.read",
//	})
//
// A [Transport] puts tokens onto requests, and [TokenSource] fits golang.org/x/oauth2.
// This package keeps no tokens: package tokencache does.
//
// Nothing here prints a secret. Keys, secrets and tokens print as "[secret]", and what a
// server says is cleaned of what was sent to it before it becomes part of an error.
package grant
