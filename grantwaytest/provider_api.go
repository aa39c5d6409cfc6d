package grantwaytest

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// serveAPI is the healthy API: a resource server by RFC 6750 and RFC 9449 section 7.
func (s *issuer) serveAPI(w http.ResponseWriter, r *http.Request) {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	s.mu.Lock()
	token := s.live[value]
	s.mu.Unlock()
	if err := s.checkToken(r, token, scheme, value); err != nil {
		challenge := `Bearer realm="grantwaytest"`
		if token != nil && token.thumbprint != "" {
			challenge = `DPoP algs="ES256 RS256 PS256 EdDSA"`
		}
		if value != "" { // RFC 6750 section 3.1: no error code when no credentials came
			challenge += `, error="invalid_token", error_description="` + err.Error() + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token", "error_description": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{
		"client_id": token.client, "scope": token.scope, "method": r.Method, "path": r.URL.Path,
	})
}

func (s *issuer) checkToken(r *http.Request, token *accessToken, scheme, value string) error {
	switch {
	case len(r.Header.Values("Authorization")) != 1:
		return errors.New("one Authorization header is needed")
	case token == nil:
		return errors.New("unknown or revoked token")
	case !time.Now().Before(token.expires):
		return errors.New("expired token")
	case token.thumbprint == "":
		if !strings.EqualFold(scheme, "Bearer") {
			return errors.New("a bearer token needs the scheme Bearer")
		}
		return nil
	case !strings.EqualFold(scheme, "DPoP"):
		return errors.New("a bound token needs the scheme DPoP")
	}
	sum := sha256.Sum256([]byte(value))
	thumbprint, err := s.checkProof(r, base64.RawURLEncoding.EncodeToString(sum[:]))
	if err == nil && thumbprint != token.thumbprint {
		err = errors.New("the token is bound to another key")
	}
	return err
}

// checkProof checks the DPoP proof of r (RFC 9449 section 4.3; ath is "" at the token
// endpoint) and returns the thumbprint of its key. A proof is taken once.
func (s *issuer) checkProof(r *http.Request, ath string) (thumbprint string, err error) {
	proofs := r.Header.Values("DPoP")
	if len(proofs) != 1 {
		return "", errors.New("exactly one DPoP header is needed")
	}
	proof, err := jwt.ParseSigned(proofs[0], []jose.SignatureAlgorithm{
		jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.PS256, jose.EdDSA,
	})
	if err != nil {
		return "", errors.New("the proof is not a signed JWT of a known algorithm")
	}
	key := proof.Headers[0].JSONWebKey
	if proof.Headers[0].ExtraHeaders["typ"] != "dpop+jwt" || key == nil || !key.IsPublic() {
		return "", errors.New("the proof needs typ dpop+jwt and a public jwk")
	}
	var claims struct {
		ID  string `json:"jti"`
		HTM string `json:"htm"`
		HTU string `json:"htu"`
		ATH string `json:"ath"`
		IAT int64  `json:"iat"`
	}
	if proof.Claims(key, &claims) != nil {
		return "", errors.New("the signature of the proof is wrong")
	}
	switch age := time.Since(time.Unix(claims.IAT, 0)).Abs(); {
	case claims.HTM != r.Method || claims.HTU != origin(r)+r.URL.EscapedPath():
		return "", errors.New("the proof is for another request")
	case claims.ATH != ath:
		return "", errors.New("the proof is for another token")
	case age > time.Minute:
		return "", errors.New("the proof is not fresh")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if claims.ID == "" || s.proofs[claims.ID] {
		return "", errors.New("the proof has no jti, or one that was used")
	}
	s.proofs[claims.ID] = true
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", errors.New("the key of the proof is malformed")
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// origin is the scheme and authority that the client addressed.
func origin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
