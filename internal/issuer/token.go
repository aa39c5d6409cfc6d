package issuer

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"mime"
	"net/http"
	"net/netip"
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
	err         error // for the log, and then without a description for the client
}

func invalidRequest(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_request", description: description}
}

// tokenResponse is the answer of RFC 6749 section 5.1.
type tokenResponse struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	Scope       string `json:"scope"`
}

// Handler serves /oauth/token, the token endpoint (RFC 6749 section 3.2). Everything else is
// not found.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/oauth/token", func(w http.ResponseWriter, r *http.Request) {
		answer, failure := i.token(w, r)
		if failure != nil {
			i.writeError(w, r, failure)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	})
	return mux
}

// token answers one token request.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) (*tokenResponse, *oauthError) {
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
	switch f.get("grant_type") {
	case grantClientCredentials:
		return i.clientCredentials(ctx, r, from, f)
	case "":
		return nil, invalidRequest("grant_type is missing")
	default:
		return nil, &oauthError{status: http.StatusBadRequest, code: "unsupported_grant_type", description: "the grant type is not one of this server"}
	}
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
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.retryAfter.Seconds()))))
	}
	writeJSON(w, e.status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{e.code, e.description})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot be: v is made of strings and numbers
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	w.WriteHeader(status)
	w.Write(body)
}
