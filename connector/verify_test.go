package connector_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/beevik/etree"
	"github.com/dghubble/oauth1"
	"github.com/google/go-cmp/cmp"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/grantway/grantway/connector"
)

func readTestdata(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parseRSA(t *testing.T, text string) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

type fixedNonce string

func (n fixedNonce) Nonce() string { return string(n) }

// capture is a transport that keeps the request.
type capture struct{ header http.Header }

func (c *capture) RoundTrip(req *http.Request) (*http.Response, error) {
	c.header = req.Header
	return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
}

// TestOAuth1Base has the example of RFC 5849 section 3.4.1.1, with a parameter that comes twice.
func TestOAuth1Base(t *testing.T) {
	req := request(t, "POST", "http://EXAMPLE.COM:80/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got, err := connector.OAuth1Base(req, []byte("c2&a3=2+q"), map[string]string{"oauth_consumer_key": "9djdj82h48djs9d2", "oauth_token": "kkk9d7dh3k39sjv7",
		"oauth_signature_method": "HMAC-SHA1", "oauth_timestamp": "137131201", "oauth_nonce": "7d8f3e4a"})
	want := "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D%26c2%3D%26" +
		"oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestOAuth1 compares with another implementation of RFC 5849.
func TestOAuth1(t *testing.T) {
	key := readTestdata(t, "rsa.pem")
	for method, signer := range map[string]oauth1.Signer{
		"HMAC-SHA1":   &oauth1.HMACSigner{ConsumerSecret: "s&cret"},
		"HMAC-SHA256": &oauth1.HMAC256Signer{ConsumerSecret: "s&cret"},
		"RSA-SHA1":    &oauth1.RSASigner{PrivateKey: parseRSA(t, key)},
	} {
		d := parse(t, "name: a\ntitle: x\ninputs: [{key: secret, type: secret}, {key: token_secret, type: secret}, {key: key, type: secret}]\napply:\n  sign:\n    oauth1: {consumer_key: 'a key', consumer_secret: '{{secret}}', token: t+k, token_secret: '{{token_secret}}', key: '{{key}}', realm: R, method: "+method+"}\n")
		p, err := plan(t, d, map[string]string{"secret": "s&cret", "token_secret": "t/s", "key": key})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ method, url, body string }{
			{"GET", "https://api.example.com/1/x", ""},
			{"GET", "https://API.example.com/a%20b?b5=%3D%253D&c%40=&a2=r%20b&a3=2+q", ""},
			{"POST", "https://api.example.com:8443/request?b5=%3D%253D&c%40=&a2=r%20b", "c2&a3=2+q&%C3%BC=%E2%82%AC"},
		} {
			synctest.Test(t, func(t *testing.T) { // time stands still
				make := func() *http.Request {
					req, err := http.NewRequest(c.method, c.url, strings.NewReader(c.body))
					if err != nil {
						t.Fatal(err)
					}
					if c.body != "" {
						req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					}
					return req
				}
				ours := make()
				if err := p.Apply(ours, nil); err != nil {
					t.Fatal(err)
				}
				nonce := regexp.MustCompile(`oauth_nonce="(\w+)"`).FindStringSubmatch(ours.Header.Get("Authorization"))[1]
				config := oauth1.Config{ConsumerKey: "a key", ConsumerSecret: "s&cret", Realm: "R", Signer: signer, Noncer: fixedNonce(nonce)}
				var theirs capture
				ctx := context.WithValue(t.Context(), oauth1.HTTPClient, &http.Client{Transport: &theirs})
				if _, err := config.Client(ctx, oauth1.NewToken("t+k", "t/s")).Do(make()); err != nil {
					t.Fatal(err)
				}
				order := func(header string) map[string]string {
					m := map[string]string{}
					for part := range strings.SplitSeq(strings.TrimPrefix(header, "OAuth "), ", ") {
						name, value, _ := strings.Cut(part, "=")
						m[name] = value
					}
					return m
				}
				if diff := cmp.Diff(order(theirs.header.Get("Authorization")), order(ours.Header.Get("Authorization"))); diff != "" {
					t.Errorf("%s %s (-theirs +ours):\n%s", method, c.url, diff)
				}
			})
		}
	}
}

// TestSAML has a signed assertion checked by another implementation of XML Signature.
func TestSAML(t *testing.T) {
	certificate := readTestdata(t, "rsa-certificate.pem")
	d := parse(t, `name: a
title: x
inputs: [{key: key, type: secret}, {key: certificate, type: pem}, {key: user}]
signers:
  - name: assertion
    saml: {key: '{{key}}', certificate: '{{certificate}}', issuer: 'https://issuer.example.com/?a=1&b=<2>', subject: '{{user}}', audience: https://sp.example.com, recipient: https://sp.example.com/token, attributes: {api_key: '{{user}}'}}
request:
  url: https://sp.example.com/token
  body: {form: {grant_type: 'urn:ietf:params:oauth:grant-type:saml2-bearer', assertion: '{{assertion}}'}}
`)
	user := "a&b <c> \"d\" 'e' ü]]>"
	p, err := plan(t, d, map[string]string{"key": readTestdata(t, "rsa.pem"), "certificate": certificate, "user": user})
	if err != nil {
		t.Fatal(err)
	}
	s := &sender{body: tokenAnswer}
	if _, err := p.Token(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(s.sent)
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.RawURLEncoding.DecodeString(form.Get("assertion"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(certificate))
	trusted, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	validate := func(text string) (*etree.Element, error) {
		doc := etree.NewDocument()
		if err := doc.ReadFromString(text); err != nil {
			t.Fatal(err)
		}
		return dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{trusted}}).Validate(doc.Root())
	}
	signed, err := validate(string(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if got := signed.FindElement("./Subject/NameID").Text(); got != user {
		t.Errorf("subject %q", got)
	}
	if got := signed.FindElement("./AttributeStatement/Attribute[@Name='api_key']/AttributeValue").Text(); got != user {
		t.Errorf("attribute %q", got)
	}
	if _, err := validate(strings.Replace(string(text), "https://sp.example.com/token", "https://sp.example.com/other", 1)); err == nil {
		t.Error("a changed assertion is valid, too")
	}
}
