package console

import (
	"slices"
	"strconv"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// ssoPage are the settings of single sign-on.
type ssoPage struct {
	Frame
	sent
	Settings  grantway.SingleSignOn
	On        bool // it is set up
	Rules     []grantway.RoleRule
	Roles     []string // that may be given
	Divisions []string
	MayWrite  bool
	Typed     bool // a secret, before this page was drawn again
}

// secretInput is the key under which a typed secret is kept.
const secretInput = "client_secret"

func (c *Console) newSSOPage(r *request) (*ssoPage, error) {
	p := &ssoPage{Frame: frame("sso", "Single sign-on", administration, crumb{"Access", ""}), MayWrite: r.who.May(access.WriteSSO, access.Everywhere)}
	var err error
	p.Settings, err = c.People.SSO(r.Context(), r.who)
	p.On = err == nil
	if e := asError(err); err != nil && (e == nil || e.Code != grantway.NotFound) {
		return nil, err
	}
	if p.Settings.Scopes == "" {
		p.Settings.Scopes = "openid email profile"
	}
	p.Divisions, p.Roles, err = c.grantable(r)
	return p, err
}

// finish puts errors beside their fields, and adds rows to fill in.
func (p *ssoPage) finish(wrong problems) {
	p.Errors, p.Wrong = wrong, summary(wrong, nil)
	titles := map[string]string{"/name": "Name", "/issuer": "Issuer", "/client_id": "Client id", "/client_secret": "Client secret", "/scopes": "Scopes", "/rules": "Rules"}
	for i, pointer := range wrong.pointers() { // in the order of the summary
		w := &p.Wrong[i]
		if title, ok := titles[pointer]; ok {
			w.Anchor, w.Title = strings.TrimPrefix(pointer, "/"), title
		} else if rest, ok := strings.CutPrefix(pointer, "/rules/"); ok {
			row, member, _ := strings.Cut(rest, "/")
			if n, err := strconv.Atoi(row); err == nil {
				w.Anchor, w.Title = "rules", "Rule "+strconv.Itoa(n+1)+", "+member
			}
		}
	}
	p.Rules = append(slices.Clone(p.Settings.Rules), grantway.RoleRule{Division: access.Everywhere}, grantway.RoleRule{Division: access.Everywhere})
}

func (c *Console) sso(r *request) (answer, error) {
	p, err := c.newSSOPage(r)
	if err != nil {
		return answer{}, err
	}
	p.finish(nil)
	return answer{page: p}, nil
}

// postedSSO fills the form with what was sent, and returns the settings that it describes.
func (c *Console) postedSSO(r *request) (*ssoPage, grantway.SingleSignOn, error) {
	p, err := c.newSSOPage(r)
	if err != nil {
		return nil, grantway.SingleSignOn{}, err
	}
	kept := c.openKept(r)
	if text := r.PostFormValue("client_secret"); text != "" {
		kept[secretInput] = text
	}
	stored := p.Settings.ClientSecret
	s := grantway.SingleSignOn{Name: r.form("name"), Issuer: r.form("issuer"), ClientID: r.form("client_id"), Scopes: r.form("scopes"),
		CreatePeople: r.form("create_people") != "", TrustEmail: r.form("trust_email") != "", RedirectURI: p.Settings.RedirectURI}
	claims, values, roles, divisions := r.PostForm["claim"], r.PostForm["value"], r.PostForm["role"], r.PostForm["division"]
	for i := range min(len(claims), len(values), len(roles), len(divisions)) {
		rule := grantway.RoleRule{Claim: strings.TrimSpace(claims[i]), Value: strings.TrimSpace(values[i]), Role: roles[i], Division: divisions[i]}
		if rule.Claim != "" || rule.Value != "" || rule.Role != "" {
			s.Rules = append(s.Rules, rule)
		}
	}
	p.Settings = s
	p.Settings.ClientSecret, p.Typed = stored, kept[secretInput] != ""
	s.ClientSecret = stored
	if p.Typed {
		s.ClientSecret = grantway.Text(kept[secretInput])
	}
	p.Kept, err = c.sealKept(r, kept)
	return p, s, err
}

func (c *Console) saveSSO(r *request) (answer, error) {
	p, wanted, err := c.postedSSO(r)
	if err != nil {
		return answer{}, err
	}
	if r.restored {
		return restored(p), nil
	}
	saved, err := c.People.SetSSO(r.Context(), r.who, wanted)
	if again, ok := refused(p, err); ok {
		return again, nil
	}
	return answer{redirect: "/single-sign-on", flash: "People can sign in with " + saved.Name + " now."}, err
}

func (c *Console) testSSO(r *request) (answer, error) {
	p, wanted, err := c.postedSSO(r)
	if err != nil {
		return answer{}, err
	}
	if r.restored {
		return restored(p), nil
	}
	report, err := c.People.TestSSO(r.Context(), r.who, wanted)
	return tried(r, p, report, err, "sso-part")
}

func (c *Console) ssoDeletion(r *request) (*deletePage, error) {
	if err := c.Audit.Require(r.Context(), r.who, access.WriteSSO, access.Everywhere, grantway.Event{Action: "sso.delete", Object: "sso"}); err != nil {
		return nil, err
	}
	s, err := c.People.SSO(r.Context(), r.who)
	if err != nil {
		return nil, err
	}
	return &deletePage{Frame: frame("delete", "End single sign-on", administration, crumb{"Access", ""}, crumb{"Single sign-on", "/single-sign-on"}),
		Kind: "single sign-on", Name: s.Name, Action: "/single-sign-on/delete", Back: "/single-sign-on",
		Breaks: []string{"Nobody can sign in with " + s.Name + " any more. Who has no password needs a link from People to choose one.", "Sessions that began with it go on until they end.", "The rules are gone; roles that people have stay."},
		remove: func() error { return c.People.DeleteSSO(r.Context(), r.who) },
		done:   answer{redirect: "/single-sign-on", flash: "Single sign-on has ended."}}, nil
}
