package access

import (
	"slices"
	"strings"

	"github.com/grantway/grantway"
)

// CheckListed says whether the credential with this id is on c's list, if it has one, for
// whatever use. The error is of code Forbidden.
func (c Caller) CheckListed(credential string) error {
	if c.Uses == nil || slices.ContainsFunc(c.Uses, func(u grantway.CredentialUse) bool { return u.Credential == credential }) {
		return nil
	}
	return grantway.Errorf(grantway.Forbidden, "this credential is not on the list of those that this client may use")
}

// CheckToken says whether c's list of credentials, if it has one, lets it read tokens of the
// credential with this id. What its roles allow is for Check. The error is of code Forbidden.
func (c Caller) CheckToken(credential string) error {
	if c.Uses == nil || slices.ContainsFunc(c.Uses, func(u grantway.CredentialUse) bool {
		return u.Credential == credential && u.Via != grantway.ViaProxy && u.Via != grantway.ViaEndpoint
	}) {
		return nil
	}
	if err := c.CheckListed(credential); err != nil {
		return err
	}
	return grantway.Errorf(grantway.Forbidden, "this client may use the credential through the hub only, and gets no tokens of it")
}

// CheckRequest says whether c's list of credentials, if it has one, lets it send a request
// through the proxy. path is what follows the API's base URL: decoded, with a slash at its
// beginning, and without dot segments. The error is of code Forbidden.
func (c Caller) CheckRequest(credential, method, path string) error {
	if c.Uses == nil {
		return nil
	}
	if err := c.CheckListed(credential); err != nil {
		return err
	}
	for _, u := range c.Uses {
		if u.Credential != credential || u.Via == grantway.ViaEndpoint {
			continue
		}
		if allowsMethod(u.Methods, method) && allowsPath(u.Paths, path) {
			return nil
		}
	}
	return grantway.Errorf(grantway.Forbidden, "this client may use the credential, but not with this method and path")
}

// AllowsEndpoint says whether c's list of credentials lets it call an endpoint by its name, whatever
// method and path that has. One that may send such a request anyway is for CheckRequest.
func (c Caller) AllowsEndpoint(credential, endpoint string) bool {
	return slices.ContainsFunc(c.Uses, func(u grantway.CredentialUse) bool {
		return u.Credential == credential && u.Via == grantway.ViaEndpoint && (len(u.Endpoints) == 0 || slices.Contains(u.Endpoints, endpoint))
	})
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
