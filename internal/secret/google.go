package secret

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/oauth2"
	googleauth "golang.org/x/oauth2/google"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

func googleKind() Kind {
	return Kind{
		open:  openGoogle,
		spell: googleKey,
		Definition: kind("google", "Google Secret Manager", "Secrets of one project.",
			connector.Input{Key: "project", Title: "Project", Type: connector.String, Required: true, Help: "Id or number."},
			connector.Input{Key: "credentials", Title: "Service account key", Type: connector.SecretText, Max: 16384,
				Help: "The JSON of a service account key. Empty is the application default credentials: GOOGLE_APPLICATION_CREDENTIALS, gcloud, or the machine's service account."},
			connector.Input{Key: "location", Title: "Location", Type: connector.String, Advanced: true, Help: "Of regional secrets, such as europe-west3; their endpoint goes with it."},
			connector.Input{Key: "endpoint", Title: "Endpoint", Type: connector.URL, Advanced: true, Max: 2048, Help: "Empty is https://secretmanager.googleapis.com, or that of the location."}),
	}
}

// googleKey replaces what Secret Manager does not allow in the id of a secret: all but
// letters, digits, "_" and "-".
func googleKey(key string) string {
	return mapped(key, func(r rune) bool { return alphanumeric(r) || r == '-' || r == '_' })
}

// google is the Secret Manager of a project. One GET reads a secret; where tokens come from
// is the vendor's library's to know.
type google struct {
	setting
	session atomic.Pointer[googleSession]
}

type googleSession struct {
	tokens oauth2.TokenSource
	secret string // the service account key it was made from
}

func openGoogle(s setting) Store { return &google{setting: s} }

// Describe implements Store.
func (g *google) Describe() grantway.SecretStore {
	detail := "Secret Manager of project " + g.text("project")
	if l := g.text("location"); l != "" {
		detail += " in " + l
	}
	return grantway.SecretStore{Name: g.name, Kind: "google", Detail: detail}
}

// SignIn implements Store.
func (g *google) SignIn(ctx context.Context) error {
	_, err := g.Read(ctx, probe, "")
	if err != nil && reasonOf(err).away() {
		return err
	}
	return nil
}

// signedIn finds out where tokens come from, when they are first needed.
func (g *google) signedIn(ctx context.Context) (*googleSession, error) {
	secret, err := g.secret(ctx, "credentials")
	if err != nil {
		return nil, err
	}
	if s := g.session.Load(); s != nil && s.secret == secret {
		return s, nil
	}
	// Tokens are asked for long after ctx has ended.
	calls := context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, g.http)
	const scope = "https://www.googleapis.com/auth/cloud-platform"
	var c *googleauth.Credentials
	if secret == "" {
		c, err = googleauth.FindDefaultCredentials(calls, scope)
	} else { // of no other type: those name files to read and programs to run
		c, err = googleauth.CredentialsFromJSONWithType(calls, []byte(secret), googleauth.ServiceAccount, scope)
	}
	if err != nil && secret == "" {
		return nil, fault(g.name, refused, err, "there are no application default credentials of Google")
	}
	if err != nil {
		return nil, fault(g.name, refused, err, "its credentials are not the JSON of a service account key")
	}
	s := &googleSession{c.TokenSource, secret}
	g.session.Store(s)
	return s, nil
}

// Read implements Store.
func (g *google) Read(ctx context.Context, key, version string) ([]byte, error) {
	s, err := g.signedIn(ctx)
	if err != nil {
		return nil, err
	}
	t, err := s.tokens.Token()
	if err != nil {
		return nil, g.tokenFault(err)
	}
	there := googleKey(key)
	base, where := "https://secretmanager.googleapis.com", ""
	if l := g.text("location"); l != "" {
		base, where = "https://secretmanager."+l+".rep.googleapis.com", "/locations/"+url.PathEscape(l)
	}
	base = strings.TrimSuffix(cmp.Or(g.text("endpoint"), base), "/")
	path := base + "/v1/projects/" + url.PathEscape(g.text("project")) + where + "/secrets/" + there + "/versions/" + url.PathEscape(cmp.Or(version, "latest")) + ":access"
	status, body, err := get(ctx, g.http, path, "Authorization", "Bearer "+t.AccessToken)
	if err != nil {
		return nil, unreached(g.name, strings.TrimPrefix(base, "https://"), err)
	}
	return g.value(status, body, key, there, version)
}

func (g *google) tokenFault(err error) error {
	var answered *oauth2.RetrieveError
	if !errors.As(err, &answered) {
		return unreached(g.name, "the sign-in of Google", innermost(err))
	}
	switch status := answered.Response.StatusCode; {
	case status == http.StatusTooManyRequests:
		return fault(g.name, throttled, err, "its sign-in gets too many requests")
	case status >= 500:
		return fault(g.name, unreachable, err, "its sign-in answered HTTP %d", status)
	default:
		return fault(g.name, refused, err, "Google does not accept the hub's credentials (HTTP %d)", status)
	}
}

func (g *google) value(status int, body []byte, key, there, version string) ([]byte, error) {
	var answer struct {
		Payload *struct {
			Data []byte      `json:"data"`
			CRC  json.Number `json:"dataCrc32c"`
		} `json:"payload"`
		Error struct {
			Status string `json:"status"`
		} `json:"error"`
	}
	err := json.Unmarshal(body, &answer)
	switch p := answer.Payload; {
	case status == http.StatusOK && p != nil:
		sum := crc32.Checksum(p.Data, crc32.MakeTable(crc32.Castagnoli))
		if p.CRC != "" && p.CRC.String() != strconv.FormatUint(uint64(sum), 10) {
			return nil, fault(g.name, unreachable, nil, "key %s arrived damaged: its checksum is another one", named(key, there))
		}
		return p.Data, nil
	case status == http.StatusUnauthorized:
		return nil, fault(g.name, refused, nil, "it does not accept the hub's token (HTTP 401)")
	case status == http.StatusForbidden:
		return nil, fault(g.name, denied, nil, "permission denied: the hub's identity may not read %s (secretmanager.versions.access)", named(key, there))
	case status == http.StatusNotFound && version != "":
		return nil, fault(g.name, missing, nil, "there is no key %s with version %s", named(key, there), version)
	case status == http.StatusNotFound:
		return nil, notFound(g.name, key, there)
	case answer.Error.Status == "FAILED_PRECONDITION":
		return nil, fault(g.name, deleted, nil, "this version of key %s was destroyed or is disabled", named(key, there))
	case status == http.StatusBadRequest:
		return nil, fault(g.name, missing, nil, "%s is not a name or version that it accepts", named(key, there))
	case status == http.StatusTooManyRequests:
		return nil, fault(g.name, throttled, nil, "it gets too many requests")
	}
	return nil, fault(g.name, unreachable, err, "it answered HTTP %d", status)
}
