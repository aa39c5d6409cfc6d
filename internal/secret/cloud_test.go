package secret_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
)

// cloud is a double of a cloud's secret store and of where one signs in to it. It checks who
// asks, as the cloud would, and answers what the test says.
type cloud struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string]reply // by what is asked for
	asked   []string
	signIns int
}

type reply struct {
	status int
	body   string
}

func (c *cloud) set(what string, status int, body string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[what] = reply{status, body}
}

// answer writes what was set for what, or missing.
func (c *cloud) answer(w http.ResponseWriter, what string, missing reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, what)
	r, ok := c.answers[what]
	if !ok {
		r = missing
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	io.WriteString(w, r.body)
}

func (c *cloud) count(what string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.asked {
		if one == what {
			n++
		}
	}
	return n
}

func newCloud(t *testing.T, handle func(c *cloud, w http.ResponseWriter, r *http.Request)) *cloud {
	t.Helper()
	c := &cloud{answers: map[string]reply{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(c, w, r) }))
	t.Cleanup(c.Close)
	return c
}

func quoted(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// add adds a store whose values are read again at every use.
func (s *scene) add(t *testing.T, name, kind string, in grantway.Inputs) {
	t.Helper()
	in["hard_limit_seconds"] = grantway.Text("1")
	in["ttl_seconds"] = grantway.Text("1")
	if _, err := s.CreateSecretStore(t.Context(), grantway.SecretStore{Name: name, Kind: kind, Inputs: in}); err != nil {
		t.Fatalf("add %s: %v", name, err)
	}
}

// wantMessages has the store answer each fault and wants its own message.
func (s *scene) wantMessages(t *testing.T, store, key string, faults map[string]func(), messages map[string]string) {
	t.Helper()
	seen := map[string]string{}
	for name, set := range faults {
		set()
		report, err := s.TestSecretStore(t.Context(), store, grantway.SecretRef{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		last := report.Steps[len(report.Steps)-1]
		if report.OK || !strings.Contains(last.Message, messages[name]) || !strings.Contains(last.Message, "secret store "+store) {
			t.Errorf("%s: %s %q, want %q", name, last.Name, last.Message, messages[name])
		}
		if other, ok := seen[last.Message]; ok {
			t.Errorf("%s and %s have the same message %q", name, other, last.Message)
		}
		seen[last.Message] = name
	}
}

// TestAWS reads from a double of AWS Secrets Manager that checks Signature Version 4.
func TestAWS(t *testing.T) {
	const id, secret = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	t.Setenv("AWS_ACCESS_KEY_ID", id)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	missing := reply{400, `{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}`}
	double := newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if why := checkSigV4(r, body, "eu-central-1", "secretsmanager", id, secret); why != "" {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"__type":"InvalidSignatureException","message":%s}`, quoted(why))
			return
		}
		if got := r.Header.Get("X-Amz-Target"); got != "secretsmanager.GetSecretValue" {
			t.Errorf("target %s", got)
		}
		var in struct{ SecretId, VersionId, VersionStage string }
		if err := json.Unmarshal(body, &in); err != nil {
			t.Errorf("body: %v", err)
		}
		c.answer(w, strings.TrimRight(in.SecretId+" "+in.VersionId+in.VersionStage, " "), missing)
	})
	value := func(v string) string { // as in the API reference of GetSecretValue
		return `{"ARN":"arn:aws:secretsmanager:eu-central-1:1234:secret:x-a1b2c3","CreatedDate":1.523477145713E9,"Name":"x","SecretString":` + quoted(v) +
			`,"VersionId":"a1b2c3d4-5678-90ab-cdef-EXAMPLE11111","VersionStages":["AWSCURRENT"]}`
	}
	s := newHub(t, "")
	s.rotate("canary-aws-5e")
	s.add(t, "aws", "aws", text("region", "eu-central-1", "endpoint", double.URL, "path", "grantway/"))
	s.wantTest(t, "aws", grantway.SecretRef{}, allOK)

	double.set("grantway/sales", 200, value(`{"client_secret":"canary-aws-5e","user":"u"}`))
	s.credential(t, "sales", grantway.SecretRef{Store: "aws", Key: "sales", Field: "client_secret"})
	s.wantToken(t, "sales")
	double.set("grantway/plain-key AWSPREVIOUS", 200, value("canary-aws-5e"))
	c := s.credential(t, "mapped", grantway.SecretRef{Store: "aws", Key: "plain key", Version: "AWSPREVIOUS"})
	if c.Warnings != nil {
		t.Errorf("warnings: %v", c.Warnings)
	}
	s.wantToken(t, "mapped")
	report, err := s.ValidateCredential(t.Context(), "mapped")
	if err != nil || !report.OK || !strings.Contains(report.Steps[1].Message, "aws/plain-key") {
		t.Errorf("the report shows the key as it is spelled there: %+v, %v", report, err)
	}

	fault := func(code, message string) func() {
		return func() { double.set("grantway/sales", 400, `{"__type":"`+code+`","Message":"`+message+`"}`) }
	}
	s.wantMessages(t, "aws", "sales", map[string]func(){
		"missing":   fault("ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
		"deleted":   fault("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion."),
		"denied":    fault("AccessDeniedException", "User: arn:aws:iam::1234:user/x is not authorized to perform: secretsmanager:GetSecretValue"),
		"kms":       fault("DecryptionFailure", "Secrets Manager can't decrypt the protected secret text using the provided KMS key."),
		"throttled": fault("ThrottlingException", "Rate exceeded"),
		"expired":   fault("ExpiredTokenException", "The security token included in the request is expired"),
		"broken":    func() { double.set("grantway/sales", 500, `{"__type":"InternalServiceError","Message":"x"}`) },
	}, map[string]string{
		"missing": "has no key sales (there: grantway/sales)", "deleted": "was marked for deletion", "denied": "permission denied", "kms": "KMS key",
		"throttled": "too many requests", "expired": "does not accept the hub's credentials (ExpiredTokenException)", "broken": "it answered InternalServiceError",
	})

	// A wrong key is refused by the signature, and shows.
	in := text("region", "eu-central-1", "endpoint", double.URL, "access_key_id", id, "secret_access_key", "wrong")
	s.add(t, "wrong", "aws", in)
	s.wantTest(t, "wrong", grantway.SecretRef{}, "reach ok, sign_in failed", "InvalidSignatureException")
	s.add(t, "own-key", "aws", text("region", "eu-central-1", "endpoint", double.URL, "access_key_id", id, "secret_access_key", secret))
	s.wantTest(t, "own-key", grantway.SecretRef{}, allOK)
	double.Close()
	s.wantTest(t, "aws", grantway.SecretRef{}, "reach failed", "cannot reach AWS Secrets Manager", "refused")
	s.nowhere(t, "canary-aws-5e", secret)
}

// checkSigV4 says what is wrong with the signature of a request (AWS Signature Version 4).
func checkSigV4(r *http.Request, body []byte, region, service, id, secret string) string {
	fields := map[string]string{}
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "not signed"
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	at := r.Header.Get("X-Amz-Date")
	day, _, _ := strings.Cut(at, "T")
	scope := day + "/" + region + "/" + service + "/aws4_request"
	if fields["Credential"] != id+"/"+scope {
		return "credential " + fields["Credential"]
	}
	if when, err := time.Parse("20060102T150405Z", at); err != nil || time.Since(when).Abs() > 5*time.Minute {
		return "date " + at
	}
	names := strings.Split(fields["SignedHeaders"], ";")
	if !slices.Contains(names, "host") || !slices.Contains(names, "x-amz-date") || !slices.Contains(names, "x-amz-target") {
		return "signed headers " + fields["SignedHeaders"]
	}
	canonical := r.Method + "\n/\n\n"
	for _, name := range names {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(len(body))
		}
		canonical += name + ":" + strings.TrimSpace(value) + "\n"
	}
	canonical += "\n" + fields["SignedHeaders"] + "\n" + hash(body)
	key := []byte("AWS4" + secret)
	for _, part := range []string{day, region, service, "aws4_request"} {
		key = sign(key, part)
	}
	if want := hex.EncodeToString(sign(key, "AWS4-HMAC-SHA256\n"+at+"\n"+scope+"\n"+hash([]byte(canonical)))); want != fields["Signature"] {
		return "signature"
	}
	return ""
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// TestAzure reads from a double of Azure Key Vault and of the token endpoint of Entra.
func TestAzure(t *testing.T) {
	const bearer, appSecret = "canary-azure-token-1f", "canary-azure-secret-8d"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	certificate, certificatePEM := selfSigned(t, key)
	federated := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(federated, []byte("federated-jwt"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := reply{404, `{"error":{"code":"SecretNotFound","message":"A secret with (name/id) x was not found in this key vault. If you recently deleted this secret you may be able to recover it using the correct recovery command."}}`}
	var double *cloud
	double = newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/tenant-1/oauth2/v2.0/token":
			c.mu.Lock()
			c.signIns++
			c.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			if why := checkEntra(r, "https://vault.azure.net/.default", appSecret, &key.PublicKey, certificate, double.URL+r.URL.Path); why != "" {
				w.WriteHeader(401)
				fmt.Fprintf(w, `{"error":"invalid_client","error_description":%s}`, quoted("AADSTS7000215: "+why))
				return
			}
			fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":%q}`, bearer)
		case r.URL.Path == "/msi/token":
			if r.Header.Get("X-Identity-Header") != "header-1" || r.URL.Query().Get("resource") != "https://vault.azure.net" || r.URL.Query().Get("client_id") != "user-assigned" {
				w.WriteHeader(400)
				return
			}
			fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":"https://vault.azure.net","token_type":"Bearer"}`, bearer, time.Now().Add(time.Hour).Unix())
		case r.Header.Get("Authorization") != "Bearer "+bearer || r.URL.Query().Get("api-version") == "":
			w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.windows.net/tenant-1", resource="https://vault.azure.net"`)
			w.WriteHeader(401)
			io.WriteString(w, `{"error":{"code":"Unauthorized","message":"AKV10000: Request is missing a Bearer or PoP token."}}`)
		default:
			c.answer(w, strings.TrimPrefix(r.URL.Path, "/secrets/"), missing)
		}
	})
	s := newHub(t, "")
	s.rotate("canary-azure-value-2b")
	inputs := func(pairs ...string) grantway.Inputs {
		return text(append(pairs, "vault_url", double.URL, "authority", double.URL, "scope", "https://vault.azure.net/.default")...)
	}
	double.set("sales-mail", 200, `{"value":"canary-azure-value-2b","id":"https://v.vault.azure.net/secrets/sales-mail/4387e9f3d6e14c459867679a90fd0f79","attributes":{"enabled":true}}`)
	double.set("sales-mail/4387e9f3d6e14c459867679a90fd0f79", 200, `{"value":"canary-azure-value-2b"}`)

	s.add(t, "by-secret", "azure", inputs("auth", "client_secret", "tenant_id", "tenant-1", "client_id", "app-1", "client_secret", appSecret))
	s.add(t, "by-certificate", "azure", inputs("auth", "certificate", "tenant_id", "tenant-1", "client_id", "app-1", "certificate", certificatePEM))
	s.add(t, "by-workload", "azure", inputs("auth", "workload_identity"))
	s.wantTest(t, "by-workload", grantway.SecretRef{}, "reach ok, sign_in failed", "AZURE_FEDERATED_TOKEN_FILE is not set")
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", federated)
	t.Setenv("AZURE_TENANT_ID", "tenant-1")
	t.Setenv("AZURE_CLIENT_ID", "app-1")
	t.Setenv("IDENTITY_ENDPOINT", double.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", "header-1")
	s.add(t, "by-machine", "azure", inputs("client_id", "user-assigned"))
	for _, store := range []string{"by-secret", "by-certificate", "by-workload", "by-machine"} {
		s.wantTest(t, store, grantway.SecretRef{}, allOK)
		s.credential(t, store, grantway.SecretRef{Store: store, Key: "sales/mail"})
		s.wantToken(t, store)
	}
	if double.signIns != 3 {
		t.Errorf("%d sign-ins at the token endpoint, want one for each of three stores", double.signIns)
	}
	s.credential(t, "version", grantway.SecretRef{Store: "by-secret", Key: "sales mail", Version: "4387e9f3d6e14c459867679a90fd0f79"})
	s.wantToken(t, "version")
	s.add(t, "wrong", "azure", inputs("auth", "client_secret", "tenant_id", "tenant-1", "client_id", "app-1", "client_secret", "wrong"))
	s.wantTest(t, "wrong", grantway.SecretRef{}, "reach ok, sign_in failed", "the sign-in by client_secret was refused", "invalid_client")

	s.wantMessages(t, "by-secret", "sales/mail", map[string]func(){
		"missing": func() { double.set("sales-mail", missing.status, missing.body) },
		"disabled": func() {
			double.set("sales-mail", 403, `{"error":{"code":"Forbidden","message":"Operation get is not allowed on a disabled secret.","innererror":{"code":"SecretDisabled"}}}`)
		},
		"denied": func() {
			double.set("sales-mail", 403, `{"error":{"code":"Forbidden","message":"Caller is not authorized to perform action on resource.","innererror":{"code":"ForbiddenByRbac"}}}`)
		},
		"throttled": func() {
			double.set("sales-mail", 429, `{"error":{"code":"Throttled","message":"Request was not processed because too many requests were received."}}`)
		},
		"expired": func() {
			double.set("sales-mail", 401, `{"error":{"code":"Unauthorized","message":"AKV10022: Invalid audience."}}`)
		},
		"broken": func() { double.set("sales-mail", 503, ``) },
	}, map[string]string{
		"missing": "there is no key sales/mail (there: sales-mail), or it was deleted", "disabled": "disabled", "denied": "permission denied",
		"throttled": "too many requests", "expired": "does not accept the hub's token", "broken": "it answered HTTP 503",
	})
	double.Close()
	s.wantTest(t, "by-secret", grantway.SecretRef{}, "reach failed", "cannot")
	s.nowhere(t, bearer, appSecret, "canary-azure-value-2b")
}

// checkEntra says what is wrong with a token request to Entra.
func checkEntra(r *http.Request, scope, secret string, key *rsa.PublicKey, certificate *x509.Certificate, tokenURL string) string {
	form := func(name string) string { return r.PostFormValue(name) }
	if form("grant_type") != "client_credentials" || form("client_id") != "app-1" || form("scope") != scope || r.Header.Get("Authorization") != "" {
		return "not what Entra takes"
	}
	switch assertion := form("client_assertion"); {
	case assertion == "federated-jwt", assertion == "" && form("client_secret") == secret:
		return ""
	case assertion != "":
		parsed, err := jwt.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.RS256, jose.PS256})
		if err != nil {
			return err.Error()
		}
		var claims jwt.Claims
		if err := parsed.Claims(key, &claims); err != nil {
			return err.Error()
		}
		sum := sha256.Sum256(certificate.Raw)
		if parsed.Headers[0].ExtraHeaders["x5t#S256"] != base64.RawURLEncoding.EncodeToString(sum[:]) {
			return "x5t#S256"
		}
		if err := claims.Validate(jwt.Expected{Issuer: "app-1", Subject: "app-1", AnyAudience: jwt.Audience{tokenURL}, Time: time.Now()}); err != nil {
			return err.Error()
		}
		return ""
	}
	return "Invalid client secret provided."
}

func selfSigned(t *testing.T, key *rsa.PrivateKey) (*x509.Certificate, string) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app-1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// TestGoogle reads from a double of Secret Manager and of Google's token endpoint.
func TestGoogle(t *testing.T) {
	const bearer = "canary-google-token-6a"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	missing := reply{404, `{"error":{"code":404,"message":"Secret [projects/1/secrets/x] not found or has no versions.","status":"NOT_FOUND"}}`}
	var double *cloud
	double = newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			c.mu.Lock()
			c.signIns++
			c.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
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
			io.WriteString(w, `{"error":{"code":401,"message":"Request had invalid authentication credentials.","status":"UNAUTHENTICATED"}}`)
			return
		}
		c.answer(w, strings.TrimPrefix(r.URL.Path, "/v1/"), missing)
	})
	account := func(key *rsa.PrivateKey) string {
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return quoted(map[string]string{"type": "service_account", "project_id": "p1", "private_key_id": "k1", "client_email": "hub@p1.iam.gserviceaccount.com",
			"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), "token_uri": double.URL + "/token"})
	}
	value := func(v string) string {
		return fmt.Sprintf(`{"name":"projects/1/secrets/x/versions/3","payload":{"data":%q,"dataCrc32c":"%d"}}`,
			base64.StdEncoding.EncodeToString([]byte(v)), crc32.Checksum([]byte(v), crc32.MakeTable(crc32.Castagnoli)))
	}
	s := newHub(t, "")
	s.rotate("canary-google-value-9c")
	const latest = "projects/p1/secrets/sales-mail/versions/latest:access"
	double.set(latest, 200, value("canary-google-value-9c\n"))
	double.set("projects/p1/locations/europe-west3/secrets/sales-mail/versions/2:access", 200, value("canary-google-value-9c"))

	// The service account's key is stored with the store, or is where ADC looks for it.
	s.add(t, "by-key", "google", text("project", "p1", "endpoint", double.URL, "credentials", account(key)))
	adc := filepath.Join(t.TempDir(), "adc.json")
	if err := os.WriteFile(adc, []byte(account(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", adc)
	s.add(t, "by-adc", "google", text("project", "p1", "endpoint", double.URL, "location", "europe-west3"))
	s.wantTest(t, "by-key", grantway.SecretRef{}, allOK)
	s.wantTest(t, "by-adc", grantway.SecretRef{}, allOK)
	s.credential(t, "by-key", grantway.SecretRef{Store: "by-key", Key: "sales/mail"})
	s.wantToken(t, "by-key")
	s.credential(t, "by-adc", grantway.SecretRef{Store: "by-adc", Key: "sales/mail", Version: "2"})
	s.wantToken(t, "by-adc")
	if double.signIns != 2 {
		t.Errorf("%d sign-ins, want one for each store", double.signIns)
	}

	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.add(t, "wrong", "google", text("project", "p1", "endpoint", double.URL, "credentials", account(other)))
	s.wantTest(t, "wrong", grantway.SecretRef{}, "reach ok, sign_in failed", "does not accept the hub's credentials (HTTP 400)")
	s.add(t, "foreign", "google", text("project", "p1", "endpoint", double.URL, "credentials", `{"type":"external_account","credential_source":{"file":"/etc/passwd"}}`))
	s.wantTest(t, "foreign", grantway.SecretRef{}, "reach ok, sign_in failed", "not the JSON of a service account key")

	s.wantMessages(t, "by-key", "sales/mail", map[string]func(){
		"missing": func() { double.set(latest, missing.status, missing.body) },
		"destroyed": func() {
			double.set(latest, 400, `{"error":{"code":400,"message":"Secret Version [projects/1/secrets/x/versions/3] is in DESTROYED state.","status":"FAILED_PRECONDITION"}}`)
		},
		"denied": func() {
			double.set(latest, 403, `{"error":{"code":403,"message":"Permission 'secretmanager.versions.access' denied","status":"PERMISSION_DENIED"}}`)
		},
		"throttled": func() {
			double.set(latest, 429, `{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED"}}`)
		},
		"expired": func() { double.set(latest, 401, `{"error":{"code":401,"status":"UNAUTHENTICATED"}}`) },
		"broken":  func() { double.set(latest, 503, `{"error":{"code":503,"status":"UNAVAILABLE"}}`) },
		"damaged": func() { double.set(latest, 200, strings.Replace(value("x"), `"dataCrc32c":"`, `"dataCrc32c":"1`, 1)) },
	}, map[string]string{
		"missing": "has no key sales/mail (there: sales-mail)", "destroyed": "was destroyed or is disabled", "denied": "permission denied", "throttled": "too many requests",
		"expired": "does not accept the hub's token", "broken": "it answered HTTP 503", "damaged": "arrived damaged",
	})
	double.Close()
	s.wantTest(t, "by-key", grantway.SecretRef{}, "reach failed", "cannot reach")
	s.nowhere(t, bearer, "canary-google-value-9c")
}

// checkGoogle says what is wrong with a token request of a service account (RFC 7523).
func checkGoogle(r *http.Request, key *rsa.PublicKey, tokenURL string) string {
	if r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return "grant type"
	}
	parsed, err := jwt.ParseSigned(r.PostFormValue("assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return err.Error()
	}
	var claims jwt.Claims
	var scope struct {
		Scope string `json:"scope"`
	}
	if err := parsed.Claims(key, &claims, &scope); err != nil {
		return "Invalid JWT Signature."
	}
	if scope.Scope != "https://www.googleapis.com/auth/cloud-platform" {
		return "scope " + scope.Scope
	}
	if err := claims.Validate(jwt.Expected{Issuer: "hub@p1.iam.gserviceaccount.com", AnyAudience: jwt.Audience{tokenURL}, Time: time.Now()}); err != nil {
		return err.Error()
	}
	return ""
}

// TestHeld is how often a store is asked: once for everybody, and again at once when the provider refuses what is in memory.
func TestHeld(t *testing.T) {
	double := newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "lookup-self") {
			io.WriteString(w, `{"data":{"ttl":0}}`)
			return
		}
		c.answer(w, strings.TrimPrefix(r.URL.Path, "/v1/secret/data/"), reply{404, `{"errors":[]}`})
	})
	s := newHub(t, "")
	s.rotate("v1")
	if _, err := s.CreateSecretStore(t.Context(), grantway.SecretStore{Name: "double", Kind: "vault", Inputs: text("address", double.URL, "token", "t")}); err != nil {
		t.Fatal(err)
	}
	set := func(v string) { double.set("k", 200, `{"data":{"data":{"v":"`+v+`"},"metadata":{}}}`) }
	set("v1")
	const many = 20
	var credentials []string
	for i := range many {
		credentials = append(credentials, s.credential(t, fmt.Sprintf("c%d", i), grantway.SecretRef{Store: "double", Key: "k"}).Name)
	}
	before := double.count("k")
	var wg sync.WaitGroup
	for _, name := range credentials {
		wg.Go(func() {
			if _, err := s.Token(t.Context(), grantway.Ref{Credential: name}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := double.count("k") - before; n > 1 {
		t.Errorf("the store was asked %d times for %d tokens", n, many)
	}

	s.rotate("v2")
	set("v2")
	before = double.count("k")
	s.wantToken(t, "c0")
	if n := double.count("k") - before; n != 1 {
		t.Errorf("the store was asked %d times after a refusal, want once", n)
	}
	requests := s.provider.Token.Count()
	s.wantToken(t, "c1")
	if n := s.provider.Token.Count() - requests; n != 1 || double.count("k")-before != 1 {
		t.Errorf("%d token requests and %d reads with the new value in memory, want 1 and 1", n, double.count("k")-before)
	}

	// The same value again is no reason to ask the provider twice.
	s.rotate("v3")
	requests = s.provider.Token.Count()
	wantError(t, s.newToken(t, "c2"), grantway.TokenRefused, "invalid_client")
	if n := s.provider.Token.Count() - requests; n != 1 {
		t.Errorf("%d token requests with a secret that did not change, want 1", n)
	}

	// A key that is gone is gone, though its value is still in memory.
	double.set("k", 404, `{"errors":[]}`)
	wantError(t, s.newToken(t, "c3"), grantway.TokenRefused, "invalid_client")
	s.rotate("v2")
	s.wantNoToken(t, "c4", "secret store double has no key k")
}

// TestTimeToLive reads a value that nobody refuses again after its time to live.
func TestTimeToLive(t *testing.T) {
	double := newCloud(t, func(c *cloud, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "lookup-self") {
			io.WriteString(w, `{"data":{"ttl":0}}`)
			return
		}
		c.answer(w, "k", reply{200, `{"data":{"data":{"v":"v1"},"metadata":{}}}`})
	})
	s := newHub(t, "")
	s.rotate("v1")
	if _, err := s.CreateSecretStore(t.Context(), grantway.SecretStore{Name: "double", Kind: "vault", Inputs: text("address", double.URL, "token", "t", "ttl_seconds", "2")}); err != nil {
		t.Fatal(err)
	}
	s.credential(t, "app", grantway.SecretRef{Store: "double", Key: "k"})
	began := time.Now()
	s.wantToken(t, "app")
	before := double.count("k")
	s.wantToken(t, "app")
	if n := double.count("k") - before; n > 0 && time.Since(began) < 2*time.Second {
		t.Errorf("the store was asked %d times within the time to live", n)
	}
	before = double.count("k")
	<-time.After(2 * time.Second)
	s.wantToken(t, "app")
	if n := double.count("k") - before; n != 1 {
		t.Errorf("the store was asked %d times after the time to live, want once", n)
	}
}

// TestReplicas hear of each other's stores.
func TestReplicas(t *testing.T) {
	s := newScene(t, storetest.Postgres(t))
	other := &scene{bao: s.bao, provider: s.provider, log: &logBuffer{}}
	other.Hub = grantwaytest.Start(t, grantwaytest.HubOptions{Database: s.database, Key: "file:" + filepath.Join(s.Data, "key"), Data: s.Data, Log: other.log.logger()})
	s.rotate("s1")
	s.bao.Put("app", map[string]string{"v": "s1"})
	s.vault(t, "bao", text("token", "wrong"))
	s.credential(t, "app", grantway.SecretRef{Store: "bao", Key: "app"})
	in := text("address", s.bao.URL, "token", s.bao.Token)
	if _, err := s.UpdateSecretStore(t.Context(), "bao", grantway.SecretStore{Inputs: in}); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the other replica signs in with the new token", func() bool {
		_, err := other.Token(t.Context(), grantway.Ref{Credential: "app"})
		return err == nil
	})
	other.wantToken(t, "app")
}
