package access

import (
	"slices"
	"strings"

	"github.com/grantway/grantway"
)

// CheckToken says whether c's list of credentials, if it has one, lets it read tokens of the
// credential with this id. What its roles allow is for Check. The error is of code Forbidden.
func (c Caller) CheckToken(credential string) error {
	if c.Uses == nil || slices.ContainsFunc(c.Uses, func(u grantway.CredentialUse) bool {
		return u.Credential == credential && u.Via != grantway.ViaProxy
	}) {
		return nil
	}
	for _, u := range c.Uses {
		if u.Credential == credential {
			return grantway.Errorf(grantway.Forbidden, "this client may use the credential through the proxy only, and gets no tokens of it")
		}
	}
	return notListed()
}

// CheckRequest says whether c's list of credentials, if it has one, lets it send a request
// through the proxy. path is what follows the API's base URL: decoded, with a slash at its
// beginning, and without dot segments. The error is of code Forbidden.
func (c Caller) CheckRequest(credential, method, path string) error {
	if c.Uses == nil {
		return nil
	}
	listed := false
	for _, u := range c.Uses {
		if u.Credential != credential {
			continue
		}
		if allowsMethod(u.Methods, method) && allowsPath(u.Paths, path) {
			return nil
		}
		listed = true
	}
	if !listed {
		return notListed()
	}
	return grantway.Errorf(grantway.Forbidden, "this client may use the credential, but not with this method and path")
}

func notListed() error {
	return grantway.Errorf(grantway.Forbidden, "this credential is not on the list of those that this client may use")
}

func allowsMethod(methods []string, method string) bool {
	return len(methods) == 0 || slices.Contains(methods, method) || method == "HEAD" && slices.Contains(methods, "GET")
}

func allowsPath(paths []string, path string) bool {
	if len(paths) == 0 {
		return true
	}
	return slices.ContainsFunc(paths, func(prefix string) bool {
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
		return ok && (rest == "" || rest[0] == '/')
	})
}
