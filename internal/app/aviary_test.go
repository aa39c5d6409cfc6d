package app_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway/grantwaytest"
)

// aviary is a hub, the canaries in it, and all that was heard of it.
type aviary struct {
	t             *testing.T
	database      string
	data, secrets string // directories

	hub           *grantwaytest.Hub
	provider, tls *grantwaytest.Provider
	token         string   // of the hub, for call
	names         []string // of the credentials
	log           syncBuffer

	certificate                         *tls.Certificate
	certificateKey, signingKey, dpopKey string
	canaries                            []canary
	transcript                          []utterance
}

// canary is a value that nobody must see, but in the places that begin or end with one of allowed.
type canary struct {
	name, value string
	allowed     []string
}

// utterance is something that a hub said, and where.
type utterance struct {
	where string // such as "GET /v1/credentials"
	text  []byte
}

func (a *aviary) canary(name, value string, allowed ...string) {
	a.t.Helper()
	if len(value) < 16 {
		a.t.Fatalf("%s: %d bytes are found by accident", name, len(value))
	}
	a.canaries = append(a.canaries, canary{name, value, allowed})
}

// value is that of the canary with this name.
func (a *aviary) value(name string) string {
	a.t.Helper()
	for _, c := range a.canaries {
		if c.name == name {
			return c.value
		}
	}
	a.t.Fatalf("no canary %s", name)
	return ""
}

// newSecret plants text that every encoding writes differently, and that does not look like a token.
func (a *aviary) newSecret(name string) {
	a.canary(name, fmt.Sprintf(`Kanari/"é"+&%%<%s`, strings.ToLower(rand.Text()[:18])))
}

// newKey plants the secret number of a new private key, and returns the key in PEM.
func (a *aviary) newKey(name string) string {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.plantKey(name, key)
}

func (a *aviary) plantKey(name string, key *ecdsa.PrivateKey) string {
	a.t.Helper()
	number, err := key.Bytes()
	if err != nil {
		a.t.Fatal(err)
	}
	a.canary(name, string(number))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (a *aviary) newJWK(name string) string {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.plantKey(name, key)
	text, err := json.Marshal(jose.JSONWebKey{Key: key})
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

func (a *aviary) newCertificate(name string) (*tls.Certificate, string) {
	a.t.Helper()
	certificate, err := grantwaytest.NewClientCertificate()
	if err != nil {
		a.t.Fatal(err)
	}
	return certificate, a.plantKey(name, certificate.PrivateKey.(*ecdsa.PrivateKey))
}

func (a *aviary) said(where string, text []byte) {
	a.transcript = append(a.transcript, utterance{where, bytes.Clone(text)})
}

// lastBody is the body of the last answer.
func (a *aviary) lastBody() []byte {
	_, body, _ := bytes.Cut(a.transcript[len(a.transcript)-1].text, []byte("\n"))
	return body
}

// heard tells whether text was said at a place that begins with where.
func (a *aviary) heard(where, text string) bool {
	for _, u := range a.transcript {
		if strings.HasPrefix(u.where, where) && bytes.Contains(u.text, []byte(text)) {
			return true
		}
	}
	return false
}

// reportSightings looks for every canary, in every spelling, in all that was said.
func (a *aviary) reportSightings() {
	allowed := map[string]bool{}
	for _, c := range a.canaries {
		seen := map[string]bool{}
		for spelling, text := range spellings(c.value) {
			for _, u := range a.transcript {
				i := bytes.Index(u.text, []byte(text))
				switch {
				case i < 0:
				case c.mayBeAt(u.where):
					allowed[c.name] = true
				case !seen[u.where]:
					seen[u.where] = true
					from, to := max(0, i-60), min(len(u.text), i+len(text)+20)
					a.t.Errorf("%s (%s) is in %s: %q", c.name, spelling, u.where, u.text[from:to])
				}
			}
		}
	}
	for _, c := range a.canaries {
		if len(c.allowed) > 0 && !allowed[c.name] {
			a.t.Errorf("%s was not even seen where it may be: the hunt does not find what is there", c.name)
		}
	}
}

func (c canary) mayBeAt(where string) bool {
	for _, place := range c.allowed {
		if strings.HasPrefix(where+" ", place) || strings.HasSuffix(where+" ", place) {
			return true
		}
	}
	return false
}

// spellings are the forms in which a value may turn up: plain, and as it looks in JSON, in JSON
// within JSON, in HTML, in URLs, in hex, and in Base64, within which it may begin at any of
// three places. Of each half of it, too, in case that the text was cut.
func spellings(value string) map[string]string {
	all := map[string]string{}
	for part, v := range map[string]string{"": value, "first half, ": value[:len(value)/2], "second half, ": value[len(value)/2:]} {
		if len(v) < 12 {
			continue
		}
		quoted := quote(v)
		for name, text := range map[string]string{
			"plain": v, "JSON": quoted, "JSON twice": quote(quoted), "Go": strings.Trim(fmt.Sprintf("%q", v), `"`), "HTML": html.EscapeString(v),
			"query": url.QueryEscape(v), "path": url.PathEscape(v), "hex": hex.EncodeToString([]byte(v)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(v))),
		} {
			all[part+name] = text
		}
		for shift := range 3 {
			// Characters at both ends depend on the neighbours, too.
			packed := base64.StdEncoding.EncodeToString(append(make([]byte, shift), v...))
			packed = packed[[]int{0, 2, 3}[shift]:]
			packed = strings.TrimRight(packed, "=")
			if (len(v)+shift)%3 != 0 {
				packed = packed[:len(packed)-1]
			}
			all[fmt.Sprint(part, "Base64 at ", shift)] = packed
			all[fmt.Sprint(part, "base64url at ", shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(packed)
		}
	}
	return all
}

func quote(s string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.Encode(s) // a string always encodes
	return strings.Trim(strings.TrimSpace(b.String()), `"`)
}

// syncBuffer is a bytes.Buffer that several goroutines write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}
