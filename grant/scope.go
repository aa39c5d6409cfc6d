package grant

import (
	"fmt"
	"slices"
	"strings"
)

// ParseScope splits a scope into its tokens at runs of spaces, keeping order and case.
// An empty or blank scope has none. It fails on a character that RFC 6749 appendix A.4
// does not allow: a tab, a line break, a quotation mark, a backslash, anything beyond ASCII.
func ParseScope(s string) ([]string, error) {
	for i, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return nil, fmt.Errorf("character %d of the scope (%#02x) is not allowed in one (RFC 6749 appendix A.4)", i+1, c)
		}
	}
	return strings.Fields(s), nil
}

// NormalizeScope is ParseScope joined again by single spaces: the form that is sent.
func NormalizeScope(s string) (string, error) {
	tokens, err := ParseScope(s)
	return strings.Join(tokens, " "), err
}

// MissingScopes lists the tokens of the requested scope that t was not granted, in the
// order they were requested. Where the access token is a JWT with a scope or scp claim,
// that claim decides: some servers drop a scope without saying so in the reply. A JWT
// without either claim, such as those of Microsoft Entra ID, decides nothing.
func MissingScopes(requested string, t *Token) []string {
	granted := strings.Fields(t.Scope)
	claims := t.Claims()
	for _, name := range []string{"scope", "scp"} {
		switch v := claims[name].(type) {
		case string:
			granted = strings.Fields(v)
		case []any:
			granted = nil
			for _, s := range v {
				granted = append(granted, fmt.Sprint(s))
			}
		}
	}
	var missing []string
	for _, s := range strings.Fields(requested) {
		if !slices.Contains(granted, s) {
			missing = append(missing, s)
		}
	}
	return missing
}
