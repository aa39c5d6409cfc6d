package issuer

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// Bounds of settings.
const (
	minTokenSeconds = 300
	maxTokenSeconds = 172800
	maxRequests     = 1_000_000 // a minute
	maxList         = 50        // members of a list
)

// checkSettings finds what is wrong with the settings of c, and completes them. old is what c
// replaces, nil for a new client.
func checkSettings(c *grantway.OAuthClient, old *client, wrong func(pointer, detail string)) {
	setDefault(&c.GrantType, grantway.GrantClientCredentials)
	setDefault(&c.AuthMethod, grantway.AuthBasic)
	setDefault(&c.TokenFormat, grantway.FormatOpaque)
	if c.TokenSeconds == 0 {
		c.TokenSeconds = tokenSeconds
	}
	if c.TokenSeconds < minTokenSeconds || c.TokenSeconds > maxTokenSeconds {
		wrong("/token_seconds", fmt.Sprintf("must be from %d to %d", minTokenSeconds, maxTokenSeconds))
	}
	if c.RequestsPerMinute < 0 || c.RequestsPerMinute > maxRequests {
		wrong("/requests_per_minute", fmt.Sprintf("must be from 1 to %d, or left out", maxRequests))
	}
	switch c.TokenFormat {
	case grantway.FormatOpaque:
		if c.TokenAlg != "" {
			wrong("/token_signing_alg", "goes with the token format jwt")
		}
		if c.TokenTyp != "" {
			wrong("/token_typ", "goes with the token format jwt")
		}
	case grantway.FormatJWT:
		setDefault(&c.TokenAlg, grantway.AlgES256)
		if c.TokenTyp == grantway.TypAccessToken {
			c.TokenTyp = ""
		}
		if c.TokenTyp != "" && (c.TokenTyp != grantway.TypJWT || len(c.Resources) == 0) {
			wrong("/token_typ", "must be at+jwt, or JWT for a client with resources")
		}
		if !slices.Contains(signingAlgs, c.TokenAlg) {
			wrong("/token_signing_alg", "must be one of "+strings.Join(signingAlgs, ", "))
		}
	default:
		wrong("/token_format", "must be opaque or jwt")
	}
	checkGrant(c, wrong)
	checkMethod(c, old, wrong)
	for n, text := range c.AllowedNetworks {
		p, ok := parseNetwork(text)
		if !ok {
			wrong(fmt.Sprintf("/allowed_networks/%d", n), "is not a network such as 10.0.0.0/8, or an address")
			continue
		}
		c.AllowedNetworks[n] = p.String()
	}
	for n, text := range c.Resources {
		if !isResource(text) {
			wrong(fmt.Sprintf("/resources/%d", n), "must be an absolute URI without a fragment, such as https://api.example.com")
		}
	}
	for pointer, list := range map[string][]string{"/allowed_networks": c.AllowedNetworks, "/resources": c.Resources, "/redirect_uris": c.RedirectURIs} {
		if len(list) > maxList {
			wrong(pointer, fmt.Sprintf("has more than %d members", maxList))
		}
	}
	switch c.State {
	case "", grantway.ClientActive, grantway.ClientInactive:
	default:
		wrong("/state", "must be active or inactive")
	}
	if c.Advice != nil {
		checkAdvice(c, wrong)
	}
}

// defaults is a client whose settings nobody has chosen.
func defaults() (c grantway.OAuthClient) {
	c.State = grantway.ClientActive
	checkSettings(&c, nil, func(string, string) {})
	return c
}

func setDefault(s *string, to string) {
	if *s == "" {
		*s = to
	}
}

// checkGrant checks what goes with one grant type and not with the other.
func checkGrant(c *grantway.OAuthClient, wrong func(pointer, detail string)) {
	switch c.GrantType {
	case grantway.GrantClientCredentials:
		if len(c.Roles) == 0 {
			wrong("/roles", "are required: a client without a role may do nothing")
		}
		if len(c.RedirectURIs) > 0 {
			wrong("/redirect_uris", "go with the grant type authorization_code")
		}
		if len(c.Scopes) > 0 {
			wrong("/scopes", "go with the grant type authorization_code; what this client may do are its roles")
		}
	case grantway.GrantAuthorizationCode:
		if len(c.Roles) > 0 {
			wrong("/roles", "go with the grant type client_credentials; this client acts for people, within their roles")
		}
		if len(c.RedirectURIs) == 0 {
			wrong("/redirect_uris", "are required")
		}
		for n, text := range c.RedirectURIs {
			if detail := wrongRedirect(text); detail != "" {
				wrong(fmt.Sprintf("/redirect_uris/%d", n), detail)
			}
		}
		if len(c.Scopes) == 0 {
			wrong("/scopes", "are required: permissions that people may let the client use")
		}
		for n, text := range c.Scopes {
			if p, ok := access.ParsePermissions(text); !ok || p.String() != text || strings.Contains(text, " ") {
				wrong(fmt.Sprintf("/scopes/%d", n), "is not a permission such as credential.use")
			} else if slices.Contains(c.Scopes[:n], text) {
				wrong(fmt.Sprintf("/scopes/%d", n), "is there twice")
			}
		}
	default:
		wrong("/grant_type", "must be client_credentials or authorization_code")
	}
}

// wrongRedirect says what is wrong with a redirect URI (RFC 9700 section 2.1, RFC 8252 section 7).
func wrongRedirect(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "" || len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "must be an absolute URI"
	case strings.Contains(text, "#"):
		return "must have no fragment"
	case u.User != nil:
		return "must have no user"
	case u.Scheme == "https" && u.Host != "":
		return ""
	case u.Scheme == "http" && isLoopback(u):
		return ""
	case u.Scheme == "http":
		return "must be https, or http to a loopback address"
	case strings.Contains(u.Scheme, "."): // com.example.app:/callback
		return ""
	}
	return "must be https, http to a loopback address, or have a scheme such as com.example.app"
}

// isLoopback says whether u leads to the machine of who follows it. RFC 8252 section 8.3 advises
// against localhost, so it counts only with the port that was registered.
func isLoopback(u *url.URL) bool {
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.IsLoopback() || u.Hostname() == "localhost"
}

func parseNetwork(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err == nil
}

func isResource(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.IsAbs() && (u.Host != "" || u.Opaque != "") && !strings.Contains(text, "#") && len(text) <= 2000
}

// settingsJSON is what the database holds of the settings: all that has no column of its own.
func settingsJSON(c grantway.OAuthClient) (string, error) {
	s := c.ClientSettings
	s.GrantType, s.AuthMethod, s.TokenSeconds = "", "", 0
	text, err := json.Marshal(s)
	return string(text), err
}

// compile makes of what was read what requests are checked with.
func (c *client) compile(settings string, seconds int64) error {
	grant, method := c.GrantType, c.AuthMethod
	if err := json.Unmarshal([]byte(settings), &c.ClientSettings); err != nil {
		return fmt.Errorf("settings of client %s: %w", c.ID, err)
	}
	c.GrantType, c.AuthMethod, c.TokenSeconds = grant, method, grantway.Seconds(seconds)
	setDefault(&c.TokenFormat, grantway.FormatOpaque)
	c.lifetime = time.Duration(seconds) * time.Second
	for _, text := range c.AllowedNetworks {
		if p, ok := parseNetwork(text); ok {
			c.networks = append(c.networks, p)
		}
	}
	c.scopes, _ = access.ParsePermissions(strings.Join(c.Scopes, " "))
	c.State = grantway.ClientInactive
	if c.active {
		c.State = grantway.ClientActive
	}
	return nil
}

// admits says whether the client may come from this address.
func (c *client) admits(from netip.Addr) bool {
	return len(c.networks) == 0 || slices.ContainsFunc(c.networks, func(p netip.Prefix) bool { return p.Contains(from.Unmap()) })
}
