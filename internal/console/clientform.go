package console

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
)

// clientForm makes or changes an OAuth client. What is on it that the chosen grant type or
// authentication method has no use for is hidden, and not sent on.
type clientForm struct {
	Frame
	sent
	One   grantway.OAuthClient
	Lists map[string]string // what has many values, a line each, by the name of the field
	Roles []roleRow
	Uses  []useRow

	// To choose from:
	RoleNames, Divisions []string
	Permissions          []string
	Credentials          []string
	Seconds              string // as typed
	Requests             string
	JWKS, FederationJWKS string
	Answers              map[string]string // those the advisor got
	Advice               *grantway.Advice
	AdvancedOpen         bool
}

// useRow is a row of the list of credentials that a client may use.
type useRow struct{ Credential, Via, Methods, Paths, Endpoints string }

// clientFields are the fields of the form that errors lead to, by the first name of their pointer.
var clientFields = map[string]string{
	"name": "Name", "description": "Description", "grant_type": "Grant type", "roles": "Roles", "redirect_uris": "Redirect URIs", "scopes": "Scopes", "token_seconds": "Token duration",
	"token_endpoint_auth_method": "Authentication", "jwks": "Public keys", "jwks_uri": "Address of the public keys", "federation": "Issuer it signs in with", "tls_name": "Name in the certificate",
	"token_format": "Token format", "token_signing_alg": "Signing algorithm", "token_typ": "Type in the header", "allowed_networks": "Allowed networks", "requests_per_minute": "Requests a minute", "resources": "Resources",
	"credentials": "Credentials",
}

// hiddenFields are those of the fields above that are in Advanced.
var hiddenFields = []string{"token_format", "token_signing_alg", "token_typ", "allowed_networks", "requests_per_minute", "resources", "credentials"}

func (p *clientForm) finish(wrong problems) {
	p.Errors = problems{}
	for _, pointer := range wrong.pointers() {
		first, rest, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
		if strings.HasPrefix(first, "tls_client_auth_") {
			first = "tls_name"
		}
		w := wrongField{Detail: wrong[pointer]}
		if title, ok := clientFields[first]; ok {
			w.Anchor, w.Title = first, title
			if n, err := strconv.Atoi(strings.SplitN(rest, "/", 2)[0]); err == nil {
				w.Detail = "line " + strconv.Itoa(n+1) + " " + w.Detail
			}
			p.Errors[first] = strings.TrimPrefix(p.Errors[first]+"; "+w.Detail, "; ")
			p.AdvancedOpen = p.AdvancedOpen || slices.Contains(hiddenFields, first)
		}
		p.Wrong = append(p.Wrong, w)
	}
}

// Action is where the form goes.
func (p *clientForm) Action() string {
	if p.One.ID == "" {
		return "/clients/add"
	}
	return clientPath(p.One.ID, "edit")
}

// Back is where Cancel leads.
func (p *clientForm) Back() string {
	if p.One.ID == "" {
		return "/clients"
	}
	return clientPath(p.One.ID, "details")
}

// Methods are the ways to authenticate.
func (p *clientForm) Methods() (list []Choice) {
	methods := []string{grantway.AuthBasic, grantway.AuthPost, grantway.AuthSecretJWT, grantway.AuthPrivateKeyJWT, grantway.AuthTLS, grantway.AuthSelfSignedTLS, grantway.AuthFederated, grantway.AuthNone}
	if p.One.AuthMethod == grantway.AuthSecret {
		methods = append(methods, grantway.AuthSecret)
	}
	for _, m := range methods {
		list = append(list, Choice{m, cmp.Or(methodTitles[m], m), m == cmp.Or(p.One.AuthMethod, grantway.AuthBasic)})
	}
	return list
}

// Overridden tells that the grant type is not the one that the advisor names.
func (p *clientForm) Overridden() bool {
	return p.Advice != nil && (p.Advice.Grant == grantway.GrantClientCredentials) != (p.One.GrantType == grantway.GrantClientCredentials)
}

func (c *Console) newClientForm(r *request, title string) (*clientForm, error) {
	p := &clientForm{Frame: frame("clientform", title, administration, integrationsAt, clientsAt), Lists: map[string]string{}, Permissions: access.PermissionNames(), Answers: answersFrom(r)}
	p.at = "/clients"
	var err error
	if p.Divisions, p.RoleNames, err = c.grantable(r); err != nil {
		return nil, err
	}
	if r.who.Anywhere().Has(access.ReadCredential) {
		page, err := c.Broker.List(r.Context(), r.who, "", "", 1000)
		if err != nil {
			return nil, err
		}
		for _, one := range page.Items {
			p.Credentials = append(p.Credentials, one.Name)
		}
	}
	return p, nil
}

// show fills the form with a client as it is stored.
func (p *clientForm) show(one grantway.OAuthClient) {
	p.One = one
	p.One.GrantType = cmp.Or(one.GrantType, grantway.GrantClientCredentials)
	for name, list := range map[string][]string{"redirect_uris": one.RedirectURIs, "allowed_networks": one.AllowedNetworks, "resources": one.Resources} {
		p.Lists[name] = strings.Join(list, "\n")
	}
	if one.TokenSeconds != 0 {
		p.Seconds = strconv.Itoa(int(one.TokenSeconds))
	}
	if one.RequestsPerMinute != 0 {
		p.Requests = strconv.Itoa(one.RequestsPerMinute)
	}
	p.JWKS = string(one.JWKS)
	if one.Federation != nil {
		p.FederationJWKS = string(one.Federation.JWKS)
	}
	if one.Advice != nil && len(p.Answers) == 0 {
		p.Answers = one.Advice.Answers
	}
	p.rows(one.Roles, one.Credentials)
	p.advise()
}

// rows are the roles and the credentials, and a row more of each.
func (p *clientForm) rows(roles []grantway.Assignment, uses []grantway.CredentialUse) {
	p.Roles, p.Uses = nil, nil
	for _, a := range roles {
		p.Roles = append(p.Roles, roleRow{a.Role, a.Division})
	}
	p.Roles = append(p.Roles, roleRow{Division: "home"})
	for _, u := range uses {
		p.Uses = append(p.Uses, useRow{u.Credential, u.Via, strings.Join(u.Methods, " "), strings.Join(u.Paths, " "), strings.Join(u.Endpoints, " ")})
	}
	p.Uses = append(p.Uses, useRow{Via: grantway.ViaProxy}, useRow{Via: grantway.ViaProxy})
}

func (p *clientForm) advise() {
	if advice, err := issuer.Advise(p.Answers); err == nil && len(p.Answers) > 0 {
		p.Advice = &advice
	}
}

func (c *Console) addClientPage(r *request) (answer, error) {
	p, err := c.newClientForm(r, "Add OAuth client")
	if err != nil {
		return answer{}, err
	}
	p.show(grantway.OAuthClient{ClientSettings: grantway.ClientSettings{GrantType: r.FormValue("grant_type")}, State: grantway.ClientActive})
	return answer{page: p}, nil
}

func (c *Console) editClientPage(r *request) (answer, error) {
	one, err := c.Issuer.Client(r.Context(), r.who, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	if !c.mayWriteClient(r, one) {
		return answer{}, grantway.Errorf(grantway.Forbidden, "this client holds a role that you may not give, so you cannot change it")
	}
	p, err := c.newClientForm(r, "Edit "+one.Name)
	if err != nil {
		return answer{}, err
	}
	p.show(one)
	return answer{page: p}, nil
}

// lines are the values of a field that has many.
func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' || r == ' ' || r == ',' || r == '\t' })
}

// read takes over what was entered. The error says what is wrong with it by itself.
func (p *clientForm) read(r *request) problems {
	wrong := problems{}
	count := func(field string) int {
		text := r.form(field)
		n, err := strconv.Atoi(strings.ReplaceAll(text, ",", ""))
		if text != "" && err != nil {
			wrong["/"+field] = "must be a number"
		}
		return n
	}
	keys := func(field string) json.RawMessage {
		text := r.form(field)
		if text == "" {
			return nil
		}
		if !json.Valid([]byte(text)) {
			wrong["/"+field] = "must be a JSON Web Key Set: {\"keys\": […]}"
			return nil
		}
		return json.RawMessage(text)
	}
	s := grantway.ClientSettings{GrantType: r.form("grant_type"), AuthMethod: r.form("token_endpoint_auth_method"), TokenSeconds: grantway.Seconds(count("token_seconds")), TokenFormat: r.form("token_format"),
		RequestsPerMinute: count("requests_per_minute"), AllowedNetworks: lines(r.form("allowed_networks")), Resources: lines(r.form("resources")),
		CertificateBound: r.form("certificate_bound") != "", DPoPBound: r.form("dpop_bound") != ""}
	if s.TokenSeconds == 0 && r.form("token_seconds") != "" && wrong["/token_seconds"] == "" {
		s.TokenSeconds = -1 // 0 is no duration; only nothing is the default
	}
	if s.TokenFormat == grantway.FormatJWT {
		s.TokenAlg, s.TokenTyp = r.form("token_signing_alg"), r.form("token_typ")
	}
	switch s.AuthMethod {
	case grantway.AuthPrivateKeyJWT, grantway.AuthSelfSignedTLS:
		s.JWKS, s.JWKSURI, s.AudienceTokenURL = keys("jwks"), r.form("jwks_uri"), r.form("audience_token_url") != ""
	case grantway.AuthSecretJWT:
		s.AudienceTokenURL = r.form("audience_token_url") != ""
	case grantway.AuthTLS:
		name := r.form("tls_name")
		switch r.form("tls_kind") {
		case "dns":
			s.TLSDNS = name
		case "uri":
			s.TLSURI = name
		case "ip":
			s.TLSIP = name
		case "email":
			s.TLSEmail = name
		default:
			s.TLSSubject = name
		}
	case grantway.AuthFederated:
		s.Federation = &grantway.Federation{Issuer: r.form("federation_issuer"), Subject: r.form("federation_subject"), Audience: r.form("federation_audience"),
			JWKSURI: r.form("federation_jwks_uri"), JWKS: keys("federation_jwks")}
	}
	if len(p.Answers) > 0 {
		s.Advice = &grantway.Advice{Answers: p.Answers}
	}
	one := grantway.OAuthClient{ID: p.One.ID, Name: r.form("name"), Description: r.form("description"), State: r.form("state"), ClientSettings: s, Credentials: usesFrom(r)}
	one.Version, _ = strconv.ParseInt(r.form("version"), 10, 64)
	if s.GrantType == grantway.GrantAuthorizationCode {
		one.RedirectURIs, one.Scopes = lines(r.form("redirect_uris")), r.PostForm["scopes"]
	} else {
		one.Roles = rolesFrom(r)
	}
	p.show(one)
	p.Seconds, p.Requests, p.JWKS, p.FederationJWKS = r.form("token_seconds"), r.form("requests_per_minute"), r.form("jwks"), r.form("federation_jwks")
	return wrong
}

// usesFrom reads the list of credentials. It is empty, not nil, when nothing is on it: nil keeps what there is.
func usesFrom(r *request) []grantway.CredentialUse {
	list := []grantway.CredentialUse{}
	names, vias, methods, paths, endpoints := r.PostForm["use.credential"], r.PostForm["use.via"], r.PostForm["use.methods"], r.PostForm["use.paths"], r.PostForm["use.endpoints"]
	for i := range min(len(names), len(vias), len(methods), len(paths), len(endpoints)) {
		if names[i] == "" {
			continue
		}
		list = append(list, grantway.CredentialUse{Credential: names[i], Via: vias[i], Methods: lines(methods[i]), Paths: lines(paths[i]), Endpoints: lines(endpoints[i])})
	}
	return list
}

// TLSName is the name that the client's certificate must have, and which kind of name that is.
func (p *clientForm) TLSName() (n struct{ Kind, Name string }) {
	n.Kind, n.Name = "subject", p.One.TLSSubject
	for kind, name := range map[string]string{"dns": p.One.TLSDNS, "uri": p.One.TLSURI, "ip": p.One.TLSIP, "email": p.One.TLSEmail} {
		if name != "" {
			n.Kind, n.Name = kind, name
		}
	}
	return n
}

// saveClient makes a client, or changes one: that of the path.
func (c *Console) saveClient(r *request) (answer, error) {
	id := r.PathValue("id")
	title := "Add OAuth client"
	var old grantway.OAuthClient
	if id != "" {
		var err error
		if old, err = c.Issuer.Client(r.Context(), r.who, id); err != nil {
			return answer{}, err
		}
		title = "Edit " + old.Name
	}
	p, err := c.newClientForm(r, title)
	if err != nil {
		return answer{}, err
	}
	p.One.ID = old.ID
	wrong := p.read(r)
	if r.restored {
		return restored(p), nil
	}
	if len(wrong) > 0 {
		p.finish(wrong)
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	var saved grantway.OAuthClient
	if id == "" {
		saved, err = c.Issuer.CreateClient(r.Context(), r.who, p.One)
	} else {
		saved, err = c.Issuer.UpdateClient(r.Context(), r.who, p.One)
	}
	if err != nil {
		if e := asError(err); e != nil && e.Code == grantway.PreconditionFailed {
			p.One.Version = old.Version
		}
		if a, ok := refused(p, err); ok {
			return a, nil
		}
		return answer{}, err
	}
	if saved.Secret != "" {
		return c.showSecret(r, saved.ID, saved.Secret, "")
	}
	flash := "The changes are saved. They count for tokens that are out already, too."
	if id == "" {
		flash = "The client " + saved.Name + " is made."
	}
	return answer{redirect: clientPath(saved.ID, "details"), flash: flash}, nil
}
