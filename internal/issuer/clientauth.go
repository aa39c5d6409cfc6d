package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grantway/grantway"
)

// The ways in which a request can show which client it comes from. A request shows itself in
// one of them (RFC 6749 section 2.3).
const (
	viaBasic     = "basic"     // HTTP Basic
	viaBody      = "body"      // client_id and client_secret
	viaAssertion = "assertion" // client_assertion (RFC 7521)
	viaNothing   = "nothing"   // client_id alone; a certificate may stand behind it
)

// method is one client authentication method. Each has a file.
type method struct {
	name string // as registered (RFC 7591 section 2, RFC 8705 section 2)
	via  string

	// check finds what is wrong with the settings of a client that registers the method.
	check func(c *grantway.OAuthClient, wrong func(pointer, detail string))

	// verify tells how p proves to come from c. Any error is a refusal, but for *outage.
	verify func(i *Issuer, ctx context.Context, c *client, p presented) (proven, error)
}

// methods lists all methods, the ones we advise first.
var methods = []method{
	privateKeyJWT, tlsClientAuth, selfSignedTLS, federated, secretBasic, secretPost, secretJWT, publicClient,
}

func methodNamed(name string) (method, bool) {
	n := slices.IndexFunc(methods, func(m method) bool { return m.name == name })
	if n < 0 {
		return method{}, false
	}
	return methods[n], true
}

// methodNames are the names of all methods, for metadata and messages.
func methodNames() (names []string) {
	for _, m := range methods {
		names = append(names, m.name)
	}
	return names
}

// members are the settings that go with some methods only.
var members = []struct {
	pointer string
	set     func(c *grantway.OAuthClient) bool
	methods []string
}{
	{"/jwks", func(c *grantway.OAuthClient) bool { return c.JWKS != nil }, []string{grantway.AuthPrivateKeyJWT, grantway.AuthSelfSignedTLS}},
	{"/jwks_uri", func(c *grantway.OAuthClient) bool { return c.JWKSURI != "" }, []string{grantway.AuthPrivateKeyJWT, grantway.AuthSelfSignedTLS}},
	{"/assertion_audience_token_url", func(c *grantway.OAuthClient) bool { return c.AudienceTokenURL }, []string{grantway.AuthPrivateKeyJWT, grantway.AuthSecretJWT}},
	{"/tls_client_auth_subject_dn", func(c *grantway.OAuthClient) bool { return c.TLSSubject != "" }, []string{grantway.AuthTLS}},
	{"/tls_client_auth_san_dns", func(c *grantway.OAuthClient) bool { return c.TLSDNS != "" }, []string{grantway.AuthTLS}},
	{"/tls_client_auth_san_uri", func(c *grantway.OAuthClient) bool { return c.TLSURI != "" }, []string{grantway.AuthTLS}},
	{"/tls_client_auth_san_ip", func(c *grantway.OAuthClient) bool { return c.TLSIP != "" }, []string{grantway.AuthTLS}},
	{"/tls_client_auth_san_email", func(c *grantway.OAuthClient) bool { return c.TLSEmail != "" }, []string{grantway.AuthTLS}},
	{"/federation", func(c *grantway.OAuthClient) bool { return c.Federation != nil }, []string{grantway.AuthFederated}},
}

func checkMethod(c *grantway.OAuthClient, old *client, wrong func(pointer, detail string)) {
	if c.AuthMethod == grantway.AuthSecret && old != nil && old.AuthMethod == grantway.AuthSecret {
		return
	}
	m, ok := methodNamed(c.AuthMethod)
	if !ok {
		wrong("/token_endpoint_auth_method", "must be one of "+strings.Join(methodNames(), ", "))
		return
	}
	for _, member := range members {
		if member.set(c) && !slices.Contains(member.methods, m.name) {
			wrong(member.pointer, "goes with the authentication method "+strings.Join(member.methods, " or "))
		}
	}
	if m.check != nil {
		m.check(c, wrong)
	}
}

// presented is what a request shows of its client.
type presented struct {
	via, id, secret, assertion string
	certificates               []*x509.Certificate // of the connection, the client's first; whatever the method
	from                       netip.Addr
	endpoint                   string // URL of the endpoint that was asked
}

// proven is a client and how it proved itself.
type proven struct {
	client       *client
	secret       string              // id of the secret, "" when it used none
	by           string              // for the audit trail, such as "key 7f3a"; "" for a secret
	certificates []*x509.Certificate // that came with it
}

// errWrong is the refusal of a method; its text is for the log.
type errWrong string

// Error implements error.
func (e errWrong) Error() string { return string(e) }

// outage is a check that could not be made.
type outage struct{ err error }

// Error implements error.
func (o *outage) Error() string { return o.err.Error() }
func (o *outage) Unwrap() error { return o.err }

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// readPresented finds the one way in which the request authenticates.
func (i *Issuer) readPresented(r *http.Request, from netip.Addr, f form) (presented, *oauthError) {
	p := presented{via: viaNothing, id: f.get("client_id"), secret: f.get("client_secret"), assertion: f.get("client_assertion"),
		certificates: i.Certificates(r), from: from, endpoint: i.URL() + r.URL.Path}
	if p.secret != "" {
		p.via = viaBody
	}
	switch headers := r.Header["Authorization"]; len(headers) {
	case 0:
	case 1:
		id, secret, ok := parseBasic(headers[0])
		if !ok {
			return p, invalidClient("the Authorization header is not HTTP Basic with a form-encoded id and secret")
		}
		if p.via != viaNothing {
			return p, invalidRequest("the client authenticates in two ways")
		}
		if p.id != "" && p.id != id {
			return p, invalidRequest("client_id is not that of the Authorization header")
		}
		p.via, p.id, p.secret = viaBasic, id, secret
	default:
		return p, invalidRequest("there are two Authorization headers")
	}
	if kind := f.get("client_assertion_type"); kind != "" || p.assertion != "" {
		if p.via != viaNothing {
			return p, invalidRequest("the client authenticates in two ways")
		}
		if kind != assertionType || p.assertion == "" {
			return p, invalidClient("client_assertion must be a JWT, and client_assertion_type say so (RFC 7523 section 2.2)")
		}
		p.via = viaAssertion
		if p.id == "" {
			p.id = subjectOf(p.assertion)
		}
	}
	if p.id == "" || p.via == viaBasic && p.secret == "" {
		return p, invalidClient("the client must authenticate")
	}
	if !utf8.ValidString(p.id) || strings.Contains(p.id, "\x00") {
		p.id = "-" // no client has that id either, and PostgreSQL takes it for text
	}
	return p, nil
}

func invalidClient(description string) *oauthError {
	return &oauthError{status: http.StatusUnauthorized, code: "invalid_client", description: description}
}

// authenticate returns the client that the request proves to come from. An unknown client, a
// wrong secret, an inactive client and a method that is not the registered one look alike, in
// words and in time: each compares a hash in memory, and asks the database for one number.
func (i *Issuer) authenticate(ctx context.Context, r *http.Request, from netip.Addr, f form) (proven, *oauthError) {
	p, failure := i.readPresented(r, from, f)
	if failure != nil {
		return proven{}, failure
	}
	now := time.Now()
	c := i.nobody
	if e := i.clients.entry(p.id); e != nil {
		c = e.state.Load()
	}
	got, err := i.prove(ctx, c, p)
	if err == nil {
		return i.admitted(got, from)
	}
	if _, ok := errors.AsType[*outage](err); ok {
		return proven{}, unavailable(err)
	}
	if wait := i.failures.failed(from, p.id, now); wait > 0 {
		return proven{}, &oauthError{status: http.StatusTooManyRequests, code: "invalid_client",
			description: "too many failed attempts from this address", retryAfter: wait}
	}
	// The client, or its secret, may have been made a moment ago on another replica.
	version, dbErr := i.version(ctx, p.id)
	if dbErr != nil {
		return proven{}, unavailable(dbErr)
	}
	if version > c.Version {
		if err := i.reload(ctx, p.id); err != nil {
			return proven{}, unavailable(err)
		}
		if e := i.clients.entry(p.id); e != nil {
			c = e.state.Load()
			if got, err = i.prove(ctx, c, p); err == nil {
				return i.admitted(got, from)
			}
		}
	}
	if c.ID != "" {
		i.usage.refused(c.ID, now)
	}
	i.Log.Warn("client not authenticated", "client", c.ID, "address", from, "why", err) // no id: an unknown one
	return proven{}, invalidClient(wrongClient)
}

// prove verifies p by the method that c has registered, and by no other: a client with a key
// cannot be brought down to a secret.
func (i *Issuer) prove(ctx context.Context, c *client, p presented) (proven, error) {
	name := c.AuthMethod
	if name == grantway.AuthSecret {
		name = map[string]string{viaBasic: grantway.AuthBasic, viaBody: grantway.AuthPost}[p.via]
	}
	m, ok := methodNamed(name)
	if !ok || m.via != p.via {
		i.secretOf(c, p.secret, time.Now()) // the same work as for a wrong secret
		return proven{}, errWrong("the client has registered another authentication method, or there is no such client")
	}
	got, err := m.verify(i, ctx, c, p)
	if err == nil && !c.active {
		err = errWrong("the client is not active")
	}
	got.client, got.certificates = c, p.certificates
	return got, err
}

// admitted refuses clients that come from where they may not, or too often. They have proved who
// they are, so they are told.
func (i *Issuer) admitted(got proven, from netip.Addr) (proven, *oauthError) {
	if got.client.admits(from) {
		if most := i.OAuthRequestsPerMinute; most > 0 {
			if wait := i.passes.passed(from, got.client.ID, most, time.Now()); wait > 0 {
				return proven{}, &oauthError{status: http.StatusTooManyRequests, code: "temporarily_unavailable", // RFC 6749 has no better one
					description: "too many requests of this client; keep tokens until they expire", retryAfter: wait}
			}
		}
		return got, nil
	}
	i.usage.refused(got.client.ID, time.Now())
	i.Log.Warn("client from a network it may not come from", "client", got.client.ID, "address", from)
	return proven{}, invalidClient("the client may not come from this address")
}

const wrongClient = "the client is unknown, or its secret or authentication method is wrong"

func unavailable(err error) *oauthError {
	return &oauthError{status: http.StatusServiceUnavailable, code: "temporarily_unavailable",
		description: "the database is away, try again", retryAfter: time.Second, err: err}
}
