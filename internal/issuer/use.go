package issuer

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// The bounds of a client's list of credentials, and of the lists in it.
const (
	maxUses    = 100
	maxMethods = 20
	maxPaths   = 50   // and endpoints
	maxPath    = 1024 // bytes
)

// checkUses finds all that is wrong with a list of credentials, and replaces names by ids.
// old are those of the client as it is: what is in there stays good when its credential is gone.
func (i *Issuer) checkUses(who access.Caller, uses, old []grantway.CredentialUse, wrong func(pointer, detail string)) []grantway.CredentialUse {
	if len(uses) > maxUses {
		wrong("/credentials", fmt.Sprintf("must be at most %d", maxUses))
		return uses
	}
	uses = slices.Clone(uses)
	for n := range uses {
		u, pointer := &uses[n], fmt.Sprintf("/credentials/%d", n)
		if id, _, ok := i.credential(who, u.Credential); ok {
			u.Credential = id
		} else if !slices.ContainsFunc(old, func(was grantway.CredentialUse) bool { return was.Credential == u.Credential }) {
			wrong(pointer+"/credential", "does not exist")
		}
		switch u.Via {
		case "":
			u.Via = grantway.ViaToken
		case grantway.ViaToken, grantway.ViaProxy, grantway.ViaEndpoint:
		default:
			wrong(pointer+"/via", "must be token, proxy or endpoint")
		}
		u.Methods, u.Paths, u.Endpoints = slices.Clone(u.Methods), slices.Clone(u.Paths), slices.Clone(u.Endpoints)
		if u.Via != grantway.ViaEndpoint && len(u.Endpoints) > 0 {
			wrong(pointer+"/via", "must be endpoint where there are endpoints: these are not all that it could call")
		}
		if len(u.Endpoints) > maxPaths {
			wrong(pointer+"/endpoints", fmt.Sprintf("must be at most %d", maxPaths))
		}
		for e, name := range u.Endpoints { // it may come with the connector's next version
			if name == "" || len(name) > 100 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
				wrong(fmt.Sprintf("%s/endpoints/%d", pointer, e), "must be a name: lower-case letters, digits, dashes and underscores")
			}
		}
		if u.Via != grantway.ViaProxy && len(u.Methods)+len(u.Paths) > 0 {
			wrong(pointer+"/via", "must be proxy where there are methods or paths: a token works with all of them")
		}
		if len(u.Methods) > maxMethods {
			wrong(pointer+"/methods", fmt.Sprintf("must be at most %d", maxMethods))
		}
		for m, method := range u.Methods {
			u.Methods[m] = strings.ToUpper(method)
			if method == "" || len(method) > 32 || strings.Trim(u.Methods[m], "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
				wrong(fmt.Sprintf("%s/methods/%d", pointer, m), "must be a method such as GET")
			}
		}
		if len(u.Paths) > maxPaths {
			wrong(pointer+"/paths", fmt.Sprintf("must be at most %d", maxPaths))
		}
		for p, path := range u.Paths {
			wrong(fmt.Sprintf("%s/paths/%d", pointer, p), wrongPath(path))
		}
	}
	return uses
}

// wrongPath says what is wrong with the beginning of a path, "" when nothing is. It is compared
// with decoded paths, so it is text and not escaped.
func wrongPath(path string) string {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "must begin with /, and is what follows the API's base URL"
	case len(path) > maxPath:
		return fmt.Sprintf("must be at most %d bytes", maxPath)
	case strings.ContainsFunc(path, func(c rune) bool { return c < ' ' || strings.ContainsRune(`?#%\*`, c) }):
		return `must be a plain path without ?, #, %, \ and *; it covers all below it`
	case slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "." || s == ".." }):
		return "must not have the segments . and .."
	}
	return ""
}

// credential finds a credential by name or id, as far as who may know of it.
func (i *Issuer) credential(who access.Caller, ref string) (id, name string, ok bool) {
	if i.Credential == nil {
		return "", "", false
	}
	return i.Credential(who, ref)
}

// writeUses replaces the list of credentials of a client.
func writeUses(ctx context.Context, tx *store.Tx, id string, uses []grantway.CredentialUse) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM client_credential WHERE client_id = $1`, id); err != nil {
		return fmt.Errorf("credentials of client %s: %w", id, err)
	}
	for position, u := range uses {
		methods, err := json.Marshal(u.Methods)
		if err != nil {
			return err
		}
		paths, err := json.Marshal(u.Paths)
		if err != nil {
			return err
		}
		endpoints, err := json.Marshal(u.Endpoints)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO client_credential (client_id, position, credential_id, via, methods, paths, endpoints) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			id, position, u.Credential, u.Via, string(methods), string(paths), string(endpoints))
		if err != nil {
			return fmt.Errorf("credentials of client %s: %w", id, err)
		}
	}
	return nil
}

// readUses adds the lists of credentials to the clients with ids in a range.
func readUses(ctx context.Context, db store.Querier, byID map[string]*client, from, to string) error {
	return store.Each(ctx, db, func(rows *sql.Rows) error {
		var id, methods, paths, endpoints string
		var u grantway.CredentialUse
		if err := rows.Scan(&id, &u.Credential, &u.Via, &methods, &paths, &endpoints); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(methods), &u.Methods); err != nil {
			return fmt.Errorf("methods of client %s: %w", id, err)
		}
		if err := json.Unmarshal([]byte(paths), &u.Paths); err != nil {
			return fmt.Errorf("paths of client %s: %w", id, err)
		}
		if err := json.Unmarshal([]byte(endpoints), &u.Endpoints); err != nil {
			return fmt.Errorf("endpoints of client %s: %w", id, err)
		}
		if c := byID[id]; c != nil {
			c.Credentials = append(c.Credentials, u)
		}
		return nil
	}, `SELECT client_id, credential_id, via, methods, paths, endpoints FROM client_credential
		WHERE client_id >= $1 AND client_id <= $2 ORDER BY client_id, position`, from, to)
}

// named is a list of credentials with names in place of ids, where who may know them.
func (i *Issuer) named(who access.Caller, uses []grantway.CredentialUse) []grantway.CredentialUse {
	uses = slices.Clone(uses)
	for n := range uses {
		if _, name, ok := i.credential(who, uses[n].Credential); ok {
			uses[n].Credential = name
		}
	}
	return uses
}

func sameUses(a, b []grantway.CredentialUse) bool {
	return slices.EqualFunc(a, b, func(x, y grantway.CredentialUse) bool {
		return x.Credential == y.Credential && x.Via == y.Via && slices.Equal(x.Methods, y.Methods) && slices.Equal(x.Paths, y.Paths) && slices.Equal(x.Endpoints, y.Endpoints)
	})
}
