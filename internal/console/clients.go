package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
)

// The way to the pages of OAuth clients.
var clientsAt = crumb{"OAuth", "/clients"}

const (
	usageDays  = 30                  // that the pages count over
	expirySoon = 14 * 24 * time.Hour // from then on a secret wants attention
)

// clientRow is a client in the list, with what it did lately.
type clientRow struct {
	grantway.OAuthClient
	Usage grantway.ClientUsage
}

// Unused tells that the client did nothing in the time that the page counts over, though it was there.
func (r clientRow) Unused() bool {
	since := time.Now().AddDate(0, 0, -usageDays)
	return r.Usage.LastUsed.Before(since) && r.CreatedAt.Before(since)
}

type clientsPage struct {
	Frame
	Clients  []clientRow
	Unused   bool // only those that are not used
	Deleted  bool // those that can be restored
	Days     int
	Next     string
	Expiring []issuer.Expiring
	MayWrite bool
}

func (c *Console) clients(r *request) (answer, error) {
	p := &clientsPage{Frame: frame("clients", "OAuth clients", administration, integrationsAt), Unused: r.FormValue("unused") != "", Deleted: r.FormValue("deleted") != "", Days: usageDays,
		MayWrite: r.who.Anywhere().Has(access.WriteClient)}
	used, err := c.usage(r)
	if err != nil {
		return answer{}, err
	}
	if p.Expiring, err = c.Issuer.Expiring(r.Context(), r.who); err != nil {
		return answer{}, err
	}
	page, err := c.Issuer.Clients(r.Context(), r.who, p.Deleted, r.FormValue("cursor"), 100)
	for _, one := range page.Items {
		if row := (clientRow{one, used[one.ID]}); !p.Unused || row.Unused() {
			p.Clients = append(p.Clients, row)
		}
	}
	if page.Next != "" {
		q := url.Values{"cursor": {page.Next}}
		for name, set := range map[string]bool{"unused": p.Unused, "deleted": p.Deleted} {
			if set {
				q.Set(name, "1")
			}
		}
		p.Next = "/clients?" + q.Encode()
	}
	return answer{page: p}, err
}

// usage is what each client did lately, by id.
func (c *Console) usage(r *request) (map[string]grantway.ClientUsage, error) {
	all, err := c.Issuer.Usage(r.Context(), r.who, time.Now().AddDate(0, 0, -usageDays), false)
	used := map[string]grantway.ClientUsage{}
	for _, u := range all {
		used[u.Client] = u
	}
	return used, err
}

// clientPage is one client: what it may do, its secrets, and what it did.
type clientPage struct {
	Frame
	clientRow
	Days     int
	Secrets  []secretRow
	Made     string // a secret that is shown this once
	Note     string // what became of live tokens when it was made
	TokenURL string
	MayWrite bool
	Errors   problems
}

// secretRow is one secret of a client.
type secretRow struct{ grantway.ClientSecret }

func (s secretRow) Expired() bool { return !s.ExpiresAt.IsZero() && s.ExpiresAt.Before(time.Now()) }
func (s secretRow) Soon() bool {
	return !s.Expired() && !s.ExpiresAt.IsZero() && time.Until(s.ExpiresAt) < expirySoon
}

// HasSecrets tells whether the client authenticates with a secret.
func (p *clientPage) HasSecrets() bool { return strings.HasPrefix(p.AuthMethod, "client_secret") }

// Basic tells whether the client sends its secret in the Authorization header.
func (p *clientPage) Basic() bool {
	return p.AuthMethod == grantway.AuthBasic || p.AuthMethod == grantway.AuthSecret
}

// MetadataURL is where programs find out how the hub is used.
func (p *clientPage) MetadataURL() string {
	return strings.TrimSuffix(p.TokenURL, issuer.TokenPath) + issuer.MetadataPath
}

func (c *Console) loadClient(r *request, id string) (*clientPage, error) {
	one, err := c.Issuer.Client(r.Context(), r.who, id)
	if err != nil {
		return nil, err
	}
	used, err := c.usage(r)
	if err != nil {
		return nil, err
	}
	p := &clientPage{Frame: frame("client", one.Name, administration, integrationsAt, clientsAt), clientRow: clientRow{one, used[one.ID]}, Days: usageDays,
		TokenURL: c.URL() + issuer.TokenPath, MayWrite: c.mayWriteClient(r, one)}
	p.at = "/clients"
	if p.HasSecrets() {
		secrets, err := c.Issuer.Secrets(r.Context(), r.who, one.ID)
		if err != nil {
			return nil, err
		}
		for _, s := range secrets {
			p.Secrets = append(p.Secrets, secretRow{s})
		}
	}
	return p, nil
}

// mayWriteClient tells whether the person may change a client: it holds no role that the person could not give.
func (c *Console) mayWriteClient(r *request, one grantway.OAuthClient) bool {
	if len(one.Roles) == 0 {
		return r.who.May(access.WriteClient, access.Everywhere)
	}
	return !slices.ContainsFunc(one.Roles, func(a grantway.Assignment) bool {
		return !r.who.May(access.WriteClient, a.Division) || r.who.MayGrant(a) != nil
	})
}

func (c *Console) client(r *request) (answer, error) {
	p, err := c.loadClient(r, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return answer{page: p}, nil
}

func clientPath(id, rest string) string { return "/clients/" + url.PathEscape(id) + "/" + rest }

// showSecret shows a client with a secret that nobody can read later.
func (c *Console) showSecret(r *request, id, secret, note string) (answer, error) {
	p, err := c.loadClient(r, id)
	if err != nil {
		return answer{}, err
	}
	p.Made, p.Note = secret, note
	return answer{page: p}, nil
}

func (c *Console) addClientSecret(r *request) (answer, error) {
	id := r.PathValue("id")
	var n grantway.NewSecret
	wrong := problems{}
	if day := r.form("expires_at"); day != "" {
		var err error
		if n.ExpiresAt, err = time.Parse(time.DateOnly, day); err != nil {
			wrong["/expires_at"] = "must be a day such as 2027-01-31"
		}
	}
	if overlap := r.form("overlap"); overlap != "" && overlap != "keep" {
		d, err := time.ParseDuration(overlap)
		if err != nil {
			wrong["/old_expire_in"] = "must be one of the choices"
		}
		seconds := grantway.Seconds(d / time.Second)
		n.OldExpireIn = &seconds
	}
	var made grantway.ClientSecret
	if len(wrong) == 0 {
		var err error
		made, err = c.Issuer.AddSecret(r.Context(), r.who, id, n)
		if wrong = problemsOf(err); err != nil && wrong == nil {
			return answer{}, err
		}
	}
	if wrong != nil {
		p, err := c.loadClient(r, id)
		if err != nil {
			return answer{}, err
		}
		p.Errors = wrong
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	note := "The other secrets go on working."
	if n.OldExpireIn != nil {
		note = "The other secrets stop working " + map[bool]string{true: "now.", false: "as you chose, at the latest in " + n.OldExpireIn.Duration().String() + "."}[*n.OldExpireIn == 0]
	}
	return c.showSecret(r, id, made.Secret, note+" Tokens that were issued go on until they expire.")
}

func (c *Console) resetClientSecret(r *request) (answer, error) {
	how := grantway.SecretReset{RevokeTokens: r.form("tokens") == "revoke"}
	one, err := c.Issuer.ResetSecret(r.Context(), r.who, r.PathValue("id"), how)
	if err != nil {
		return answer{}, err
	}
	note := "All older secrets have stopped working. Tokens that were issued go on until they expire."
	if how.RevokeTokens {
		note = "All older secrets, and all tokens of this client, have stopped working."
	}
	return c.showSecret(r, one.ID, one.Secret, note)
}

func (c *Console) revokeClientSecret(r *request) (answer, error) {
	id := r.PathValue("id")
	err := c.Issuer.RevokeSecret(r.Context(), r.who, id, r.form("secret"))
	return answer{redirect: clientPath(id, "details"), flash: "The secret has stopped working."}, err
}

func (c *Console) revokeClientTokens(r *request) (answer, error) {
	id := r.PathValue("id")
	err := c.Issuer.RevokeTokens(r.Context(), r.who, id)
	return answer{redirect: clientPath(id, "details"), flash: "All tokens of this client have stopped working, on every replica."}, err
}

func (c *Console) activateClient(r *request) (answer, error) {
	id := r.PathValue("id")
	err := c.Issuer.SetActive(r.Context(), r.who, id, true)
	return answer{redirect: clientPath(id, "details"), flash: "The client is active again."}, err
}

func (c *Console) deactivateClient(r *request) (answer, error) {
	id := r.PathValue("id")
	err := c.Issuer.SetActive(r.Context(), r.who, id, false)
	if e := asError(err); e != nil && e.Code == grantway.Conflict {
		p, err := c.loadClient(r, id)
		if err != nil {
			return answer{}, err
		}
		p.Errors = problems{"": sentence(e.Message)}
		return answer{page: p, status: http.StatusConflict}, nil
	}
	return answer{redirect: clientPath(id, "details"), flash: "The client is inactive: it gets no tokens, and those it had have stopped working."}, err
}

func (c *Console) restoreClient(r *request) (answer, error) {
	one, err := c.Issuer.RestoreClient(r.Context(), r.who, r.PathValue("id"))
	if e := asError(err); e != nil && e.Code == grantway.Conflict {
		return answer{redirect: "/clients?deleted=1", flash: sentence(e.Message)}, nil
	}
	return answer{redirect: clientPath(r.PathValue("id"), "details"), flash: "The client " + one.Name + " is back, with its secrets."}, err
}

func (c *Console) clientDeletion(r *request) (*deletePage, error) {
	one, err := c.Issuer.Client(r.Context(), r.who, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if !c.mayWriteClient(r, one) {
		return nil, grantway.Errorf(grantway.Forbidden, "this client holds a role that you may not give, so you cannot delete it")
	}
	used, err := c.usage(r)
	if err != nil {
		return nil, err
	}
	p := &deletePage{Frame: frame("delete", "Delete client "+one.Name, administration, integrationsAt, clientsAt, crumb{one.Name, clientPath(one.ID, "details")}),
		Kind: "client", Name: one.Name, Action: clientPath(one.ID, "delete"), Back: clientPath(one.ID, "details"),
		Breaks: []string{"Its secrets and tokens stop working at once.", "For a week it can be restored, with its secrets and without its tokens.", "What the audit trail says of it stays."},
		remove: func() error { return c.Issuer.DeleteClient(r.Context(), r.who, one.ID) },
		done:   answer{redirect: "/clients", flash: "The client " + one.Name + " is deleted."}}
	p.at = "/clients"
	if u := used[one.ID]; u.Calls+u.Tokens > 0 {
		p.Breaks = append(p.Breaks, "It is in use: "+number(u.Tokens)+" tokens and "+number(u.Calls)+" calls in the last 30 days. Deactivate it first if you are not sure who depends on it.")
	}
	return p, nil
}

// advicePage asks the advisor's questions, and says which grant fits.
type advicePage struct {
	Frame
	Questions []grantway.Question
	Answers   map[string]string
	Advice    *grantway.Advice
	Diagram   diagram
	MayWrite  bool
}

// GrantType is that of the clients for which the advice is.
func (p *advicePage) GrantType() string {
	if p.Advice.Grant == grantway.GrantClientCredentials {
		return p.Advice.Grant
	}
	return grantway.GrantAuthorizationCode
}

// Title is the grant as people read it.
func grantTitle(grant string) string {
	switch grant {
	case grantway.GrantClientCredentials:
		return "Client Credentials"
	case grantway.GrantAuthorizationCode:
		return "Authorization Code"
	case "refresh_token":
		return "Authorization Code with refresh token"
	case "saml2-bearer":
		return "SAML2 Bearer"
	}
	return grant
}

func (c *Console) advice(r *request) (answer, error) {
	p := &advicePage{Frame: frame("advice", "Which grant type?", administration, integrationsAt, clientsAt), Questions: issuer.Questions(), Answers: answersFrom(r),
		MayWrite: r.who.Anywhere().Has(access.WriteClient)}
	p.at = "/clients"
	if len(p.Answers) > 0 {
		advice, err := issuer.Advise(p.Answers)
		if err != nil {
			return answer{}, err
		}
		p.Advice, p.Diagram = &advice, newDiagram(advice.Request)
	}
	return answer{page: p}, nil
}

// answersFrom are the answers to the advisor's questions that a form or an address carries.
func answersFrom(r *request) map[string]string {
	answers := map[string]string{}
	for _, q := range issuer.Questions() {
		if text := r.FormValue("answer." + q.Key); text != "" {
			answers[q.Key] = text
		}
	}
	return answers
}
