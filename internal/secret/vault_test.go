package secret_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
	"github.com/grantway/grantway/peers/peer"
)

// scene is a hub with an OpenBao and a provider that knows the client "app".
type scene struct {
	*grantwaytest.Hub
	bao      *peer.Bao
	provider *grantwaytest.Provider
	files    string
	database string
	log      *logBuffer
}

func newScene(t *testing.T, database string) *scene {
	t.Helper()
	s := newHub(t, database)
	s.bao = peer.OpenBao(t)
	return s
}

// newHub is a scene without an OpenBao.
func newHub(t *testing.T, database string) *scene {
	t.Helper()
	s := &scene{provider: grantwaytest.NewProvider(t), files: t.TempDir(), database: database, log: &logBuffer{}}
	s.Hub = grantwaytest.Start(t, grantwaytest.HubOptions{Database: database, SecretFiles: s.files, Log: s.log.logger()})
	return s
}

// each runs body on SQLite and on PostgreSQL.
func each(t *testing.T, body func(t *testing.T, s *scene)) {
	t.Run("SQLite", func(t *testing.T) { body(t, newScene(t, "")) })
	t.Run("PostgreSQL", func(t *testing.T) { body(t, newScene(t, storetest.Postgres(t))) })
}

func text(pairs ...string) grantway.Inputs {
	in := grantway.Inputs{}
	for i := 0; i < len(pairs); i += 2 {
		in[pairs[i]] = grantway.Text(pairs[i+1])
	}
	return in
}

// vault adds a store of kind vault that signs in with inputs.
func (s *scene) vault(t *testing.T, name string, inputs grantway.Inputs) grantway.SecretStore {
	t.Helper()
	inputs["address"] = grantway.Text(s.bao.URL)
	one, err := s.CreateSecretStore(t.Context(), grantway.SecretStore{Name: name, Kind: "vault", Inputs: inputs})
	if err != nil {
		t.Fatalf("add %s: %v", name, err)
	}
	return one
}

// rotate gives the client "app" another secret at the provider.
func (s *scene) rotate(secret string) {
	s.provider.Unregister("app")
	s.provider.Register(grantwaytest.Client{ID: "app", Secret: secret})
}

func (s *scene) credential(t *testing.T, name string, ref grantway.SecretRef) grantway.Credential {
	t.Helper()
	c, err := s.CreateCredential(t.Context(), grantway.Credential{Name: name, Inputs: grantway.Inputs{
		"client_id": grantway.Text("app"), "token_endpoint": grantway.Text(s.provider.Token.URL), "client_secret": {Ref: &ref},
	}})
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return c
}

// newToken asks for a token that is not in memory.
func (s *scene) newToken(t *testing.T, credential string) error {
	t.Helper()
	if err := s.Invalidate(t.Context(), credential, ""); err != nil {
		t.Fatal(err)
	}
	_, err := s.Token(t.Context(), grantway.Ref{Credential: credential})
	return err
}

func (s *scene) wantToken(t *testing.T, credential string) {
	t.Helper()
	if err := s.newToken(t, credential); err != nil {
		t.Fatalf("token of %s: %v", credential, err)
	}
}

func (s *scene) wantNoToken(t *testing.T, credential string, parts ...string) {
	t.Helper()
	wantError(t, s.newToken(t, credential), grantway.Unavailable, parts...)
}

func wantError(t *testing.T, err error, code grantway.Code, parts ...string) {
	t.Helper()
	var e *grantway.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %s %q", err, code, parts)
	}
	for _, part := range parts {
		if !strings.Contains(e.Error(), part) {
			t.Errorf("%q does not say %q", e, part)
		}
	}
}

// wantTest tries a store and wants these steps, as name and result.
func (s *scene) wantTest(t *testing.T, store string, key grantway.SecretRef, want string, parts ...string) {
	t.Helper()
	report, err := s.TestSecretStore(t.Context(), store, key)
	if err != nil {
		t.Fatalf("test %s: %v", store, err)
	}
	wantSteps(t, store, report, want, parts...)
}

func wantSteps(t *testing.T, store string, report grantway.Report, want string, parts ...string) {
	t.Helper()
	var got, messages []string
	for _, step := range report.Steps {
		got, messages = append(got, step.Name+" "+step.Result), append(messages, step.Message)
	}
	if g := strings.Join(got, ", "); g != want {
		t.Errorf("test of %s: %s, want %s\n%s", store, g, want, strings.Join(messages, "\n"))
	}
	for _, part := range parts {
		if !strings.Contains(strings.Join(messages, " "), part) {
			t.Errorf("%q does not say %q", messages, part)
		}
	}
}

const allOK = "reach ok, sign_in ok, read ok"

// TestVaultEndToEnd is the life of a secret in a store: it is referred to before it is there,
// appears, is rotated, and never gets into our database or log.
func TestVaultEndToEnd(t *testing.T) {
	each(t, func(t *testing.T, s *scene) {
		const first, second, third = "canary-first-3a", "canary-second-7c", "canary-third-9e"
		s.vault(t, "bao", grantway.Inputs{"token": grantway.Text(s.bao.Token), "path": grantway.Text("apps/grantway")})
		s.wantTest(t, "bao", grantway.SecretRef{}, allOK)
		s.rotate(first)

		c := s.credential(t, "sales", grantway.SecretRef{Store: "bao", Key: "sales/mail", Field: "client_secret"})
		if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Detail, "secret store bao has no key sales/mail") {
			t.Errorf("warnings of a reference to a missing key: %v", c.Warnings)
		}
		s.wantNoToken(t, "sales", "secret store bao", "no key sales/mail")

		s.bao.Put("apps/grantway/sales/mail", map[string]string{"client_secret": first, "user": "x"})
		s.wantToken(t, "sales")
		s.wantTest(t, "bao", grantway.SecretRef{Key: "sales/mail", Field: "client_secret"}, allOK)
		s.wantTest(t, "bao", grantway.SecretRef{Key: "sales/mail"}, "reach ok, sign_in ok, read failed", "fields client_secret, user")

		// Rotated on both sides: the value in memory is refused, read again, and works.
		s.rotate(second)
		s.bao.Put("apps/grantway/sales/mail", map[string]string{"client_secret": second})
		s.wantToken(t, "sales")

		// Rotated at the provider first: refused, until the store has it too.
		s.rotate(third)
		wantError(t, s.newToken(t, "sales"), grantway.TokenRefused, "invalid_client")
		s.bao.Put("apps/grantway/sales/mail", map[string]string{"client_secret": third})
		within(t, 5*time.Second, "the new value is used, without an edit and without waiting for the back-off", func() bool {
			_, err := s.Token(t.Context(), grantway.Ref{Credential: "sales"})
			return err == nil
		})

		// An older version by number, and one that was deleted.
		s.bao.Do("DELETE", "secret/data/apps/grantway/sales/mail", nil)
		s.bao.Do("POST", "secret/delete/apps/grantway/sales/mail", map[string]any{"versions": []int{2}})
		s.rotate(first)
		s.credential(t, "pinned", grantway.SecretRef{Store: "bao", Key: "sales/mail", Field: "client_secret", Version: "1"})
		s.wantToken(t, "pinned")
		s.credential(t, "deleted", grantway.SecretRef{Store: "bao", Key: "sales/mail", Field: "client_secret", Version: "2"})
		s.wantNoToken(t, "deleted", "secret store bao", "was deleted")
		s.credential(t, "never", grantway.SecretRef{Store: "bao", Key: "sales/mail", Field: "client_secret", Version: "99"})
		s.wantNoToken(t, "never", "secret store bao", "no key")

		// The store is in use, shows no secret, and neither does anything else.
		one, err := s.SecretStore(t.Context(), "bao")
		if err != nil || len(one.UsedBy) != 4 || !one.Inputs["token"].Set || one.LastSuccess.IsZero() {
			t.Errorf("store: %+v, %v", one, err)
		}
		wantError(t, s.DeleteSecretStore(t.Context(), "bao"), grantway.Conflict, "credential sales")
		s.nowhere(t, first, second, third, s.bao.NewToken(time.Hour, true))
	})
}

// TestVaultMessages has one message for each way in which a store can fail.
func TestVaultMessages(t *testing.T) {
	s := newScene(t, "")
	s.rotate("s1")
	s.bao.Put("app", map[string]string{"v": "s1"})
	s.bao.Policy("app", "secret/data/app")
	short := s.bao.NewToken(time.Hour, false, "app")
	s.vault(t, "bao", text("token", short, "ttl_seconds", "1", "hard_limit_seconds", "1"))
	s.credential(t, "app", grantway.SecretRef{Store: "bao", Key: "app"})
	s.wantToken(t, "app")

	// Not allowed: this key, while another one is.
	s.credential(t, "other", grantway.SecretRef{Store: "bao", Key: "other"})
	s.wantNoToken(t, "other", "secret store bao: permission denied", "other")
	s.wantTest(t, "bao", grantway.SecretRef{}, "reach ok, sign_in ok, read warning")
	s.wantTest(t, "bao", grantway.SecretRef{Key: "app"}, allOK)

	// The token is revoked behind our back.
	s.bao.Do("POST", "auth/token/revoke", map[string]string{"token": short})
	pastLimit(t, s)
	s.wantNoToken(t, "app", "secret store bao", "its token has expired, was revoked, or is wrong")
	s.wantTest(t, "bao", grantway.SecretRef{}, "reach ok, sign_in failed", "its token has expired")

	// Another one, which nobody can renew, runs out by itself.
	brief := s.bao.NewToken(time.Second, false, "app")
	if _, err := s.UpdateSecretStore(t.Context(), "bao", grantway.SecretStore{Inputs: text("address", s.bao.URL, "token", brief, "ttl_seconds", "1", "hard_limit_seconds", "1")}); err != nil {
		t.Fatal(err)
	}
	s.wantToken(t, "app")
	pastLimit(t, s)
	s.wantNoToken(t, "app", "secret store bao", "its token has expired, was revoked, or is wrong")

	// Another token heals it.
	one, err := s.UpdateSecretStore(t.Context(), "bao", grantway.SecretStore{Inputs: text("address", s.bao.URL, "token", s.bao.NewToken(time.Hour, true, "app"), "ttl_seconds", "1", "hard_limit_seconds", "1")})
	if err != nil || one.Version != 3 {
		t.Fatalf("update: %+v, %v", one, err)
	}
	s.wantToken(t, "app")

	s.bao.Do("PUT", "sys/seal", nil)
	pastLimit(t, s)
	s.wantNoToken(t, "app", "secret store bao", "it is sealed", "past the hard limit")
	s.wantTest(t, "bao", grantway.SecretRef{}, "reach failed", "it is sealed")

	status, err := s.Status(t.Context(), "app")
	if err != nil || status.LastError == nil || status.LastError.Hint != "Unseal it." {
		t.Errorf("status: %+v, %v", status, err)
	}

	s.bao.Stop()
	s.wantNoToken(t, "app", "secret store bao", "cannot reach 127.0.0.1:", "connection refused")
	s.wantTest(t, "bao", grantway.SecretRef{}, "reach failed", "cannot reach")
	list, err := s.SecretStores(t.Context())
	if err != nil || len(list) != 3 || !strings.Contains(list[0].Error, "cannot reach") || list[0].LastError == nil {
		t.Errorf("list: %+v, %v", list, err)
	}
}

// TestDraft tries settings that are not saved, of a new store and of one that is changed.
func TestDraft(t *testing.T) {
	each(t, func(t *testing.T, s *scene) {
		const wrong = "canary-draft-6b"
		s.bao.Put("app", map[string]string{"v": "s1"})
		try := func(draft grantway.SecretStore, want string, parts ...string) {
			t.Helper()
			report, err := s.TestSecretStoreDraft(t.Context(), draft, grantway.SecretRef{Key: "app"})
			if err != nil {
				t.Fatal(err)
			}
			wantSteps(t, draft.Name, report, want, parts...)
		}
		refuse := func(draft grantway.SecretStore, code grantway.Code, part string) {
			t.Helper()
			_, err := s.TestSecretStoreDraft(t.Context(), draft, grantway.SecretRef{})
			wantError(t, err, code, part)
		}
		draft := grantway.SecretStore{Name: "bao", Kind: "vault", Inputs: text("address", s.bao.URL, "token", s.bao.Token)}
		try(draft, allOK)
		draft.Inputs["token"] = grantway.Text(wrong)
		try(draft, "reach ok, sign_in failed", "secret store bao: its token has expired, was revoked, or is wrong")
		s.file(t, "token", s.bao.Token)
		draft.Inputs["token"] = grantway.Value{Ref: &grantway.SecretRef{Store: "file", Key: "token"}}
		try(draft, allOK)
		draft.Inputs["mount"] = grantway.Text("nowhere")
		try(draft, "reach ok, sign_in ok, read failed", "no key app")
		delete(draft.Inputs, "token")
		refuse(draft, grantway.Invalid, "inputs/token is required")
		refuse(grantway.SecretStore{Name: "bao", Kind: "vaul"}, grantway.Invalid, "kind must be one of vault")
		draft.Version = 1
		refuse(draft, grantway.NotFound, "no such secret store")
		if list, err := s.SecretStores(t.Context()); err != nil || len(list) != 2 {
			t.Errorf("a test has added a store: %+v, %v", list, err)
		}

		// A change: what it leaves out is what is saved, and what is saved stays as it is.
		saved := s.vault(t, "bao", text("token", s.bao.Token))
		change := grantway.SecretStore{Name: "bao", Version: saved.Version, Inputs: text("address", s.bao.URL, "mount", "nowhere")}
		try(change, "reach ok, sign_in ok, read failed", "no key app")
		change.Inputs = text("address", s.bao.URL, "token", wrong)
		try(change, "reach ok, sign_in failed")
		s.wantTest(t, "bao", grantway.SecretRef{Key: "app"}, allOK)
		if one, err := s.SecretStore(t.Context(), "bao"); err != nil || one.Version != 1 || one.Error != "" || one.LastError != nil || one.Inputs["mount"].Text != "" {
			t.Errorf("a test of a change has changed the store: %+v, %v", one, err)
		}
		change.Inputs = text("address", "https://169.254.169.254")
		refuse(change, grantway.Invalid, "a cloud metadata service")
		change.Version = 2
		refuse(change, grantway.PreconditionFailed, "another version")
		if n := s.count(t, `SELECT count(*) FROM audit WHERE action = 'store.test' AND detail = 'not saved'`); n != 6 {
			t.Errorf("%d tests of drafts in the audit trail, want 6", n)
		}
		s.nowhere(t, wrong)
	})
}

// pastLimit waits until what is in memory is older than the hard limit of one second.
func pastLimit(t *testing.T, s *scene) {
	t.Helper()
	<-time.After(1100 * time.Millisecond)
}

// TestVaultAway serves what is in memory while the store is away.
func TestVaultAway(t *testing.T) {
	s := newScene(t, "")
	s.rotate("s1")
	s.bao.Put("app", map[string]string{"v": "s1"})
	s.vault(t, "bao", text("token", s.bao.Token, "ttl_seconds", "1"))
	s.credential(t, "app", grantway.SecretRef{Store: "bao", Key: "app"})
	s.wantToken(t, "app")
	s.bao.Stop()
	<-time.After(1100 * time.Millisecond) // past its time to live
	s.wantToken(t, "app")
	report, err := s.ValidateCredential(t.Context(), "app")
	if err != nil || !report.OK || report.Steps[1].Result != "warning" || !strings.Contains(report.Steps[1].Hint, "It was in memory: secret store bao: cannot reach") {
		t.Errorf("report: %+v, %v", report, err)
	}
	one, err := s.SecretStore(t.Context(), "bao")
	if err != nil || one.LastError == nil || !strings.Contains(one.Error, "cannot reach") || one.LastSuccess.IsZero() {
		t.Errorf("health: %+v, %v", one, err)
	}
}

// TestVaultSignIn signs in by each method, in a namespace too, and reads KV version 1.
func TestVaultSignIn(t *testing.T) {
	s := newScene(t, "")
	s.rotate("s1")
	s.bao.Put("app", map[string]string{"v": "s1"})
	s.bao.Policy("app", "secret/data/app")
	try := func(t *testing.T, store string) {
		t.Helper()
		s.wantTest(t, store, grantway.SecretRef{Key: "app"}, allOK)
		s.credential(t, "by-"+store, grantway.SecretRef{Store: store, Key: "app"})
		s.wantToken(t, "by-"+store)
	}

	t.Run("approle", func(t *testing.T) {
		s.bao.Do("POST", "sys/auth/approle", map[string]string{"type": "approle"})
		s.bao.Do("POST", "auth/approle/role/hub", map[string]any{"token_policies": "app", "token_ttl": "2s", "token_max_ttl": "2s"})
		role := s.bao.Do("GET", "auth/approle/role/hub/role-id", nil)["data"].(map[string]any)["role_id"].(string)
		id := s.bao.Do("POST", "auth/approle/role/hub/secret-id", nil)["data"].(map[string]any)["secret_id"].(string)
		s.file(t, "secret-id", id+"\n")
		in := text("auth", "approle", "role", role, "ttl_seconds", "1")
		in["secret_id"] = grantway.Value{Ref: &grantway.SecretRef{Store: "file", Key: "secret-id"}}
		s.vault(t, "approle", in)
		try(t, "approle")
		<-time.After(2100 * time.Millisecond) // the session is over: it signs in again
		s.wantToken(t, "by-approle")
		s.wantTest(t, "approle", grantway.SecretRef{}, "reach ok, sign_in ok, read warning")

		s.file(t, "secret-id", "wrong")
		<-time.After(2100 * time.Millisecond)
		s.wantTest(t, "approle", grantway.SecretRef{}, "reach ok, sign_in failed", "refused the sign-in by approle")
		if err := os.Remove(filepath.Join(s.files, "secret-id")); err != nil {
			t.Fatal(err)
		}
		s.wantTest(t, "approle", grantway.SecretRef{}, "reach ok, sign_in failed", "its secret_id cannot be had: secret store file has no key secret-id")
	})

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	token := func(claims map[string]any) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		claims["iat"], claims["nbf"], claims["exp"] = time.Now().Unix(), time.Now().Unix(), time.Now().Add(time.Hour).Unix()
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}

	t.Run("jwt", func(t *testing.T) {
		s.bao.Do("POST", "sys/auth/ci", map[string]string{"type": "jwt"})
		s.bao.Do("POST", "auth/ci/config", map[string]any{"jwt_validation_pubkeys": []string{public}})
		s.bao.Do("POST", "auth/ci/role/hub", map[string]any{"role_type": "jwt", "user_claim": "sub", "bound_audiences": "bao", "token_policies": "app"})
		s.file(t, "jwt", token(map[string]any{"sub": "hub", "aud": "bao"}))
		in := text("auth", "jwt", "auth_mount", "ci", "role", "hub")
		in["jwt"] = grantway.Value{Ref: &grantway.SecretRef{Store: "file", Key: "jwt"}}
		s.vault(t, "jwt", in)
		try(t, "jwt")
	})

	t.Run("kubernetes", func(t *testing.T) {
		const account = "eyJhbGciOiJub25lIn0"
		review := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // of the API server
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			w.Write([]byte(`{"status": {"authenticated": true, "user": {"username": "system:serviceaccount:ns:hub", "uid": "u1"}}}`))
		}))
		defer review.Close()
		ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: review.Certificate().Raw}))
		s.bao.Do("POST", "sys/auth/kubernetes", map[string]string{"type": "kubernetes"})
		s.bao.Do("POST", "auth/kubernetes/config", map[string]any{"kubernetes_host": review.URL, "kubernetes_ca_cert": ca, "pem_keys": []string{public}, "disable_iss_validation": true, "token_reviewer_jwt": account})
		s.bao.Do("POST", "auth/kubernetes/role/hub", map[string]any{"bound_service_account_names": "hub", "bound_service_account_namespaces": "ns", "token_policies": "app"})
		pod := token(map[string]any{"sub": "system:serviceaccount:ns:hub", "kubernetes.io/serviceaccount/namespace": "ns",
			"kubernetes.io/serviceaccount/service-account.name": "hub", "kubernetes.io/serviceaccount/service-account.uid": "u1"})
		s.vault(t, "kubernetes", text("auth", "kubernetes", "role", "hub", "jwt", pod))
		try(t, "kubernetes")
		s.vault(t, "no-pod", text("auth", "kubernetes", "role", "hub"))
		s.wantTest(t, "no-pod", grantway.SecretRef{}, "reach ok, sign_in failed", "not in a pod")
	})

	t.Run("namespace", func(t *testing.T) {
		s.bao.Do("POST", "sys/namespaces/team", nil)
		s.bao.In("team", "POST", "sys/mounts/kv", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
		s.bao.In("team", "POST", "kv/data/app", map[string]any{"data": map[string]string{"v": "s1"}})
		s.vault(t, "namespace", text("token", s.bao.Token, "namespace", "team", "mount", "kv"))
		try(t, "namespace")
	})

	t.Run("KV version 1", func(t *testing.T) {
		s.bao.Do("POST", "sys/mounts/old", map[string]any{"type": "kv", "options": map[string]string{"version": "1"}})
		s.bao.Do("POST", "old/app", map[string]string{"v": "s1"})
		s.vault(t, "v1", text("token", s.bao.Token, "mount", "old", "kv_version", "1"))
		try(t, "v1")
		s.credential(t, "old-version", grantway.SecretRef{Store: "v1", Key: "app", Version: "3"})
		s.wantNoToken(t, "old-version", "KV version 1 keeps no versions")
		s.vault(t, "v1-of-v2", text("token", s.bao.Token, "kv_version", "1"))
		s.wantTest(t, "v1-of-v2", grantway.SecretRef{Key: "app"}, "reach ok, sign_in ok, read failed", "KV version 2")
	})

	t.Run("a key that is no path", func(t *testing.T) {
		s.vault(t, "odd", text("token", s.bao.Token))
		s.wantTest(t, "odd", grantway.SecretRef{Key: "../sys/health"}, "reach ok, sign_in ok, read failed", "lead nowhere")
		s.bao.Put("a%20b%3Fc%23d", map[string]string{"v": "s1"})
		s.credential(t, "odd-key", grantway.SecretRef{Store: "odd", Key: "a b?c#d"})
		s.wantToken(t, "odd-key")
	})
}

// TestVaultWrong is refused when it is saved.
func TestVaultWrong(t *testing.T) {
	s := newScene(t, "")
	for name, c := range map[string]struct {
		store grantway.SecretStore
		code  grantway.Code
		part  string
	}{
		"no kind":          {grantway.SecretStore{Name: "x"}, grantway.Invalid, "kind must be one of vault"},
		"no name":          {grantway.SecretStore{Kind: "vault"}, grantway.Invalid, "name is required"},
		"built in":         {grantway.SecretStore{Name: "ENV", Kind: "vault", Inputs: text("address", s.bao.URL, "token", "t")}, grantway.Conflict, "taken"},
		"no address":       {grantway.SecretStore{Name: "x", Kind: "vault", Inputs: text("token", "t")}, grantway.Invalid, "inputs/address is required"},
		"no token":         {grantway.SecretStore{Name: "x", Kind: "vault", Inputs: text("address", s.bao.URL)}, grantway.Invalid, "inputs/token is required"},
		"no role":          {grantway.SecretStore{Name: "x", Kind: "vault", Inputs: text("address", s.bao.URL, "auth", "jwt", "jwt", "x")}, grantway.Invalid, "inputs/role is required"},
		"unknown":          {grantway.SecretStore{Name: "x", Kind: "vault", Inputs: text("address", s.bao.URL, "token", "t", "colour", "red")}, grantway.Invalid, "inputs/colour is not an input"},
		"metadata service": {grantway.SecretStore{Name: "x", Kind: "vault", Inputs: text("address", "https://169.254.169.254", "token", "t")}, grantway.Invalid, "a cloud metadata service"},
		"sign in from another store": {grantway.SecretStore{Name: "x", Kind: "vault", Inputs: grantway.Inputs{"address": grantway.Text(s.bao.URL),
			"token": {Ref: &grantway.SecretRef{Store: "bao", Key: "k"}}}}, grantway.Invalid, "must be env or file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.CreateSecretStore(t.Context(), c.store)
			wantError(t, err, c.code, c.part)
		})
	}
	s.vault(t, "bao", text("token", "t"))
	_, err := s.CreateSecretStore(t.Context(), grantway.SecretStore{Name: "BAO", Kind: "vault", Inputs: text("address", s.bao.URL, "token", "t")})
	wantError(t, err, grantway.Conflict, "taken")
	_, err = s.UpdateSecretStore(t.Context(), "bao", grantway.SecretStore{Name: "other", Inputs: text("address", s.bao.URL)})
	wantError(t, err, grantway.Invalid, "name cannot be changed")
	_, err = s.UpdateSecretStore(t.Context(), "bao", grantway.SecretStore{Version: 7, Inputs: text("address", s.bao.URL)})
	wantError(t, err, grantway.PreconditionFailed)
	_, err = s.UpdateSecretStore(t.Context(), "env", grantway.SecretStore{})
	wantError(t, err, grantway.Conflict, "always there")
	wantError(t, s.DeleteSecretStore(t.Context(), "env"), grantway.Conflict, "always there")
	if err := s.DeleteSecretStore(t.Context(), "bao"); err != nil {
		t.Error(err)
	}
	wantError(t, s.DeleteSecretStore(t.Context(), "bao"), grantway.NotFound)
}

// TestSwitch moves a secret out of the hub and back in; what it leaves is wiped.
func TestSwitch(t *testing.T) {
	each(t, func(t *testing.T, s *scene) {
		const inside = "canary-inside-4d"
		s.rotate(inside)
		s.bao.Put("app", map[string]string{"v": inside})
		s.vault(t, "bao", text("token", s.bao.Token))
		c := s.credential(t, "app", grantway.SecretRef{Store: "bao", Key: "app"})
		sealed := func() int { return s.count(t, `SELECT count(*) FROM credential_secret`) }
		if n := sealed(); n != 0 {
			t.Errorf("%d sealed secrets with an external one", n)
		}
		c.Inputs["client_secret"] = grantway.Text(inside)
		c, err := s.UpdateCredential(t.Context(), c.Name, c)
		if err != nil || sealed() != 1 || !c.Inputs["client_secret"].Set {
			t.Errorf("internal: %v, %+v", err, c.Inputs)
		}
		if n := s.count(t, `SELECT count(*) FROM credential WHERE inputs LIKE '%bao%'`); n != 0 {
			t.Error("the reference is still there")
		}
		if err := s.DeleteSecretStore(t.Context(), "bao"); err != nil {
			t.Errorf("nothing refers to it any more: %v", err)
		}
		s.vault(t, "bao", text("token", s.bao.Token))
		c.Inputs["client_secret"] = grantway.Value{Ref: &grantway.SecretRef{Store: "bao", Key: "app"}}
		stays := s.sealed(t)
		if _, err := s.UpdateCredential(t.Context(), c.Name, c); err != nil || sealed() != 0 {
			t.Errorf("external again: %v, %d sealed secrets", err, sealed())
		}
		s.wiped(t, stays)
		s.wantToken(t, "app")

		// The same for what a store signs in with.
		stored := func() int { return s.count(t, `SELECT count(*) FROM secret_store_secret`) }
		if stored() != 1 {
			t.Errorf("%d sign-in secrets", stored())
		}
		t.Setenv("BAO_SIGN_IN", s.bao.Token)
		in := text("address", s.bao.URL)
		in["token"] = grantway.Value{Ref: &grantway.SecretRef{Store: "env", Key: "BAO_SIGN_IN"}}
		if _, err := s.UpdateSecretStore(t.Context(), "bao", grantway.SecretStore{Inputs: in}); err != nil || stored() != 0 {
			t.Errorf("sign-in from the environment: %v, %d sealed", err, stored())
		}
		s.wantToken(t, "app")
		if _, err := s.RotateKey(t.Context()); err != nil {
			t.Error(err)
		}
		s.wantToken(t, "app")
		s.nowhere(t, inside)
	})
}

// sealed is the one sealed secret of a credential.
func (s *scene) sealed(t *testing.T) (value []byte) {
	t.Helper()
	db := s.open(t)
	defer db.Close()
	if err := db.Read().QueryRowContext(t.Context(), `SELECT sealed FROM credential_secret`).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// wiped wants that a value is nowhere in the file of an embedded database, not even where
// deleted rows were. What becomes of those of PostgreSQL is up to its vacuum.
func (s *scene) wiped(t *testing.T, value []byte) {
	t.Helper()
	if s.database != "" {
		return
	}
	path := filepath.Join(s.Data, "grantway.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal"} {
		if text, err := os.ReadFile(name); err != nil || bytes.Contains(text, value) {
			t.Errorf("%s: the sealed secret is still in it, or %v", filepath.Base(name), err)
		}
	}
}

// TestVaultRenewal keeps a token alive that nobody uses.
func TestVaultRenewal(t *testing.T) {
	s := newScene(t, "")
	token := s.bao.NewToken(3*time.Second, true, "default")
	s.vault(t, "bao", text("token", token))
	within(t, 10*time.Second, "the token is renewed", func() bool {
		return s.bao.Do("POST", "auth/token/lookup", map[string]string{"token": token})["data"].(map[string]any)["last_renewal_time"] != nil
	})
	s.wantTest(t, "bao", grantway.SecretRef{}, "reach ok, sign_in ok, read warning")
}

// TestDeleteWhileReferring has one of two win: no credential ends up with a store that is gone.
func TestDeleteWhileReferring(t *testing.T) {
	each(t, func(t *testing.T, s *scene) {
		for i := range 10 {
			name := fmt.Sprintf("bao%d", i)
			s.vault(t, name, text("token", s.bao.Token))
			var wg sync.WaitGroup
			var saved, removed error
			wg.Go(func() {
				_, saved = s.CreateCredential(t.Context(), grantway.Credential{Name: name, Inputs: grantway.Inputs{"client_id": grantway.Text("app"),
					"token_endpoint": grantway.Text(s.provider.Token.URL), "client_secret": {Ref: &grantway.SecretRef{Store: name, Key: "k"}}}})
			})
			wg.Go(func() { removed = s.DeleteSecretStore(t.Context(), name) })
			wg.Wait()
			if (saved == nil) == (removed == nil) {
				t.Errorf("saved: %v, removed: %v; want one of them", saved, removed)
			}
		}
	})
}
