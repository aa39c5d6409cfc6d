package secret

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

// serviceAccount is where Kubernetes mounts the token of a pod's service account.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// maxAnswer bounds what is read of a store's answer.
const maxAnswer = 4 << 20

func vaultKind() Kind {
	when := func(methods ...string) *connector.Condition {
		return &connector.Condition{Key: "auth", Values: methods}
	}
	return Kind{
		objects: true,
		open:    openVault,
		SignIn: map[string][]string{"token": {"token"}, "role": {"approle", "kubernetes", "jwt"}, "secret_id": {"approle"},
			"jwt": {"kubernetes", "jwt"}, "auth_mount": {"approle", "kubernetes", "jwt"}},
		Definition: kind("vault", "HashiCorp Vault or OpenBao", "A key-value secrets engine, version 1 or 2.",
			connector.Input{Key: "address", Title: "Address", Type: connector.URL, Required: true, Max: 2048, Help: "Such as https://vault.example.com:8200."},
			connector.Input{Key: "auth", Title: "Sign-in", Type: connector.Enum, Enum: []string{"token", "approle", "kubernetes", "jwt"}, Default: "token"},
			connector.Input{Key: "token", Title: "Token", Type: connector.SecretText, RequiredWhen: when("token"),
				Help: "Renewed before it expires, if it can be. Its policies must allow lookup-self and renew-self, as \"default\" does."},
			connector.Input{Key: "role", Title: "Role", Type: connector.String, Max: 1024, RequiredWhen: when("approle", "kubernetes", "jwt"),
				Help: "The role id of an AppRole, or the name of the role of the other methods."},
			connector.Input{Key: "secret_id", Title: "Secret id", Type: connector.SecretText, Help: "Of the AppRole. Empty when the role binds none."},
			connector.Input{Key: "jwt", Title: "JWT", Type: connector.SecretText, Max: 16384, RequiredWhen: when("jwt"),
				Help: "Read again at each sign-in when it is a file. Empty with Kubernetes is the token of the pod's service account."},
			connector.Input{Key: "mount", Title: "Mount", Type: connector.String, Default: "secret", Help: "Path of the secrets engine."},
			connector.Input{Key: "kv_version", Title: "Version of the secrets engine", Type: connector.Enum, Enum: []string{"2", "1"}, Default: "2"},
			connector.Input{Key: "path", Title: "Path", Type: connector.String, Help: "What keys are below, such as apps/grantway. Empty is the whole mount."},
			connector.Input{Key: "namespace", Title: "Namespace", Type: connector.String, Advanced: true},
			connector.Input{Key: "auth_mount", Title: "Mount of the sign-in", Type: connector.String, Advanced: true, Help: "Empty is the name of the method."}),
	}
}

// vault is a key-value engine of a HashiCorp Vault or an OpenBao. Four requests are all that
// is needed of their API, so it is spoken directly.
type vault struct {
	setting
	base    *url.URL
	session atomic.Pointer[session]
	signing singleflight.Group
}

// session is a sign-in: a token and until when it is good.
//
//	sign in ──▶ valid ──2/3 of its life──▶ renewed ──▶ valid again
//	   ▲          │ expired, or refused
//	   └──────────┘
type session struct {
	token   string
	renew   time.Time // zero: nothing to renew
	expires time.Time // zero: never
}

func openVault(s setting) Store {
	base, err := url.Parse(s.text("address"))
	if err != nil { // it was checked
		base = &url.URL{}
	}
	return &vault{setting: s, base: base}
}

// Describe implements Store.
func (v *vault) Describe() grantway.SecretStore {
	where := strings.Trim(v.text("mount"), "/")
	if p := strings.Trim(v.text("path"), "/"); p != "" {
		where += "/" + p
	}
	detail := fmt.Sprintf("KV v%s at %s, %s", v.text("kv_version"), v.base.Redacted(), where)
	if ns := v.text("namespace"); ns != "" {
		detail += " in namespace " + ns
	}
	return grantway.SecretStore{Name: v.name, Kind: "vault", Detail: detail}
}

// Read implements Store. The value is the secret's data, a JSON object.
func (v *vault) Read(ctx context.Context, key, version string) ([]byte, error) {
	path, err := v.path(key, version)
	if err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		s, err := v.signedIn(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := v.call(ctx, s.token, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		if answer.status != http.StatusForbidden {
			return v.value(answer, key)
		}
		// A token that is no longer good and a key that is not ours to read look the same.
		if err := v.lookUp(ctx, s.token, nil); reasonOf(err) != refused || err == nil {
			if err == nil {
				err = fault(v.name, denied, nil, "permission denied: the policies of the hub's token do not allow reading %s", key)
			}
			return nil, err
		}
		v.session.CompareAndSwap(s, nil)
		if again {
			return nil, fault(v.name, refused, nil, "it takes back what it signs in with")
		}
	}
}

// path is the path of a key below /v1/, with its query.
func (v *vault) path(key, version string) (string, error) {
	parts := []string{strings.Trim(v.text("mount"), "/")}
	if v.text("kv_version") == "2" {
		parts = append(parts, "data")
	} else if version != "" {
		return "", fault(v.name, missing, nil, "KV version 1 keeps no versions, so there is no version %s of key %s", version, key)
	}
	parts = append(parts, strings.Trim(v.text("path"), "/"), key)
	var path []string
	for segment := range strings.SplitSeq(strings.Join(parts, "/"), "/") {
		switch segment {
		case "": // path is empty, or somebody began the key with a slash
		case ".", "..":
			return "", fault(v.name, missing, nil, "there is no key %s: \".\" and \"..\" lead nowhere", key)
		default:
			path = append(path, url.PathEscape(segment))
		}
	}
	if version == "" {
		return strings.Join(path, "/"), nil
	}
	return strings.Join(path, "/") + "?version=" + url.QueryEscape(version), nil
}

// value takes the secret's data out of an answer.
func (v *vault) value(a *answer, key string) ([]byte, error) {
	var body struct {
		Data     json.RawMessage `json:"data"`
		Warnings []string        `json:"warnings"`
	}
	json.Unmarshal(a.body, &body) // what is not JSON has no data
	data := body.Data
	var v2 struct {
		Data     json.RawMessage `json:"data"`
		Metadata struct {
			Deleted   string `json:"deletion_time"`
			Destroyed bool   `json:"destroyed"`
		} `json:"metadata"`
	}
	if v.text("kv_version") == "2" {
		json.Unmarshal(body.Data, &v2)
		data = v2.Data
	}
	switch {
	case a.status == http.StatusNotFound && (v2.Metadata.Destroyed || v2.Metadata.Deleted != ""):
		return nil, fault(v.name, deleted, nil, "this version of key %s was deleted", key)
	case a.status == http.StatusNotFound && strings.Contains(strings.Join(body.Warnings, " "), "versioned"):
		return nil, fault(v.name, missing, nil, "the engine at %s is of KV version 2", v.text("mount"))
	case a.status == http.StatusNotFound:
		return nil, notFound(v.name, key, key)
	case a.status == http.StatusOK && len(data) > 0 && data[0] == '{':
		return data, nil
	case a.status == http.StatusOK && v.text("kv_version") == "2" && len(v2.Data) == 0:
		return nil, fault(v.name, missing, nil, "key %s is not of KV version 2", key)
	}
	return nil, fault(v.name, unreachable, nil, "it answered HTTP %d for key %s", a.status, key)
}

// SignIn implements Store.
func (v *vault) SignIn(ctx context.Context) error {
	s, err := v.signedIn(ctx)
	if err != nil {
		return err
	}
	err = v.lookUp(ctx, s.token, nil)
	if err != nil && reasonOf(err) == refused && v.session.CompareAndSwap(s, nil) {
		_, err = v.signedIn(ctx)
	}
	return err
}

// signedIn returns a session that is good as far as we know.
func (v *vault) signedIn(ctx context.Context) (*session, error) {
	given := ""
	if v.text("auth") == "token" {
		var err error
		if given, err = v.secret(ctx, "token"); err != nil {
			return nil, err
		}
	}
	if s := v.session.Load(); s != nil && (given == "" || s.token == given) && (s.expires.IsZero() || time.Now().Before(s.expires)) {
		return s, nil
	}
	flight := v.signing.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		s, err := v.signIn(ctx, given)
		if err != nil {
			return nil, err
		}
		v.session.Store(s)
		return s, nil
	})
	select {
	case <-ctx.Done():
		return nil, fault(v.name, unreachable, ctx.Err(), "did not answer in time")
	case r := <-flight:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*session), nil
	}
}

// signIn gets a session: with the token that was given, or from a sign-in method.
func (v *vault) signIn(ctx context.Context, given string) (*session, error) {
	began := time.Now()
	var life lease
	method := v.text("auth")
	if method == "token" {
		if err := v.lookUp(ctx, given, &life); err != nil {
			return nil, err
		}
		return life.session(given, began), nil
	}
	form, err := v.signInForm(ctx, method)
	if err != nil {
		return nil, err
	}
	mount := strings.Trim(cmp.Or(v.text("auth_mount"), method), "/")
	a, err := v.call(ctx, "", http.MethodPost, "auth/"+mount+"/login", form)
	if err != nil {
		return nil, err
	}
	var body struct {
		Auth struct {
			lease
			Token string `json:"client_token"`
			Life  int64  `json:"lease_duration"`
		} `json:"auth"`
	}
	switch err := json.Unmarshal(a.body, &body); {
	case a.status == http.StatusNotFound:
		return nil, fault(v.name, refused, nil, "there is no sign-in at auth/%s", mount)
	case a.status >= 400 && a.status < 500:
		return nil, fault(v.name, refused, nil, "it refused the sign-in by %s (HTTP %d): role, secret id or JWT are wrong or expired", method, a.status)
	case a.status != http.StatusOK || err != nil || body.Auth.Token == "":
		return nil, fault(v.name, unreachable, err, "it answered the sign-in with HTTP %d", a.status)
	}
	body.Auth.TTL = body.Auth.Life
	return body.Auth.session(body.Auth.Token, began), nil
}

func (v *vault) signInForm(ctx context.Context, method string) (map[string]string, error) {
	if method == "approle" {
		id, err := v.secret(ctx, "secret_id")
		form := map[string]string{"role_id": v.text("role")}
		if id != "" {
			form["secret_id"] = id
		}
		return form, err
	}
	jwt, err := v.secret(ctx, "jwt")
	if err != nil {
		return nil, err
	}
	if jwt == "" && method == "kubernetes" {
		text, err := os.ReadFile(serviceAccount)
		if err != nil {
			return nil, fault(v.name, refused, err, "the hub is not in a pod with a service account: %s cannot be read", serviceAccount)
		}
		jwt = string(text)
	}
	return map[string]string{"role": v.text("role"), "jwt": strings.TrimSpace(jwt)}, nil
}

// lease is how long a token lives, as the server says.
type lease struct {
	TTL       int64 `json:"ttl"` // seconds; 0: for ever
	Renewable bool  `json:"renewable"`
}

func (l lease) session(token string, began time.Time) *session {
	s := &session{token: token}
	if l.TTL <= 0 {
		return s
	}
	life := time.Duration(l.TTL) * time.Second
	s.expires = began.Add(life)
	if l.Renewable {
		s.renew = began.Add(life * 2 / 3)
	}
	return s
}

// lookUp asks how long token lives. A token that is not good is refused.
func (v *vault) lookUp(ctx context.Context, token string, life *lease) error {
	a, err := v.call(ctx, token, http.MethodGet, "auth/token/lookup-self", nil)
	if err != nil {
		return err
	}
	body := struct {
		Data *lease `json:"data"`
	}{life}
	if a.status == http.StatusForbidden || a.status == http.StatusUnauthorized || a.status == http.StatusBadRequest {
		return fault(v.name, refused, nil, "its token has expired, was revoked, or is wrong (HTTP %d)", a.status)
	}
	if err := json.Unmarshal(a.body, &body); a.status != http.StatusOK || err != nil {
		return fault(v.name, unreachable, err, "it answered HTTP %d", a.status)
	}
	return nil
}

// RenewSignIn implements renewer.
func (v *vault) RenewSignIn(ctx context.Context) error {
	s, err := v.session.Load(), error(nil)
	if s == nil && v.text("auth") == "token" { // nobody has used it yet, and it may be short-lived
		s, err = v.signedIn(ctx)
	}
	if err != nil || s == nil || s.renew.IsZero() || time.Now().Before(s.renew) {
		return err
	}
	began := time.Now()
	a, err := v.call(ctx, s.token, http.MethodPost, "auth/token/renew-self", map[string]string{})
	if err != nil {
		return err
	}
	var body struct {
		Auth struct {
			Life      int64 `json:"lease_duration"`
			Renewable bool  `json:"renewable"`
		} `json:"auth"`
	}
	if err := json.Unmarshal(a.body, &body); a.status != http.StatusOK || err != nil {
		return fault(v.name, refused, err, "its token was not renewed (HTTP %d)", a.status)
	}
	v.session.CompareAndSwap(s, lease{body.Auth.Life, body.Auth.Renewable}.session(s.token, began))
	return nil
}

// answer is what the server said.
type answer struct {
	status int
	body   []byte
}

// call makes one request. That the server cannot be reached, is sealed or has enough of us
// is an error; every other answer is not.
func (v *vault) call(ctx context.Context, token, method, path string, form map[string]string) (*answer, error) {
	var payload io.Reader
	if form != nil {
		text, err := json.Marshal(form)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(v.base.String(), "/")+"/v1/"+path, payload)
	if err != nil {
		return nil, fault(v.name, unreachable, err, "its address is not usable")
	}
	r.Header.Set("X-Vault-Request", "true")
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	if ns := v.text("namespace"); ns != "" {
		r.Header.Set("X-Vault-Namespace", ns)
	}
	resp, err := v.http.Do(r)
	if err != nil {
		return nil, unreached(v.name, v.base.Host, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, unreached(v.name, v.base.Host, err)
	}
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable && bytes.Contains(bytes.ToLower(body), []byte("sealed")):
		return nil, fault(v.name, sealed, nil, "it is sealed")
	case resp.StatusCode == http.StatusTooManyRequests:
		return nil, fault(v.name, throttled, nil, "it gets too many requests")
	case resp.StatusCode >= 500:
		return nil, fault(v.name, unreachable, nil, "it answered HTTP %d", resp.StatusCode)
	}
	return &answer{resp.StatusCode, body}, nil
}

// unreached is a request that got no answer. The URL, which names the key, is not repeated.
func unreached(name, host string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fault(name, unreachable, err, "cannot reach %s: %v", host, err)
}
