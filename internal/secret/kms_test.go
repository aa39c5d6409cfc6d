package secret_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/app"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
	"github.com/grantway/grantway/peers/peer"
)

// keyTest is a KMS in which a hub has its key.
type keyTest struct {
	spec     string
	asked    func() int64 // how many times the KMS was asked
	faults   []keyFault   // in this order
	repaired func()       // puts right what the faults did
}

type keyFault struct {
	name, message string
	set           func()
}

// run starts hubs with the key, one after the other, and then with each fault.
func (k keyTest) run(t *testing.T) {
	t.Helper()
	const inside = "canary-kms-inside-4d"
	provider := grantwaytest.NewProvider(t)
	provider.Register(grantwaytest.Client{ID: "app", Secret: inside})
	data, log := t.TempDir(), &logBuffer{}
	hub := func(name string, use func(t *testing.T, hub *grantwaytest.Hub)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			use(t, grantwaytest.Start(t, grantwaytest.HubOptions{Data: data, Key: k.spec, Log: log.logger()}))
		})
	}
	token := func(t *testing.T, hub *grantwaytest.Hub) {
		t.Helper()
		if err := hub.Invalidate(t.Context(), "app", ""); err != nil {
			t.Error(err)
		}
		if _, err := hub.Token(t.Context(), grantway.Ref{Credential: "app"}); err != nil {
			t.Error(err)
		}
	}
	hub("first start", func(t *testing.T, hub *grantwaytest.Hub) {
		if _, err := hub.CreateCredential(t.Context(), grantway.Credential{Name: "app", Inputs: text("client_id", "app", "token_endpoint", provider.Token.URL, "client_secret", inside)}); err != nil {
			t.Fatal(err)
		}
		token(t, hub)
	})
	hub("second start", func(t *testing.T, hub *grantwaytest.Hub) {
		before := k.asked()
		token(t, hub)
		for range 3 { // the third removes a data key
			if _, err := hub.RotateKey(t.Context()); err != nil {
				t.Error(err)
			}
		}
		token(t, hub)
		if n := k.asked() - before; n != 0 {
			t.Errorf("a running hub asked the KMS %d times", n)
		}
	})

	seen := map[string]string{}
	for _, fault := range k.faults {
		fault.set()
		hub, err := app.New(t.Context(), app.Options{Listen: "127.0.0.1:0", Data: data, Key: k.spec, Log: log.logger()})
		if err == nil {
			hub.Stop(t.Context())
			t.Errorf("%s: the hub starts", fault.name)
			continue
		}
		message := err.Error()
		if !strings.Contains(message, fault.message) || !strings.HasPrefix(message, "key "+k.spec+": ") {
			t.Errorf("%s: %q, want %q", fault.name, message, fault.message)
		}
		if other, ok := seen[message]; ok {
			t.Errorf("%s and %s have the same message %q", fault.name, other, message)
		}
		seen[message] = fault.name
	}
	k.repaired()
	hub("after the faults", token)

	look := func(where string, text []byte) {
		if bytes.Contains(text, []byte(inside)) {
			t.Errorf("the secret is in %s", where)
		}
	}
	look("the log", log.bytes())
	text, err := os.ReadFile(filepath.Join(data, "grantway.db"))
	if err != nil {
		t.Error(err)
	}
	look("the database", text)
	if _, err := os.Stat(filepath.Join(data, "key")); err == nil {
		t.Error("there is a key file beside the KMS")
	}
}

// TestTransitKey has the hub's key in the Transit engine of an OpenBao.
func TestTransitKey(t *testing.T) {
	bao := peer.OpenBao(t)
	bao.Do("POST", "sys/mounts/transit", map[string]string{"type": "transit"})
	bao.Do("POST", "transit/keys/hub", nil)
	policy := func(paths ...string) {
		var text strings.Builder
		for _, path := range paths {
			fmt.Fprintf(&text, "path %q { capabilities = [\"update\"] }\n", path)
		}
		bao.Do("PUT", "sys/policies/acl/hub", map[string]string{"policy": text.String()})
	}
	policy("transit/datakey/plaintext/hub", "transit/decrypt/hub")
	var asked atomic.Int64
	target, err := url.Parse(bao.URL)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		pass.ServeHTTP(w, r)
	}))
	defer front.Close()
	token := bao.NewToken(time.Hour, true, "hub")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("VAULT_ADDR", front.URL)
	t.Setenv("VAULT_TOKEN", token)
	export := func(key string) string {
		return bao.Do("GET", "transit/backup/"+key, nil)["data"].(map[string]any)["backup"].(string)
	}
	var backup string
	keyTest{
		spec: "vault:transit/hub", asked: asked.Load,
		faults: []keyFault{
			{"no token", "the hub has no token; correct what the hub signs in with: VAULT_TOKEN", func() { os.Unsetenv("VAULT_TOKEN") }},
			{"wrong token", "its token has expired, was revoked, or is wrong", func() { os.Setenv("VAULT_TOKEN", "wrong") }},
			{"denied", "permission denied: the policies of the hub's token do not allow transit/decrypt/hub", func() { os.Setenv("VAULT_TOKEN", token); policy("transit/datakey/plaintext/hub") }},
			{"another key", "it does not open the keyset, so it is another key than the one that sealed it; put back the key", func() {
				policy("transit/datakey/plaintext/hub", "transit/decrypt/hub")
				bao.Do("POST", "transit/keys/hub/config", map[string]bool{"deletion_allowed": true, "exportable": true, "allow_plaintext_backup": true})
				backup = export("hub")
				bao.Do("DELETE", "transit/keys/hub", nil)
				bao.Do("POST", "transit/keys/hub", nil)
			}},
			{"no key", "there is no such key; make the key, or correct --key", func() {
				bao.Do("POST", "transit/keys/hub/config", map[string]bool{"deletion_allowed": true})
				bao.Do("DELETE", "transit/keys/hub", nil)
			}},
			{"disabled", "no longer allowed to decrypt (min_decryption_version); enable it again", func() {
				bao.Do("POST", "transit/restore/hub", map[string]string{"backup": backup})
				bao.Do("POST", "transit/keys/hub/rotate", nil)
				bao.Do("POST", "transit/keys/hub/config", map[string]int{"min_decryption_version": 2})
			}},
			{"no answer", "cannot reach 127.0.0.1:1: ", func() { os.Setenv("VAULT_ADDR", "http://127.0.0.1:1") }},
			{"plain http", "plain http is only for loopback addresses", func() { os.Setenv("VAULT_ADDR", "http://192.0.2.1") }},
		},
		repaired: func() { // the key has another version by now, and keeps the first
			os.Setenv("VAULT_ADDR", front.URL)
			bao.Do("POST", "transit/keys/hub/config", map[string]int{"min_decryption_version": 1})
		},
	}.run(t)

	// A token may be in the file of the vendor's command, an agent's namespace in the environment.
	os.Unsetenv("VAULT_TOKEN")
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".vault-token"), []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := secret.OpenKey("vault:transit/hub", nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func() error {
		db := storetest.Open(t, storetest.SQLite(t))
		sealer, err := seal.Open(t.Context(), db, key)
		if err == nil {
			sealer.Close()
		}
		return err
	}
	if err := open(); err != nil {
		t.Errorf("with a token from a file: %v", err)
	}
	bao.Do("PUT", "sys/seal", nil)
	if key, err = secret.OpenKey("vault:transit/hub", nil); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "it is sealed; unseal it") {
		t.Errorf("sealed: %v", err)
	}
}

// TestKeyChange moves replicas from a key file to OpenBao, one by one, while both serve.
func TestKeyChange(t *testing.T) {
	bao := peer.OpenBao(t)
	bao.Do("POST", "sys/mounts/transit", map[string]string{"type": "transit"})
	bao.Do("POST", "transit/keys/hub", nil)
	t.Setenv("BAO_ADDR", bao.URL)
	t.Setenv("BAO_TOKEN", bao.Token)
	url := storetest.Postgres(t)
	s := newHub(t, url)
	s.rotate("s1")
	if _, err := s.CreateCredential(t.Context(), grantway.Credential{Name: "app", Inputs: text("client_id", "app", "token_endpoint", s.provider.Token.URL, "client_secret", "s1")}); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	open := func(spec string) (seal.KEK, *seal.Sealer) {
		t.Helper()
		key, err := secret.OpenKey(spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		sealer, err := seal.Open(t.Context(), db, key)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(sealer.Close)
		return key, sealer
	}
	file, sealer := open("file:" + filepath.Join(s.Data, "key"))
	transit, err := secret.OpenKey("vault:transit/hub", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sealer.AddWrap(t.Context(), transit, nil); err != nil {
		t.Fatal(err)
	}
	other := &scene{provider: s.provider, log: &logBuffer{}}
	other.Hub = grantwaytest.Start(t, grantwaytest.HubOptions{Database: url, Key: "vault:transit/hub", Data: s.Data, Log: other.log.logger()})
	s.wantToken(t, "app")
	other.wantToken(t, "app")
	_, sealer = open("vault:transit/hub")
	if err := sealer.RemoveWrap(t.Context(), file.ID, nil); err != nil {
		t.Fatal(err)
	}
	s.wantToken(t, "app") // it still runs with the file
	if _, err := other.RotateKey(t.Context()); err != nil {
		t.Error(err)
	}
	bao.Stop()
	other.wantToken(t, "app")
	if _, err := other.RotateKey(t.Context()); err != nil {
		t.Errorf("rotate while the KMS is away: %v", err)
	}
	other.wantToken(t, "app")
	wantRefused(t, url, "vault:transit/hub", "cannot reach", "the hub needs it to start, and not afterwards: see that it can be reached")
	wantRefused(t, url, "file:"+filepath.Join(s.Data, "key"), "wrong key: this database is sealed by the key with id "+transit.ID)
}

// wantRefused wants that a hub does not start.
func wantRefused(t *testing.T, database, key string, parts ...string) {
	t.Helper()
	hub, err := app.New(t.Context(), app.Options{Listen: "127.0.0.1:0", Data: t.TempDir(), Database: database, Key: key, Log: (&logBuffer{}).logger()})
	if err == nil {
		hub.Stop(t.Context())
		t.Fatal("the hub starts")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// TestAWSKey has the hub's key in a double of AWS KMS that checks Signature Version 4.
func TestAWSKey(t *testing.T) {
	const id, secret = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	var asked atomic.Int64
	keys := map[string][]byte{} // by what they are encrypted to
	double := newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		body, _ := io.ReadAll(r.Body)
		if why := checkSigV4(r, body, "eu-central-1", "kms", id, secret); why != "" {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"__type":"InvalidSignatureException","message":%s}`, quoted(why))
			return
		}
		var in struct {
			KeyId, KeySpec    string
			CiphertextBlob    []byte
			EncryptionContext map[string]string
		}
		if err := json.Unmarshal(body, &in); err != nil || in.KeyId != arn || !maps.Equal(in.EncryptionContext, map[string]string{"application": "grantway"}) {
			t.Errorf("request %+v, %v", in, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
		if fault, ok := c.answers[operation]; ok {
			w.WriteHeader(fault.status)
			io.WriteString(w, fault.body)
			return
		}
		switch operation {
		case "GenerateDataKey":
			if in.KeySpec != "AES_256" {
				t.Errorf("key spec %s", in.KeySpec)
			}
			in.CiphertextBlob = random(40)
			keys[string(in.CiphertextBlob)] = random(32)
		case "Decrypt":
			if keys[string(in.CiphertextBlob)] == nil {
				t.Error("decrypts what it did not encrypt")
			}
		default:
			t.Errorf("operation %s", operation)
		}
		fmt.Fprintf(w, `{"KeyId":%q,"Plaintext":%s,"CiphertextBlob":%s}`, arn, quoted(keys[string(in.CiphertextBlob)]), quoted(in.CiphertextBlob))
	})
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none,
		"AWS_ENDPOINT_URL_KMS": double.URL, "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"} { // the region of an ARN counts
		t.Setenv(name, value)
	}
	fault := func(code, text string) func() {
		return func() { double.set("Decrypt", 400, `{"__type":"`+code+`","message":"`+text+`"}`) }
	}
	keyTest{
		spec: "aws:" + arn, asked: asked.Load,
		faults: []keyFault{
			{"denied", "permission denied: the hub's identity may not kms:Decrypt; allow", fault("AccessDeniedException", "User: arn:aws:iam::1:user/x is not authorized to perform: kms:Decrypt")},
			{"disabled", "the key is disabled; enable it again", fault("DisabledException", arn+" is disabled.")},
			{"pending deletion", "waits to be deleted", fault("KMSInvalidStateException", arn+" is pending deletion.")},
			{"no key", "there is no such key", fault("NotFoundException", "Key does not exist")},
			{"another key", "it does not open the keyset", fault("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")},
			{"throttled", "too many requests (ThrottlingException)", fault("ThrottlingException", "Rate exceeded")},
			{"expired", "does not accept the hub's credentials (ExpiredTokenException); correct what the hub signs in with: AWS_ACCESS_KEY_ID", fault("ExpiredTokenException", "expired")},
			{"broken", "it answered KMSInternalException", fault("KMSInternalException", "x")},
			{"wrong secret", "does not accept the hub's credentials (InvalidSignatureException)", func() { os.Setenv("AWS_SECRET_ACCESS_KEY", "wrong") }},
			{"no credentials", "no credentials were found", func() { os.Unsetenv("AWS_SECRET_ACCESS_KEY"); os.Unsetenv("AWS_ACCESS_KEY_ID") }},
			{"no answer", "cannot reach AWS KMS", func() {
				os.Setenv("AWS_ACCESS_KEY_ID", id)
				os.Setenv("AWS_SECRET_ACCESS_KEY", secret)
				os.Setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
			}},
		},
		repaired: func() {
			os.Setenv("AWS_ENDPOINT_URL_KMS", double.URL)
			double.forget("Decrypt")
		},
	}.run(t)
}

func (c *cloud) forget(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.answers, what)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// TestAzureKey has the hub's key in a double of Azure Key Vault, which wraps with a real RSA key.
func TestAzureKey(t *testing.T) {
	const bearer, appSecret, version = "canary-azure-token-1f", "canary-azure-secret-8d", "78deebed173b48e48f55abf87ed4cf71"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	var double *cloud
	double = newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/tenant-1/oauth2/v2.0/token" {
			const scope = "https://0.0.1/.default" // what comes after the first dot of the vault's host
			if why := checkEntra(r, scope, appSecret, &key.PublicKey, nil, double.URL+r.URL.Path); why != "" {
				w.WriteHeader(401)
				fmt.Fprintf(w, `{"error":"invalid_client","error_description":%s}`, quoted(why))
				return
			}
			fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3599,"access_token":%q}`, bearer)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+bearer || r.URL.Query().Get("api-version") == "" {
			w.WriteHeader(401)
			return
		}
		var in struct{ Alg, Value string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Alg != "RSA-OAEP-256" {
			t.Errorf("request %+v, %v", in, err)
		}
		value, err := base64.RawURLEncoding.DecodeString(in.Value)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		fault, failing := c.answers["unwrapkey"]
		switch r.Method + " " + r.URL.Path {
		case "POST /keys/hub/wrapkey":
			value, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, value, nil)
		case "POST /keys/hub/" + version + "/unwrapkey":
			if failing {
				w.WriteHeader(fault.status)
				io.WriteString(w, fault.body)
				return
			}
			value, err = rsa.DecryptOAEP(sha256.New(), nil, key, value, nil)
		default:
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, `{"kid":"https://my-vault.vault.azure.net/keys/hub/%s","value":%q}`, version, base64.RawURLEncoding.EncodeToString(value))
	})
	for name, value := range map[string]string{"AZURE_TENANT_ID": "tenant-1", "AZURE_CLIENT_ID": "app-1", "AZURE_CLIENT_SECRET": appSecret, "AZURE_AUTHORITY_HOST": double.URL} {
		t.Setenv(name, value)
	}
	fault := func(status int, code, inner string) func() {
		return func() {
			double.set("unwrapkey", status, fmt.Sprintf(`{"error":{"code":%q,"message":"x","innererror":{"code":%q}}}`, code, inner))
		}
	}
	keyTest{
		spec: "azure:" + double.URL + "/keys/hub", asked: asked.Load,
		faults: []keyFault{
			{"denied", "permission denied: the hub's identity may not unwrapkey", fault(403, "Forbidden", "ForbiddenByRbac")},
			{"disabled", "is disabled; enable it again", fault(403, "Forbidden", "KeyDisabled")}, // wrapkey still works then
			{"no key", "there is no such key, or it was deleted", fault(404, "KeyNotFound", "")},
			{"another key", "it does not open the keyset", fault(400, "BadParameter", "")},
			{"throttled", "too many requests", fault(429, "Throttled", "")},
			{"expired", "does not accept the hub's token (HTTP 401)", fault(401, "Unauthorized", "")},
			{"broken", "it answered HTTP 503", fault(503, "", "")},
			{"wrong secret", "the sign-in by client_secret was refused", func() { os.Setenv("AZURE_CLIENT_SECRET", "wrong") }},
			{"no certificate", "AZURE_CLIENT_CERTIFICATE_PATH names cannot be read", func() {
				os.Unsetenv("AZURE_CLIENT_SECRET")
				os.Setenv("AZURE_CLIENT_CERTIFICATE_PATH", "/nowhere")
			}},
		},
		repaired: func() {
			os.Unsetenv("AZURE_CLIENT_CERTIFICATE_PATH")
			os.Setenv("AZURE_CLIENT_SECRET", appSecret)
			double.forget("unwrapkey")
		},
	}.run(t)
}

// TestGoogleKey has the hub's key in a double of Google Cloud KMS.
func TestGoogleKey(t *testing.T) {
	const bearer, name = "canary-google-token-6a", "projects/p1/locations/europe-west3/keyRings/ring/cryptoKeys/hub"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	keys := map[string][]byte{}
	var double *cloud
	double = newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/token" {
			if why := checkGoogle(r, &key.PublicKey, double.URL+"/token"); why != "" {
				w.WriteHeader(400)
				fmt.Fprintf(w, `{"error":"invalid_grant","error_description":%s}`, quoted(why))
				return
			}
			fmt.Fprintf(w, `{"access_token":%q,"expires_in":3599,"token_type":"Bearer"}`, bearer)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+bearer {
			w.WriteHeader(401)
			return
		}
		var in struct{ Plaintext, Ciphertext, AdditionalAuthenticatedData []byte }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || string(in.AdditionalAuthenticatedData) != "grantway" {
			t.Errorf("request %+v, %v", in, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		switch operation := strings.TrimPrefix(r.URL.Path, "/v1/"+name+":"); operation {
		case "encrypt":
			in.Ciphertext = random(60)
			keys[string(in.Ciphertext)] = in.Plaintext
			fmt.Fprintf(w, `{"name":%q,"ciphertext":%s}`, name+"/cryptoKeyVersions/1", quoted(in.Ciphertext))
		case "decrypt":
			if fault, ok := c.answers[operation]; ok {
				w.WriteHeader(fault.status)
				io.WriteString(w, fault.body)
				return
			}
			fmt.Fprintf(w, `{"plaintext":%s,"usedPrimary":true}`, quoted(keys[string(in.Ciphertext)]))
		default:
			t.Errorf("path %s", r.URL.Path)
		}
	})
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	adc := filepath.Join(t.TempDir(), "adc.json")
	if err := os.WriteFile(adc, []byte(quoted(map[string]string{"type": "service_account", "project_id": "p1", "private_key_id": "k1", "client_email": "hub@p1.iam.gserviceaccount.com",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), "token_uri": double.URL + "/token"})), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", adc)
	fault := func(code int, status, text string) func() {
		return func() {
			double.set("decrypt", code, fmt.Sprintf(`{"error":{"code":%d,"message":%q,"status":%q}}`, code, text, status))
		}
	}
	keyTest{
		spec: "google:" + double.URL + "/v1/" + name, asked: asked.Load,
		faults: []keyFault{
			{"denied", "permission denied: the hub's identity may not decrypt with it (roles/cloudkms.cryptoKeyEncrypterDecrypter)", fault(403, "PERMISSION_DENIED", "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied")},
			{"disabled", "disabled or destroyed; enable it again", fault(400, "FAILED_PRECONDITION", name+"/cryptoKeyVersions/1 is not enabled, current state is: DISABLED.")},
			{"no key", "there is no such key", fault(404, "NOT_FOUND", "CryptoKey not found.")},
			{"another key", "it does not open the keyset", fault(400, "INVALID_ARGUMENT", "Decryption failed: verify that 'name' refers to the correct CryptoKey.")},
			{"throttled", "too many requests", fault(429, "RESOURCE_EXHAUSTED", "Quota exceeded")},
			{"expired", "does not accept the hub's token", fault(401, "UNAUTHENTICATED", "x")},
			{"broken", "it answered HTTP 503", fault(503, "UNAVAILABLE", "x")},
			{"no credentials", "there are no application default credentials of Google; correct what the hub signs in with: GOOGLE_APPLICATION_CREDENTIALS", func() {
				os.Setenv("GOOGLE_APPLICATION_CREDENTIALS", adc+".none")
			}},
		},
		repaired: func() {
			os.Setenv("GOOGLE_APPLICATION_CREDENTIALS", adc)
			double.forget("decrypt")
		},
	}.run(t)
}

// TestKeyForms are accepted or refused by what they look like, without a word of what was given.
func TestKeyForms(t *testing.T) {
	t.Setenv("VAULT_ADDR", "https://vault.example.com")
	ids := map[string]string{}
	for _, spec := range []string{
		"vault:transit/hub", "vault:team/transit/hub", "aws:alias/hub", "aws:1234abcd-12ab-34cd-56ef-1234567890ab", "aws:mrk-1234", "aws:arn:aws-us-gov:kms:us-gov-west-1:1:alias/hub",
		"azure:https://v.vault.azure.net/keys/hub", "azure:https://v.managedhsm.azure.net/keys/hub/0123", "google:projects/p/locations/global/keyRings/r/cryptoKeys/k",
	} {
		key, err := secret.OpenKey(spec, nil)
		if err != nil || key.Source != spec || ids[key.ID] != "" {
			t.Errorf("%s: %v, %v", spec, key, err)
		}
		ids[key.ID] = spec
	}
	for spec, want := range map[string]string{
		"canary": secret.KeyForms, "": secret.KeyForms, "canary:x": secret.KeyForms, "env:": "env:NAME",
		"vault:canary": "vault:MOUNT/KEY", "vault:/canary": "vault:MOUNT/KEY", "vault:transit/../canary": "vault:MOUNT/KEY", "vault:": "vault:MOUNT/KEY",
		"aws:": "alias/NAME", "aws:canary/key": "alias/NAME", "aws:arn:aws:s3:::canary": "alias/NAME",
		"azure:": "the URL of a key", "azure:https://v.vault.azure.net": "the URL of a key", "azure:https://v.vault.azure.net/secrets/canary": "the URL of a key",
		"azure:https://u:canary@v.vault.azure.net/keys/k": "the URL of a key", "azure:https://v.vault.azure.net/keys/a/b/canary": "the URL of a key",
		"google:canary": "the name of a key", "google:https://canary/v1/projects/p": "the name of a key", "google:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/canary": "the name of a key",
	} {
		_, err := secret.OpenKey(spec, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
	for address, want := range map[string]string{"https://u:canary@vault.example.com": "VAULT_ADDR is not a URL", "canary": "VAULT_ADDR is not a URL", "": "VAULT_ADDR is not set"} {
		t.Setenv("VAULT_ADDR", address)
		if _, err := secret.OpenKey("vault:transit/hub", nil); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("VAULT_ADDR %s: %v, want %q", address, err, want)
		}
	}
}

// TestKeySecrets are not for a store to hand out.
func TestKeySecrets(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/adc.json")
	variables, files := secret.KeySecrets("google:projects/p")
	if !slices.Equal(variables, []string{"GOOGLE_"}) || !slices.Equal(files, []string{"/adc.json"}) {
		t.Errorf("%q, %q", variables, files)
	}
	if variables, files := secret.KeySecrets("file:/key"); variables != nil || files != nil {
		t.Errorf("of a key file: %q, %q", variables, files)
	}
}
