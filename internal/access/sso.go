package access

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// ssoRow is the id of the one row of sso.
const ssoRow = "sso"

const defaultScopes = "openid email profile"

// sso are the settings of single sign-on as they are stored.
type sso struct {
	grantway.SingleSignOn
	sealed []byte // the client secret; empty: none
}

// readSSO returns nil when there is no single sign-on.
func readSSO(ctx context.Context, db store.Querier) (found *sso, err error) {
	err = store.Each(ctx, db, func(rows *sql.Rows) error {
		found = &sso{}
		var settings string
		if err := rows.Scan(&settings, &found.sealed); err != nil {
			return err
		}
		return json.Unmarshal([]byte(settings), &found.SingleSignOn)
	}, `SELECT settings, client_secret FROM sso WHERE id = $1`, ssoRow)
	if err != nil {
		return nil, fmt.Errorf("settings of single sign-on: %w", err)
	}
	return found, nil
}

// public is s for callers: without the secret, and with what to register at the provider.
func (p *People) public(s *sso) grantway.SingleSignOn {
	one := s.SingleSignOn
	one.ClientSecret = grantway.Value{Set: len(s.sealed) > 0}
	one.RedirectURI = p.URL() + SSOPath
	return one
}

// SSO returns the settings of single sign-on. When there are none, RedirectURI alone is set, and
// the error is of code NotFound; it is of code Forbidden for those who may not read people
// everywhere.
func (p *People) SSO(ctx context.Context, who Caller) (grantway.SingleSignOn, error) {
	none := grantway.SingleSignOn{RedirectURI: p.URL() + SSOPath}
	if err := p.Audit.Require(ctx, who, ReadPerson, Everywhere, grantway.Event{Action: "sso.read"}); err != nil {
		return grantway.SingleSignOn{}, err
	}
	s, err := readSSO(ctx, p.Store.Read())
	if err != nil {
		return none, err
	}
	if s == nil {
		return none, grantway.Errorf(grantway.NotFound, "single sign-on is not set up")
	}
	return p.public(s), nil
}

// SetSSO replaces the settings of single sign-on. Whoever is let in by the new ones is up to the
// provider, so it takes the permission WriteSSO, and all that the roles of the rules allow.
// Errors are of code Forbidden or Invalid.
func (p *People) SetSSO(ctx context.Context, who Caller, s grantway.SingleSignOn) (grantway.SingleSignOn, error) {
	event := grantway.Event{Action: "sso.update", Object: "sso"}
	if err := p.Audit.Require(ctx, who, WriteSSO, Everywhere, event); err != nil {
		return grantway.SingleSignOn{}, err
	}
	var stored *sso
	err := p.change(ctx, who, &event, func(tx *store.Tx) error {
		old, err := readSSO(ctx, tx)
		if err != nil {
			return err
		}
		stored = &sso{SingleSignOn: s}
		stored.Rules = slices.Clone(s.Rules)
		if err := stored.check(ctx, tx, old); err != nil {
			return err
		}
		for _, r := range stored.Rules {
			if err := who.MayGrant(grantway.Assignment{Role: r.Role, Division: r.Division}); err != nil {
				return err
			}
		}
		if text := s.ClientSecret.Text; text != "" {
			if stored.sealed, err = p.Sealer.Seal(ssoSecretPlace, []byte(text)); err != nil {
				return err
			}
		}
		if stored.sealed == nil {
			stored.sealed = []byte{}
		}
		stored.ClientSecret, stored.RedirectURI = grantway.Value{}, ""
		settings, err := json.Marshal(stored.SingleSignOn)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO sso (id, settings, client_secret) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET settings = excluded.settings, client_secret = excluded.client_secret`, ssoRow, string(settings), stored.sealed)
		if err != nil {
			return fmt.Errorf("settings of single sign-on: %w", err)
		}
		event.Fields, event.Detail = changedSSO(old, stored), stored.Issuer
		return p.Audit.Record(ctx, tx, who, event)
	})
	if err != nil {
		return grantway.SingleSignOn{}, err
	}
	return p.public(stored), nil
}

// changedSSO names what differs.
func changedSSO(old, now *sso) (fields []string) {
	if old == nil {
		old = &sso{}
	}
	for field, changed := range map[string]bool{
		"name": old.Name != now.Name, "issuer": old.Issuer != now.Issuer, "client_id": old.ClientID != now.ClientID,
		"client_secret": !bytes.Equal(old.sealed, now.sealed), "scopes": old.Scopes != now.Scopes, "rules": !slices.Equal(old.Rules, now.Rules),
		"create_people": old.CreatePeople != now.CreatePeople, "trust_email": old.TrustEmail != now.TrustEmail,
	} {
		if changed {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	return fields
}

// DeleteSSO ends single sign-on. Sessions that began with it go on. Errors are of code
// Forbidden or NotFound.
func (p *People) DeleteSSO(ctx context.Context, who Caller) error {
	event := grantway.Event{Action: "sso.delete", Object: "sso"}
	if err := p.Audit.Require(ctx, who, WriteSSO, Everywhere, event); err != nil {
		return err
	}
	return p.change(ctx, who, &event, func(tx *store.Tx) error {
		old, err := readSSO(ctx, tx)
		if err != nil {
			return err
		}
		if old == nil {
			return grantway.Errorf(grantway.NotFound, "single sign-on is not set up")
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM sso WHERE id = $1`, ssoRow); err != nil {
			return fmt.Errorf("settings of single sign-on: %w", err)
		}
		return p.Audit.Record(ctx, tx, who, event)
	})
}

// SSOName is what the button on the sign-in page says; ok is false when there is no single sign-on.
func (p *People) SSOName(ctx context.Context) (name string, ok bool, err error) {
	s, err := readSSO(ctx, p.Store.Read())
	if err != nil || s == nil {
		return "", false, err
	}
	return s.Name, true, nil
}

// check finds all that is wrong with s, and completes it from the settings before.
func (s *sso) check(ctx context.Context, db store.Querier, old *sso) error {
	var fields []grantway.Field
	wrong := func(pointer, detail string) {
		if detail != "" {
			fields = append(fields, grantway.Field{Pointer: pointer, Detail: detail})
		}
	}
	s.Name, s.Issuer, s.ClientID = strings.TrimSpace(s.Name), strings.TrimSpace(s.Issuer), strings.TrimSpace(s.ClientID)
	if s.Name == "" {
		wrong("/name", "is required: it is what the button on the sign-in page says")
	}
	wrong("/name", wrongPersonName(s.Name))
	wrong("/issuer", wrongIssuer(s.Issuer))
	wrong("/client_id", wrongText(s.ClientID))
	s.Scopes = strings.Join(strings.Fields(s.Scopes), " ")
	if s.Scopes == "" {
		s.Scopes = defaultScopes
	}
	if !slices.Contains(strings.Fields(s.Scopes), "openid") {
		wrong("/scopes", "must contain openid")
	} else {
		wrong("/scopes", wrongText(s.Scopes))
	}
	secret := s.ClientSecret
	switch {
	case secret.Ref != nil || secret.Params != nil:
		wrong("/client_secret", "must be text")
	case secret.Text != "":
		wrong("/client_secret", wrongText(secret.Text))
	case old != nil && len(old.sealed) > 0 && old.Issuer == s.Issuer && old.ClientID == s.ClientID:
		s.sealed = old.sealed
	case secret.Set:
		wrong("/client_secret", "must be entered again when the issuer or the client changes: it is not sent to anybody else")
	}
	if s.CreatePeople && len(s.Rules) == 0 {
		wrong("/rules", "are required when people may come in without an invitation: who nobody has invited gets roles by a rule only")
	}
	if len(s.Rules) > 100 {
		wrong("/rules", "are more than 100")
	}
	divisions, err := divisionNames(ctx, db)
	if err != nil {
		return err
	}
	for n := range s.Rules {
		r, pointer := &s.Rules[n], fmt.Sprintf("/rules/%d", n)
		if r.Division == "" {
			r.Division = grantway.DefaultDivision
		}
		wrong(pointer+"/claim", wrongText(r.Claim))
		wrong(pointer+"/value", wrongText(r.Value))
		if !KnownRole(r.Role) {
			wrong(pointer+"/role", "must be one of "+strings.Join(Roles(), ", "))
		}
		if !divisions[r.Division] {
			wrong(pointer+"/division", "does not exist")
		}
	}
	if fields != nil {
		return invalidPerson(fields...)
	}
	return nil
}

func wrongIssuer(issuer string) string {
	u, err := url.Parse(issuer)
	switch {
	case issuer == "":
		return "is required"
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "must be an address such as https://login.example.com"
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return "must have no query, no fragment and no user" // OpenID Connect Discovery 1.0 section 3
	case strings.HasSuffix(u.Path, "/.well-known/openid-configuration"):
		return "must be the address of the issuer, without /.well-known/openid-configuration"
	}
	return wrongText(issuer)
}

// wrongText says what is wrong with one line of text that is required.
func wrongText(text string) string {
	switch {
	case text == "":
		return "is required"
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return "holds control characters, or is not UTF-8"
	case len(text) > 1024:
		return "is longer than 1,024 bytes"
	}
	return ""
}

// rolesOf is what the rules give to a person of whom the provider says claims. Divisions that
// have been deleted since are left out.
func (s *sso) rolesOf(claims map[string]any, divisions map[string]bool) []grantway.Assignment {
	roles := []grantway.Assignment{}
	for _, r := range s.Rules {
		a := grantway.Assignment{Role: r.Role, Division: r.Division}
		if divisions[a.Division] && !slices.Contains(roles, a) && says(claims, r.Claim, r.Value) {
			roles = append(roles, a)
		}
	}
	return roles
}

// says whether the claim is value, or a list with value in it. A claim that is not there by its
// full name may be one of an object: realm_access.roles.
func says(claims map[string]any, claim, value string) bool {
	got, there := claims[claim]
	if !there {
		outer, inner, dotted := strings.Cut(claim, ".")
		object, ok := claims[outer].(map[string]any)
		return dotted && ok && says(object, inner, value)
	}
	if list, ok := got.([]any); ok {
		return slices.ContainsFunc(list, func(one any) bool { return same(one, value) })
	}
	return same(got, value)
}

func same(got any, value string) bool {
	switch got := got.(type) {
	case nil:
		return false
	case string:
		return got == value || value == "*" && got != ""
	case bool:
		return value == "*" && got || fmt.Sprint(got) == value
	case float64, json.Number:
		return value == "*" || fmt.Sprint(got) == value
	}
	return value == "*"
}
