package api

import (
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
)

// invalidation is the body of invalidateToken.
type invalidation struct {
	Fingerprint string `json:"fingerprint,omitempty"`
}

// token is the hot path: what it does for a token in memory is a look into a few maps and
// one pass over the token's text.
func (a *API) token(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var ref grantway.Ref
	if err := decode(r, &ref, true); err != nil {
		return nil, err
	}
	ref.Credential = r.PathValue("name")
	t, err := a.Broker.Token(r.Context(), who, ref)
	if err != nil {
		return nil, err
	}
	proof, err := prove(t, ref.Proof)
	if err != nil {
		return nil, err
	}
	return appendToken(make([]byte, 0, 512+2*len(t.AccessToken)+len(proof)), t, proof, time.Now()), nil
}

// prove makes the DPoP proof a caller asked for.
func prove(t *grant.Token, p *grantway.ProofRequest) (string, error) {
	if p == nil {
		return "", nil
	}
	if t.DPoP == nil {
		return "", &grantway.Error{Code: grantway.Invalid, Message: "no proof can be made", Fields: []grantway.Field{{Pointer: "/proof", Detail: "is only for credentials that use DPoP"}}}
	}
	proof, err := t.DPoP.Proof(p.Method, p.URL, p.Nonce, t.AccessToken)
	if err != nil {
		return "", &grantway.Error{Code: grantway.Invalid, Message: "no proof can be made", Fields: []grantway.Field{{Pointer: "/proof", Detail: err.Error()}}}
	}
	return proof, nil
}

// appendToken appends the JSON of a grantway.Token. It is written by hand because this is
// the one answer that is sent thousands of times a second; a test compares it with encoding/json.
func appendToken(b []byte, t *grant.Token, proof string, now time.Time) []byte {
	b = append(b, `{"access_token":`...)
	b = appendString(b, "", string(t.AccessToken))
	b = append(b, `,"token_type":`...)
	b = appendString(b, "", t.Type)
	b = append(b, `,"expires_in":`...)
	b = strconv.AppendInt(b, int64(t.ExpiresAt.Sub(now)/time.Second), 10)
	b = append(b, `,"expires_at":"`...)
	b = t.ExpiresAt.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if t.Scope != "" {
		b = append(b, `,"scope":`...)
		b = appendString(b, "", t.Scope)
	}
	b = append(b, `,"fingerprint":"`...)
	b = append(b, t.Fingerprint()...)
	b = append(b, `","header":{"name":"Authorization","value":`...)
	b = appendString(b, t.Type+" ", string(t.AccessToken))
	b = append(b, '}')
	if proof != "" {
		b = append(b, `,"proof":`...)
		b = appendString(b, "", proof)
	}
	return append(b, '}')
}

// appendString appends prefix and s as one JSON string. prefix needs no escapes.
func appendString(b []byte, prefix, s string) []byte {
	b = append(b, '"')
	b = append(b, prefix...)
	start := 0
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			continue
		}
		return append(appendEscaped(append(b, s[start:i]...), s[i:]), '"')
	}
	return append(append(b, s...), '"')
}

func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

func (a *API) invalidate(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var in invalidation
	if err := decode(r, &in, true); err != nil {
		return nil, err
	}
	return nil, a.Broker.Invalidate(r.Context(), who, r.PathValue("name"), in.Fingerprint)
}

// callEndpoint is the one operation whose answer is not the hub's.
func (a *API) callEndpoint(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var in grantway.EndpointCall
	if err := decode(r, &in, true); err != nil {
		return nil, err
	}
	h := w.Header()
	for name := range h {
		delete(h, name) // the API's answer has its own
	}
	return handled{}, a.Endpoint(w, r, who, r.PathValue("name"), r.PathValue("endpoint"), in.Inputs)
}
