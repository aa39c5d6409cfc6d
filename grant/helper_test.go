package grant_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

// start starts a provider on TLS, with the client "app", and a Client that trusts it.
func start(t *testing.T) (*grantwaytest.Provider, *grant.Client) {
	t.Helper()
	p := grantwaytest.NewTLSProvider(t)
	p.Register(grantwaytest.Client{ID: "app", Secret: appSecret})
	c := &grant.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.RootCAs()}}}
	t.Cleanup(c.CloseIdleConnections)
	return p, c
}

const appSecret = "the secret of the client app, long enough to key any MAC: 64 bytes"

// newRequest is what "app" asks p with.
func newRequest(p *grantwaytest.Provider) *grant.Request {
	return &grant.Request{TokenURL: p.Token.URL, ClientID: "app", Auth: grant.Basic{Secret: appSecret}}
}

// anyToken is the answer of a server that is content with everything.
var anyToken = grantwaytest.JSON(200, map[string]any{"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600})

// sent makes a token request that is edited first, and returns it as it arrived at a
// server that is content with everything.
func sent(t *testing.T, edit func(r *grant.Request)) *grantwaytest.Request {
	t.Helper()
	p, c := start(t)
	p.Token.Always(anyToken)
	r := newRequest(p)
	edit(r)
	if _, err := c.Token(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n := p.Token.Count(); n != 1 {
		t.Fatalf("%d requests", n)
	}
	return p.Token.Requests()[0]
}

// answered makes a token request, edited first, that is answered with reply.
func answered(t *testing.T, reply grantwaytest.Reply, edit func(r *grant.Request)) (*grant.Token, error) {
	t.Helper()
	p, c := start(t)
	p.Token.Always(reply)
	r := newRequest(p)
	if edit != nil {
		edit(r)
	}
	return c.Token(t.Context(), r)
}

// body is an answer of status 200 with a JSON body.
func body(s string) grantwaytest.Reply { return grantwaytest.Body(200, "application/json", s) }

// failed returns the *Error that err must be.
func failed(t *testing.T, err error) *grant.Error {
	t.Helper()
	e, ok := errors.AsType[*grant.Error](err)
	if !ok {
		t.Fatalf("got %v, want a *grant.Error", err)
	}
	return e
}

// refusedToSend checks that a request, edited first, fails before anything is sent, with
// an error that tells want.
func refusedToSend(t *testing.T, want string, edit func(r *grant.Request)) {
	t.Helper()
	p, c := start(t)
	r := newRequest(p)
	edit(r)
	_, err := c.Token(t.Context(), r)
	if e := failed(t, err); e.Stage != grant.StagePrepare || !strings.Contains(e.Error(), want) {
		t.Errorf("got %v at stage %s, want %q", err, e.Stage, want)
	}
	if p.Token.Count() != 0 {
		t.Error("a request was sent")
	}
}

// decodeJWT splits a JWT without verifying it.
func decodeJWT(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is not a JWT", token)
	}
	for i, into := range []*map[string]any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

type basicVector struct {
	ID     string `json:"client_id"`
	Secret string `json:"secret"`
	Header string `json:"header"`
}

// vectors are the examples of the RFCs, testdata/rfc-vectors.json.
type vectors struct {
	Basic1    basicVector `json:"rfc6749_2_3_1_basic"`
	Basic2    basicVector `json:"rfc6749_4_4_2_basic"`
	Basic3    basicVector `json:"appauth_337_basic"`
	AppendixB struct {
		Codepoints string `json:"codepoints"`
		Encoded    string `json:"encoded"`
	} `json:"rfc6749_appendix_B"`
	Thumbprint   string       `json:"rfc7638_3_1_thumbprint"`
	Proof        string       `json:"rfc9449_4_1_proof"`
	ProofWithATH string       `json:"rfc9449_7_1_proof_with_ath"`
	AccessToken  grant.Secret `json:"rfc9449_access_token"`
	ATH          string       `json:"rfc9449_ath"`
	JKT          string       `json:"rfc9449_jkt"`
	Certificate  struct {
		Thumbprint string `json:"x5t#S256"`
	} `json:"rfc8705_appendix_A"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	var v vectors
	b, err := os.ReadFile("testdata/rfc-vectors.json")
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// quiet is a log for servers whose clients fail on purpose.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
