package grant

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Authenticator proves to the server who the client is. Its implementations are Basic,
// Post, SecretJWT, PrivateKeyJWT, Assertion, AssertionFile, TLS and None.
type Authenticator interface {
	// Method is the registered name of the method (RFC 7591 section 2, RFC 8705).
	Method() string

	check(*Request) error
	authenticate(context.Context, *proof) error
}

// proof is what an Authenticator adds to: the body and header of one attempt.
type proof struct {
	clientID string
	tokenURL string
	form     url.Values
	header   http.Header
	secrets  []string // what must not come back in an error
}

func (p *proof) setClientID() {
	if p.clientID != "" {
		p.form.Set("client_id", p.clientID)
	}
}

// Basic is client_secret_basic: HTTP Basic authentication (RFC 6749 section 2.3.1).
type Basic struct {
	Secret Secret

	// Raw leaves out the form encoding of identifier and secret that RFC 6749 appendix B
	// asks for, for servers that do not undo it. It makes a difference only where one of
	// them has a character other than letters, digits, "-", ".", "_" and "~".
	Raw bool
}

// Method implements Authenticator.
func (Basic) Method() string { return "client_secret_basic" }

func (b Basic) check(r *Request) error {
	if b.Raw && strings.Contains(r.ClientID, ":") {
		return errors.New("a client identifier with a colon cannot be sent unencoded (RFC 7617 section 2)")
	}
	return checkSecret(r, b.Secret)
}

func (b Basic) authenticate(_ context.Context, p *proof) error {
	id, secret := p.clientID, string(b.Secret)
	if !b.Raw {
		id, secret = url.QueryEscape(id), url.QueryEscape(secret)
	}
	value := base64.StdEncoding.EncodeToString([]byte(id + ":" + secret))
	p.header.Set("Authorization", "Basic "+value)
	p.secrets = append(p.secrets, string(b.Secret), value)
	return nil
}

// Post is client_secret_post: identifier and secret in the body (RFC 6749 section 2.3.1).
type Post struct{ Secret Secret }

// Method implements Authenticator.
func (Post) Method() string { return "client_secret_post" }

func (a Post) check(r *Request) error { return checkSecret(r, a.Secret) }

func (a Post) authenticate(_ context.Context, p *proof) error {
	p.setClientID()
	p.form.Set("client_secret", string(a.Secret))
	p.secrets = append(p.secrets, string(a.Secret))
	return nil
}

// SecretJWT is client_secret_jwt: an assertion (RFC 7523 section 2.2) with a MAC keyed by
// the secret. Every attempt mints a new one, valid for a minute.
type SecretJWT struct {
	Secret    Secret
	Algorithm string // HS256, HS384 or HS512; HS256 when empty

	// Audience is the issuer identifier of the authorization server, the assertion's only
	// aud. Required, unless TokenURLAudience says otherwise.
	Audience string

	// TokenURLAudience makes the token URL the aud, for servers that have
	// not followed CVE-2025-27370 yet.
	TokenURLAudience bool

	// Type is the JWT's typ; "client-authentication+jwt" when empty. Old servers may want "JWT".
	Type string
}

// Method implements Authenticator.
func (SecretJWT) Method() string { return "client_secret_jwt" }

func (a SecretJWT) algorithm() string {
	if a.Algorithm == "" {
		return "HS256"
	}
	return a.Algorithm
}

func (a SecretJWT) check(r *Request) error {
	need := map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}[a.algorithm()]
	switch {
	case need == 0:
		return fmt.Errorf("algorithm %q is none of HS256, HS384, HS512", a.Algorithm)
	case a.Secret != "" && len(a.Secret) < need:
		return fmt.Errorf("%s needs a secret of at least %d bytes (RFC 7518 section 3.2)", a.algorithm(), need)
	}
	return errors.Join(checkSecret(r, a.Secret), checkAudience(a.Audience, a.TokenURLAudience))
}

func (a SecretJWT) authenticate(_ context.Context, p *proof) error {
	key := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(a.algorithm()), Key: []byte(a.Secret)}
	opts := (&jose.SignerOptions{}).WithType(jose.ContentType(assertionType(a.Type)))
	p.secrets = append(p.secrets, string(a.Secret))
	return p.assert(signJWT(key, opts, p.claims(a.Audience, a.TokenURLAudience)))
}

// PrivateKeyJWT is private_key_jwt: an assertion signed with a private key (RFC 7523
// section 2.2). Every attempt mints a new one, valid for a minute.
type PrivateKeyJWT struct {
	Key *SigningKey

	// Audience, TokenURLAudience and Type are as in SecretJWT.
	Audience         string
	TokenURLAudience bool
	Type             string
}

// Method implements Authenticator.
func (PrivateKeyJWT) Method() string { return "private_key_jwt" }

func (a PrivateKeyJWT) check(r *Request) error {
	return errors.Join(checkClientID(r), a.Key.check(), checkAudience(a.Audience, a.TokenURLAudience))
}

func (a PrivateKeyJWT) authenticate(_ context.Context, p *proof) error {
	return p.assert(a.Key.sign(assertionType(a.Type), p.claims(a.Audience, a.TokenURLAudience)))
}

// AssertionFile reads an assertion from a file at every attempt: what a workload identity
// platform keeps fresh there. As a Request's Auth it is private_key_jwt with somebody
// else's signature (RFC 7523 section 2.2), as its Assertion the grant itself (section 2.1).
// Blanks around the assertion are cut off; a file over 64 KiB is an error. A file that cannot be
// read is a Temporary failure.
type AssertionFile struct{ Path string }

// Method implements Authenticator.
func (AssertionFile) Method() string { return "private_key_jwt" }

func (f AssertionFile) check(*Request) error {
	if f.Path == "" {
		return errors.New("assertion file: the path is missing")
	}
	return nil
}

func (f AssertionFile) authenticate(ctx context.Context, p *proof) error {
	s, err := f.Assertion(ctx)
	return p.assert(string(s), err)
}

// Assertion implements AssertionSource.
func (f AssertionFile) Assertion(context.Context) (Secret, error) {
	const limit = 64 << 10
	file, err := os.Open(f.Path)
	if err != nil {
		return "", &fileError{err}
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	s := strings.TrimSpace(string(b))
	switch {
	case err != nil:
		return "", &fileError{err}
	case len(b) > limit:
		return "", &fileError{fmt.Errorf("%s: larger than 64 KiB", f.Path)}
	case s == "":
		return "", &fileError{fmt.Errorf("%s: is empty", f.Path)}
	}
	return Secret(s), nil
}

// fileError marks a failure that the next attempt may not see.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// TLS is tls_client_auth or self_signed_tls_client_auth (RFC 8705 section 2): the
// Request's Certificate authenticates, and client_id says who is meant to.
type TLS struct{}

// Method implements Authenticator.
func (TLS) Method() string { return "tls_client_auth" }

func (TLS) check(r *Request) error {
	if r.Certificate == nil || len(r.Certificate.Certificate) == 0 || r.Certificate.PrivateKey == nil {
		return errors.New("the client certificate or its key is missing")
	}
	return checkClientID(r)
}

func (TLS) authenticate(_ context.Context, p *proof) error {
	p.setClientID()
	return nil
}

// None does not authenticate: for public clients, and for grants whose assertion says it all.
// client_id is sent when there is one.
type None struct{}

// Method implements Authenticator.
func (None) Method() string { return "none" }

func (None) check(*Request) error { return nil }

func (None) authenticate(_ context.Context, p *proof) error {
	p.setClientID()
	return nil
}

func checkClientID(r *Request) error {
	if r.ClientID == "" {
		return errors.New("the client identifier is missing")
	}
	return nil
}

func checkSecret(r *Request, s Secret) error {
	if s == "" {
		return errors.New("the client secret is missing")
	}
	return checkClientID(r)
}

func checkAudience(audience string, tokenURL bool) error {
	if (audience == "") != tokenURL {
		return errors.New("the assertion needs one audience: the issuer of the authorization server or, for a legacy server, the token URL")
	}
	return nil
}

func assertionType(typ string) string {
	if typ == "" {
		return "client-authentication+jwt"
	}
	return typ
}

// assertionLifetime is how long a minted client assertion is valid.
const assertionLifetime = time.Minute

// claims are those of a client assertion (RFC 7523 section 3), fresh at every call.
func (p *proof) claims(audience string, tokenURL bool) map[string]any {
	if tokenURL {
		audience = p.tokenURL
	}
	now := time.Now()
	return map[string]any{
		"iss": p.clientID,
		"sub": p.clientID,
		"aud": audience,
		"jti": rand.Text(),
		"iat": now.Unix(),
		"exp": now.Add(assertionLifetime).Unix(),
	}
}

func (p *proof) assert(assertion string, err error) error {
	if err != nil {
		return err
	}
	p.setClientID()
	p.form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	p.form.Set("client_assertion", assertion)
	p.secrets = append(p.secrets, assertion)
	return nil
}

// AssertionSource yields the assertion of an assertion grant, once for every attempt. Its
// implementations here are JWT, Assertion and AssertionFile.
type AssertionSource interface {
	Assertion(ctx context.Context) (Secret, error)
}

// JWT mints the assertion of the jwt-bearer grant (RFC 7523 section 3): signed by Key, with
// iss, sub, aud, a fresh jti, iat and exp.
type JWT struct {
	Key      *SigningKey
	Issuer   string        // required
	Subject  string        // Issuer when empty
	Audience string        // required
	Lifetime time.Duration // one minute when 0

	// Claims are added, and replace the claims above where they have the same name; a nil
	// value removes one.
	Claims map[string]any

	Type string // the JWT's typ; "JWT" when empty
}

// Assertion implements AssertionSource.
func (j JWT) Assertion(context.Context) (Secret, error) {
	if j.Issuer == "" || j.Audience == "" {
		return "", errors.New("issuer and audience of the assertion are required")
	}
	if j.Subject == "" {
		j.Subject = j.Issuer
	}
	if j.Lifetime == 0 {
		j.Lifetime = assertionLifetime
	}
	if j.Type == "" {
		j.Type = "JWT"
	}
	now := time.Now()
	claims := map[string]any{
		"iss": j.Issuer,
		"sub": j.Subject,
		"aud": j.Audience,
		"jti": rand.Text(),
		"iat": now.Unix(),
		"exp": now.Add(j.Lifetime).Unix(),
	}
	for name, value := range j.Claims {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	s, err := j.Key.sign(j.Type, claims)
	return Secret(s), err
}
