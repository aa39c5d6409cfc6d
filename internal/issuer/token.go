package issuer

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds the body of a token request, in bytes.
const maxBody = 64 << 10

// deadline bounds how long a token request waits for the database.
const deadline = 10 * time.Second

// oauthError is an answer of RFC 6749 section 5.2. Its texts are constants of the program, so
// they hold only the characters that are allowed there and repeat nothing of the request.
type oauthError struct {
	status      int
	code        string
	description string
	retryAfter  time.Duration
	nonce       string // for the DPoP-Nonce header
	err         error  // for the log, and then without a description for the client
}

func invalidRequest(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_request", description: description}
}

// tokenResponse is the answer of RFC 6749 section 5.1, and of RFC 8693 section 2.2.1.
type tokenResponse struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type,omitempty"`
	TokenType       string `json:"token_type"`
	ExpiresIn       int64  `json:"expires_in"` // seconds
	RefreshToken    string `json:"refresh_token,omitempty"`
	Scope           string `json:"scope"`
}

// Paths of the endpoints, behind the issuer.
const (
	TokenPath      = "/oauth/token"
	AuthorizePath  = "/oauth/authorize"
	IntrospectPath = "/oauth/introspect"
	RevokePath     = "/oauth/revoke"
	KeysPath       = "/oauth/jwks"
	MetadataPath   = "/.well-known/oauth-authorization-server"
)

// Handler serves the endpoints of the authorization server. Everything else is not found.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, answer := range map[string]endpoint{TokenPath: i.token, IntrospectPath: i.introspect, RevokePath: i.revoke} {
		mux.Handle(path, i.serve(path, answer))
	}
	for path, document := range map[string]func() any{KeysPath: i.jwks, MetadataPath: i.metadata} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*") // it is public
			writeJSON(w, http.StatusOK, "max-age=300", document())
		})
	}
	mux.HandleFunc("GET "+AuthorizePath, i.authorizePage)
	mux.HandleFunc("POST "+AuthorizePath, i.authorizeAnswer)
	return mux
}

// endpoint answers one request of a client, which authenticates in the form. A nil answer is an
// empty one.
type endpoint func(ctx context.Context, r *http.Request, from netip.Addr, f form) (any, *oauthError)

// serve makes the handler of an endpoint: what holds for each of them (RFC 6749 section 3.2).
func (i *Issuer) serve(path string, answer endpoint) http.Handler {
	ok := i.requests.WithLabelValues(path, "ok")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, failure := i.request(w, r, answer)
		switch {
		case failure != nil:
			i.requests.WithLabelValues(path, failure.code).Inc()
			i.writeError(w, r, failure)
			return
		case out == nil:
			noStore(w.Header())
			w.WriteHeader(http.StatusOK)
		default:
			writeJSON(w, http.StatusOK, "no-store", out)
		}
		ok.Inc()
	})
}

func (i *Issuer) request(w http.ResponseWriter, r *http.Request, answer endpoint) (any, *oauthError) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, &oauthError{status: http.StatusMethodNotAllowed, code: "invalid_request", description: "use POST"}
	}
	from, secure := i.origin(r)
	if !secure {
		return nil, invalidRequest("use https: what is sent over http can be read on the way; a secret sent so has to be replaced")
	}
	if secretIn(r.URL.RawQuery) {
		return nil, invalidRequest("parameters belong in the body; a secret in the URL ends up in logs and has to be replaced")
	}
	f, failure := readForm(w, r)
	if failure != nil {
		return nil, failure
	}
	ctx, cancel := context.WithTimeout(r.Context(), deadline)
	defer cancel()
	return answer(ctx, r, from, f)
}

// grantType is one way to get a token. Each has a file.
type grantType struct {
	name string
	for_ []string // grant types that a client may be registered with to use it

	// issue answers the request of a client that has proved who it is.
	issue func(i *Issuer, ctx context.Context, r *http.Request, got proven, f form) (*tokenResponse, *oauthError)
}

// grants lists them all.
var grants = []grantType{clientCredentials, authorizationCode, refreshToken, tokenExchange}

// token answers one token request.
func (i *Issuer) token(ctx context.Context, r *http.Request, from netip.Addr, f form) (any, *oauthError) {
	name := f.get("grant_type")
	n := slices.IndexFunc(grants, func(g grantType) bool { return g.name == name })
	switch {
	case name == "":
		return nil, invalidRequest("grant_type is missing")
	case n < 0 || !i.offers(grants[n]):
		return nil, &oauthError{status: http.StatusBadRequest, code: "unsupported_grant_type", description: "the grant type is not one of this server"}
	}
	got, failure := i.authenticate(ctx, r, from, f)
	if failure != nil {
		return nil, failure
	}
	if !slices.Contains(grants[n].for_, got.client.GrantType) {
		return nil, &oauthError{status: http.StatusBadRequest, code: "unauthorized_client", description: "the client may not use this grant type"}
	}
	answer, failure := grants[n].issue(i, ctx, r, got, f)
	if failure != nil {
		return nil, failure
	}
	return answer, nil
}

// offers says whether this hub has what a grant needs.
func (i *Issuer) offers(g grantType) bool {
	switch g.name {
	case tokenExchange.name:
		return i.Exchange != nil
	case authorizationCode.name, refreshToken.name:
		return i.Person != nil
	}
	return true
}

// answer issues an access token, and makes the reply of it.
func (i *Issuer) answer(ctx context.Context, n issuance) (*tokenResponse, *oauthError) {
	token, lifetime, err := i.issue(ctx, n)
	if err != nil {
		return nil, unavailable(err)
	}
	out := &tokenResponse{AccessToken: string(token), TokenType: schemeBearer, ExpiresIn: int64(lifetime.Seconds()), Scope: n.scope, RefreshToken: n.refresh}
	if strings.HasPrefix(string(n.binding), boundToKey) {
		out.TokenType = schemeDPoP
	}
	return out, nil
}

// resourceOf is the other API that a token is asked for (RFC 8707 section 2), "" for this one.
func (i *Issuer) resourceOf(c *client, f form) (string, *oauthError) {
	asked := f.many["resource"]
	if len(asked) == 0 {
		return "", nil
	}
	if len(asked) > 1 {
		return "", invalidTarget("ask for one resource at a time: a token for several is worth more to a thief")
	}
	switch resource := asked[0]; {
	case resource == i.URL():
		return "", nil
	case isResource(resource) && slices.Contains(c.Resources, resource):
		return resource, nil
	}
	return "", invalidTarget("the resource is not one that the client may get tokens for")
}

func invalidTarget(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_target", description: description}
}

func invalidGrant(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_grant", description: description}
}

// origin says where r came from, and whether nobody could listen on its way.
func (i *Issuer) origin(r *http.Request) (from netip.Addr, secure bool) {
	if from, secure, ok := i.Proxied(r); ok {
		return from, secure
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // not an address: not loopback
	from = peer.Addr().Unmap()
	return from, r.TLS != nil || from.IsLoopback() && !relayed(r.Header)
}

// relayed says whether a proxy has written into h. One that is not trusted may have got the
// request from anywhere, even if it runs on this machine.
func relayed(h http.Header) bool {
	for name := range h {
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return false
}

func readForm(w http.ResponseWriter, r *http.Request) (form, *oauthError) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || len(r.Header["Content-Type"]) > 1 {
		return form{}, invalidRequest("the body must be application/x-www-form-urlencoded")
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return form{}, invalidRequest("the body must be in UTF-8")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return form{}, invalidRequest("the body is longer than 64 KiB, or ended early")
	}
	return parseForm(string(body))
}

func (i *Issuer) writeError(w http.ResponseWriter, r *http.Request, e *oauthError) {
	if e.err != nil && r.Context().Err() == nil {
		i.Log.Error("token request", "error", e.err)
	}
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="grantway"`)
	}
	if e.nonce != "" {
		w.Header().Set("DPoP-Nonce", e.nonce)
	}
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.retryAfter.Seconds()))))
	}
	writeJSON(w, e.status, "no-store", struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{e.code, e.description})
}

func writeJSON(w http.ResponseWriter, status int, cache string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot be: v is made of strings and numbers
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if noStore(h); cache != "no-store" {
		h.Set("Cache-Control", cache)
		h.Del("Pragma")
	}
	w.WriteHeader(status)
	w.Write(body)
}

// noStore keeps an answer out of every cache (RFC 6749 section 5.1).
func noStore(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
}
