package issuer

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
)

// DPoP (RFC 9449): a proof says that who sends a request has a private key, and a token that is
// bound to the key is of no use to anybody else.
const (
	proofType = "dpop+jwt"
	proofAge  = time.Minute // how old a proof may be, or ahead
	nonceStep = 2 * time.Minute
	maxProof  = 8 << 10 // bytes
)

var proofAlgs = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA, algEd25519, jose.PS256, jose.RS256}

// proofAlgNames is for the algs of a challenge, and metadata.
func proofAlgNames() (names []string) {
	for _, alg := range proofAlgs {
		names = append(names, string(alg))
	}
	return names
}

// errProof is a proof that is refused; its text is a constant of the program.
type errProof string

// Error implements error.
func (e errProof) Error() string { return string(e) }

// errNonce asks for a proof with a nonce of ours.
var errNonce = errors.New("the proof needs a nonce that this server gave, not long ago")

// proofClaims are the claims of a proof (RFC 9449 section 4.2).
type proofClaims struct {
	ID       string      `json:"jti"`
	Method   string      `json:"htm"`
	URL      string      `json:"htu"`
	IssuedAt json.Number `json:"iat"`
	Nonce    string      `json:"nonce"`
	Hash     string      `json:"ath"`
}

// checkProof makes the checks of RFC 9449 section 4.3 on the proof of r, and returns the thumbprint of
// its key. token is what the proof must be for, "" at the token endpoint, where a nonce
// is required; elsewhere one may be there. Errors are errProof, errNonce or *outage.
func (i *Issuer) checkProof(ctx context.Context, r *http.Request, token string) (jkt string, err error) {
	headers := r.Header["Dpop"]
	if len(headers) != 1 || len(headers[0]) > maxProof {
		return "", errProof("there must be one DPoP header")
	}
	proof, err := parseSigned(headers[0], proofAlgs)
	if err != nil {
		return "", errProof("the proof is not a JWT with an algorithm that is allowed")
	}
	if proof.typ != proofType {
		return "", errProof("the proof is not of type dpop+jwt")
	}
	key := proof.jwk
	if key == nil || !key.Valid() || !key.IsPublic() || holdsPrivate(headers[0]) || weak(*key) {
		return "", errProof("the proof must hold its public key, and nothing of the private one")
	}
	if proof.verify(key.Key) != nil {
		return "", errProof("the signature of the proof is not by its key")
	}
	var c proofClaims
	if err := json.Unmarshal(proof.payload, &c); err != nil || c.ID == "" || len(c.ID) > maxJTI || c.IssuedAt == "" {
		return "", errProof("the proof must have jti, htm, htu and iat")
	}
	at := i.URL() + r.URL.EscapedPath()
	if c.Method != r.Method || normalURL(c.URL) != normalURL(at) || normalURL(at) == "" {
		return "", errProof("the proof is for another request: see htm and htu")
	}
	now := time.Now()
	issued, err := c.IssuedAt.Float64()
	if err != nil || issued < float64(now.Add(-proofAge).Unix()) || issued > float64(now.Add(proofAge).Unix()) {
		return "", errProof("iat of the proof is not the time of now")
	}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare([]byte(c.Hash), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) != 1 {
			return "", errProof("the proof is for another token: see ath")
		}
	}
	if (token == "" || c.Nonce != "") && !i.knowsNonce(c.Nonce, now) {
		return "", errNonce
	}
	print, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", errProof("the key of the proof has no thumbprint")
	}
	jkt = base64.RawURLEncoding.EncodeToString(print)
	switch err := i.useOnce(ctx, now.Add(2*proofAge), "dpop", jkt, normalURL(at), c.ID); {
	case errors.Is(err, errUsed):
		return "", errProof("the proof was used before")
	case err != nil:
		return "", err
	}
	return jkt, nil
}

// holdsPrivate says whether the key in the header of a proof has a private or secret part: the
// reader of keys may have passed over it.
func holdsPrivate(proof string) bool {
	part, _, _ := strings.Cut(proof, ".")
	var header struct {
		JWK map[string]json.RawMessage `json:"jwk"`
	}
	if decode(part, &header) != nil {
		return true
	}
	for _, member := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, there := header.JWK[member]; there {
			return true
		}
	}
	return false
}

// normalURL is a URL without query and fragment, in one spelling of scheme, host and port (RFC
// 3986 section 6.2.2); "" if it is none.
func normalURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return ""
	}
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if port != "" && !(scheme == "https" && port == "443" || scheme == "http" && port == "80") {
		host = net.JoinHostPort(host, port)
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return scheme + "://" + host + path
}

// nonce is what proofs must hold at now. It is the same on all replicas and kept nowhere: an
// HMAC of the time, in steps. The one of the step before is good as well.
func (i *Issuer) nonce(now time.Time) string { return i.nonceOf(now.UnixNano() / int64(nonceStep)) }

func (i *Issuer) nonceOf(step int64) string {
	mac := hmac.New(sha256.New, i.nonceKey)
	binary.Write(mac, binary.BigEndian, step)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:18])
}

func (i *Issuer) knowsNonce(nonce string, now time.Time) bool {
	step := now.UnixNano() / int64(nonceStep)
	return hmac.Equal([]byte(nonce), []byte(i.nonceOf(step))) || hmac.Equal([]byte(nonce), []byte(i.nonceOf(step-1)))
}

// boundTo says which key a token for this request is to be bound to: that of its proof; else,
// if the client wants it, that of its certificate. When a request brings both, the proof
// counts. A client whose tokens must be bound gets none without.
func (i *Issuer) boundTo(ctx context.Context, r *http.Request, got proven) (binding, *oauthError) {
	c := got.client
	if r.Header["Dpop"] != nil {
		jkt, err := i.checkProof(ctx, r, "")
		if _, away := errors.AsType[*outage](err); away {
			return "", unavailable(err)
		}
		if errors.Is(err, errNonce) {
			return "", &oauthError{status: http.StatusBadRequest, code: "use_dpop_nonce", description: "the proof needs the nonce of the DPoP-Nonce header", nonce: i.nonce(time.Now())}
		}
		if err != nil {
			return "", &oauthError{status: http.StatusBadRequest, code: "invalid_dpop_proof", description: err.Error()}
		}
		return boundToKey + binding(jkt), nil
	}
	if c.DPoPBound {
		return "", &oauthError{status: http.StatusBadRequest, code: "invalid_dpop_proof", description: "the client gets tokens with a DPoP proof only"}
	}
	if c.CertificateBound {
		if len(got.certificates) == 0 {
			return "", &oauthError{status: http.StatusBadRequest, code: "invalid_request", description: "the client gets tokens with a client certificate only"}
		}
		return boundToCertificate + binding(thumbprint(got.certificates[0])), nil
	}
	return "", nil
}

// checkBinding says whether r may use a token that is bound, and that it is not bound to
// something else. scheme is Bearer or DPoP.
func (i *Issuer) checkBinding(r *http.Request, scheme, token string, b binding) error {
	if jkt, ok := strings.CutPrefix(string(b), boundToKey); ok {
		if scheme != schemeDPoP {
			return dpopErrorf("invalid_token", "this token is bound to a key: send it with the scheme DPoP, and a proof")
		}
		got, err := i.checkProof(r.Context(), r, token)
		switch {
		case errors.Is(err, errNonce):
			e := dpopErrorf("use_dpop_nonce", err.Error())
			e.Err = dpopError{"use_dpop_nonce", i.nonce(time.Now())}
			return e
		case err == nil && got == jkt:
			return nil
		case err == nil:
			return dpopErrorf("invalid_token", "the proof is by another key than the one the token is bound to")
		}
		if _, away := errors.AsType[*outage](err); away {
			return &grantway.Error{Code: grantway.Unavailable, Message: "the proof cannot be checked now", Err: err}
		}
		return dpopErrorf("invalid_dpop_proof", err.Error())
	}
	if scheme == schemeDPoP {
		return dpopErrorf("invalid_token", "this token is not bound to a key: send it with the scheme Bearer")
	}
	x5t, ok := strings.CutPrefix(string(b), boundToCertificate)
	if !ok {
		return nil
	}
	if got := i.Certificates(r); len(got) == 0 || subtle.ConstantTimeCompare([]byte(thumbprint(got[0])), []byte(x5t)) != 1 {
		return bearerErrorf(grantway.Unauthenticated, "invalid_token", "this token is bound to another client certificate than that of the connection")
	}
	return nil
}

// dpopError is the cause of an error of Authenticate that is about DPoP.
type dpopError struct {
	code  string
	nonce string // to send next; "": any will do
}

// Error implements error.
func (e dpopError) Error() string { return "dpop: " + e.code }

func dpopErrorf(code, message string) *grantway.Error {
	return &grantway.Error{Code: grantway.Unauthenticated, Message: message, Err: dpopError{code: code}}
}

// Nonce is the value of the DPoP-Nonce header of the answer to a request that failed with err
// (RFC 9449 section 9); "" when there is none.
func Nonce(err error) string {
	e, _ := errors.AsType[dpopError](err)
	return e.nonce
}
