package issuer

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

const (
	codePrefix    = "gwc_"
	refreshPrefix = "gwr_"

	codeLife    = time.Minute
	refreshLife = 30 * 24 * time.Hour // of each refresh token; the next one begins anew
)

// authorizationCode is the authorization code grant (RFC 6749 section 4.1) with PKCE, which is
// required (RFC 9700 section 2.1.1): a client gets a token to act for a person who has
// allowed it, within the person's roles and the client's scopes, both as they are at each call.
var authorizationCode = grantType{
	name: grantway.GrantAuthorizationCode, for_: []string{grantway.GrantAuthorizationCode},
	issue: func(i *Issuer, ctx context.Context, r *http.Request, got proven, f form) (*tokenResponse, *oauthError) {
		code, verifier := f.get("code"), f.get("code_verifier")
		switch {
		case code == "":
			return nil, invalidRequest("code is missing")
		case len(verifier) < 43 || len(verifier) > 128:
			return nil, invalidGrant("code_verifier must have 43 to 128 characters (RFC 7636 section 4.1)")
		case f.get("redirect_uri") == "":
			return nil, invalidRequest("redirect_uri is missing")
		}
		bound, failure := i.boundTo(ctx, r, got)
		if failure != nil {
			return nil, failure
		}
		var row codeRow
		var refresh, revoked string
		family := rand.Text()
		err := i.Store.Write(ctx, func(tx *store.Tx) (err error) {
			failure, revoked = nil, ""
			if row, err = i.useCode(ctx, tx, code, family); err != nil {
				return err
			}
			if failure = checkCode(row, got, f, bound); failure != nil {
				if row.family != "" && row.client == got.client.ID { // twice: somebody has it who should not
					revoked, err = i.revokeFamily(ctx, tx, row.family)
				}
				return err
			}
			refresh, err = i.addRefresh(ctx, tx, refreshRow{family: family, client: row.client, person: row.person, scope: row.scope, resource: row.resource, binding: refreshBinding(got, bound)})
			return err
		})
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil, invalidGrant(wrongCode)
		case err != nil:
			return nil, unavailable(err)
		case failure != nil:
			if revoked != "" {
				i.Log.Warn("authorization code came twice; what it gave is revoked", "client", got.client.ID)
				i.tokenRevoked(ctx, revoked)
			}
			return nil, failure
		}
		only, _ := access.ParsePermissions(row.scope)
		return i.answer(ctx, issuance{proven: got, person: row.person, only: only, scope: row.scope, resource: row.resource, binding: bound, family: family, refresh: refresh})
	},
}

const wrongCode = "the code is unknown, has expired, was used, or belongs to another request"

// codeRow is a row of authorization_code.
type codeRow struct {
	client, person, redirect, challenge, scope, resource, binding, family string
	expiresAt                                                             int64
}

// useCode reads a code and marks it as used by family. What it returns is as it was before.
func (i *Issuer) useCode(ctx context.Context, tx *store.Tx, code, family string) (row codeRow, err error) {
	hash := i.hash(code)
	if err := tx.Lock(ctx, "code "+hash); err != nil {
		return row, err
	}
	err = tx.QueryRowContext(ctx, `
		SELECT client_id, person_id, redirect_uri, challenge, scope, resource, binding, family, expires_at
		FROM authorization_code WHERE hash = $1`, hash).
		Scan(&row.client, &row.person, &row.redirect, &row.challenge, &row.scope, &row.resource, &row.binding, &row.family, &row.expiresAt)
	if err != nil || row.family != "" {
		return row, err
	}
	used, err := tx.ExecContext(ctx, `UPDATE authorization_code SET family = $1 WHERE hash = $2`, family, hash)
	if err != nil {
		return row, err
	}
	if n, err := used.RowsAffected(); err != nil || n == 0 { // it was taken back since it was found
		return row, cmp.Or(err, sql.ErrNoRows)
	}
	return row, nil
}

func checkCode(row codeRow, got proven, f form, bound binding) *oauthError {
	sum := sha256.Sum256([]byte(f.get("code_verifier")))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	if row.family != "" || row.client != got.client.ID || time.Now().UnixMilli() >= row.expiresAt || row.redirect != f.get("redirect_uri") ||
		subtle.ConstantTimeCompare([]byte(challenge), []byte(row.challenge)) != 1 {
		return invalidGrant(wrongCode)
	}
	if row.binding != "" && row.binding != string(bound) {
		return invalidGrant("the code is bound to another DPoP key")
	}
	return nil
}
