package issuer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// asymmetric are the algorithms of assertions that are signed with a private key.
var asymmetric = []jose.SignatureAlgorithm{
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, algEd25519, jose.PS256, jose.PS384, jose.PS512, jose.RS256, jose.RS384, jose.RS512,
}

const (
	skew         = time.Minute     // of clocks
	assertionAge = 5 * time.Minute // how far ahead an assertion may expire
	maxJTI       = 256             // characters
)

// assertion is a JWT that came with a request.
type assertion struct {
	*signed
	usedKid string // of the key that verified it
	claims  assertionClaims
}

type assertionClaims struct {
	Issuer    string      `json:"iss"`
	Subject   string      `json:"sub"`
	Audience  audience    `json:"aud"`
	Expires   json.Number `json:"exp"`
	NotBefore json.Number `json:"nbf"`
	IssuedAt  json.Number `json:"iat"`
	ID        string      `json:"jti"`
}

// audience is a claim that is a string or a list of them (RFC 7519 section 4.1.3).
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

func (a audience) has(s string) bool {
	for _, one := range a {
		if one == s {
			return true
		}
	}
	return false
}

// parseAssertion reads an assertion that is signed with one of algs.
func parseAssertion(text string, algs []jose.SignatureAlgorithm) (*assertion, error) {
	jwt, err := parseSigned(text, algs)
	if err != nil {
		return nil, errWrong("the assertion is " + err.Error())
	}
	if jwt.typ != "" && !strings.EqualFold(jwt.typ, "JWT") && !strings.EqualFold(jwt.typ, "client-authentication+jwt") {
		return nil, errWrong("the assertion is a JWT of another type")
	}
	a := &assertion{signed: jwt}
	if err := json.Unmarshal(jwt.payload, &a.claims); err != nil {
		return nil, errWrong("the claims of the assertion are not as they should be")
	}
	return a, nil
}

// subjectOf is the subject that an assertion claims to have, by which its client is found (RFC
// 7521 section 4.2); "" when it has none.
func subjectOf(text string) string {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Subject string `json:"sub"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Subject
}

// verifyWith checks the signature with those of keys that fit: the one it names, else any.
func (a *assertion) verifyWith(keys []jose.JSONWebKey) error {
	for n := range keys {
		k := &keys[n]
		if a.kid != "" && k.KeyID != "" && k.KeyID != a.kid || !a.meant(k.Algorithm) || k.Use != "" && k.Use != "sig" {
			continue
		}
		if a.verify(k.Key) == nil {
			if a.usedKid = k.KeyID; a.usedKid == "" {
				a.usedKid = "without a name"
			}
			return nil
		}
	}
	return errWrongKey
}

// errWrongKey means that none of the keys verifies; newer ones may.
var errWrongKey = errors.New("the signature is by none of the keys that are known")

// checkTimes checks exp, nbf and iat at now. ahead bounds how far in the future exp is; 0: not.
func (a *assertion) checkTimes(now time.Time, ahead time.Duration) error {
	expires, err := a.claims.Expires.Float64()
	if err != nil {
		return errWrong("the assertion has no exp")
	}
	at := float64(now.UnixMilli()) / 1000
	switch {
	case expires <= at:
		return errWrong("the assertion has expired")
	case ahead > 0 && expires > at+(ahead+skew).Seconds():
		return errWrong("the assertion expires too late")
	}
	for _, claim := range []json.Number{a.claims.NotBefore, a.claims.IssuedAt} {
		if claim == "" {
			continue
		}
		if t, err := claim.Float64(); err != nil || t > at+skew.Seconds() {
			return errWrong("the assertion is from the future")
		}
	}
	return nil
}

// checkAssertion checks the claims of a client's own assertion whose signature is good (RFC 7523
// section 3). That it was not used before comes last: nothing else that is wrong may use it up.
func (i *Issuer) checkAssertion(ctx context.Context, c *client, p presented, a *assertion) error {
	if a.claims.Issuer != c.ID || a.claims.Subject != c.ID {
		return errWrong("iss and sub of the assertion must both be the client_id")
	}
	if len(a.claims.Audience) != 1 || a.claims.Audience[0] != i.URL() && !(c.AudienceTokenURL && a.claims.Audience[0] == i.URL()+TokenPath) {
		return errWrong("the audience of the assertion must be this server's issuer, " + i.URL() + ", alone")
	}
	if err := a.checkTimes(time.Now(), assertionAge); err != nil {
		return err
	}
	if a.claims.ID == "" || len(a.claims.ID) > maxJTI {
		return errWrong("the assertion needs a jti of at most 256 characters")
	}
	expires, _ := a.claims.Expires.Float64()
	return i.useOnce(ctx, time.UnixMilli(int64(expires*1000)), "assertion", c.ID, a.claims.ID)
}

// useOnce is once.use, with the errors of a method.
func (i *Issuer) useOnce(ctx context.Context, expires time.Time, parts ...string) error {
	err := i.once.use(ctx, expires, parts...)
	if err == nil || errors.Is(err, errUsed) {
		return err
	}
	return &outage{err}
}
