package issuer

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// refreshToken is the refresh of a token that a person allowed (RFC 6749 section 6). Each refresh
// token is good once and gives the next one; if one comes a second time, two have it, and
// all that goes back to the same consent ends (RFC 9700 section 4.14.2).
var refreshToken = grantType{
	name: "refresh_token", for_: []string{grantway.GrantAuthorizationCode},
	issue: func(i *Issuer, ctx context.Context, r *http.Request, got proven, f form) (*tokenResponse, *oauthError) {
		token := f.get("refresh_token")
		if token == "" {
			return nil, invalidRequest("refresh_token is missing")
		}
		bound, failure := i.boundTo(ctx, r, got)
		if failure != nil {
			return nil, failure
		}
		var row refreshRow
		var next, scope, revoked string
		err := i.Store.Write(ctx, func(tx *store.Tx) (err error) {
			failure, revoked = nil, ""
			if err := tx.Lock(ctx, "refresh "+i.hash(token)); err != nil {
				return err
			}
			var found bool
			if row, found, err = i.findRefresh(ctx, tx, token); err != nil {
				return err
			}
			now := time.Now().UnixMilli()
			switch {
			case !found || row.client != got.client.ID || row.expiresAt <= now:
				failure = invalidGrant(wrongRefresh)
				return nil
			case row.binding != "" && row.binding != string(bound):
				failure = invalidGrant("the refresh token is bound to another key")
				return nil
			case row.usedAt != 0:
				failure = invalidGrant(wrongRefresh)
				revoked, err = i.revokeFamily(ctx, tx, row.family)
				return err
			}
			if scope = f.get("scope"); scope == "" {
				scope = row.scope
			}
			had, _ := access.ParsePermissions(row.scope)
			if asked, ok := access.ParsePermissions(scope); !ok || asked&^had != 0 {
				failure = invalidScope("the scope is wider than what the person has allowed")
				return nil
			}
			used, err := tx.ExecContext(ctx, `UPDATE refresh_token SET used_at = $1 WHERE hash = $2`, now, i.hash(token))
			if err != nil {
				return err
			}
			if n, err := used.RowsAffected(); err != nil || n == 0 { // its family has ended since it was found
				failure = invalidGrant(wrongRefresh)
				return err
			}
			next, err = i.addRefresh(ctx, tx, row)
			return err
		})
		if err == nil && revoked != "" {
			i.Log.Warn("refresh token came twice; all that comes from the same consent is revoked", "client", got.client.ID, "person", row.person)
			err = i.tokenRevoked(ctx, revoked)
		}
		if err != nil {
			return nil, unavailable(err)
		}
		if failure != nil {
			return nil, failure
		}
		only, _ := access.ParsePermissions(scope)
		return i.answer(ctx, issuance{proven: got, person: row.person, only: only, scope: only.String(), resource: row.resource, binding: bound, family: row.family, refresh: next})
	},
}

const wrongRefresh = "the refresh token is unknown, has expired, or was used before"

// refreshRow is a row of refresh_token. Times are in Unix milliseconds.
type refreshRow struct {
	family, client, person, scope, resource, binding string
	usedAt, expiresAt                                int64
}

// addRefresh writes a new refresh token like row, and returns its text.
func (i *Issuer) addRefresh(ctx context.Context, tx *store.Tx, row refreshRow) (string, error) {
	text, now := newSecret(refreshPrefix), time.Now()
	_, err := tx.ExecContext(ctx, `
		INSERT INTO refresh_token (hash, family, client_id, person_id, scope, resource, binding, used_at, issued_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9)`,
		i.hash(text), row.family, row.client, row.person, row.scope, row.resource, row.binding, now.UnixMilli(), now.Add(refreshLife).UnixMilli())
	return text, err
}

func (i *Issuer) findRefresh(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, token string) (row refreshRow, found bool, err error) {
	if !wellFormed(refreshPrefix, token) {
		return row, false, nil
	}
	err = db.QueryRowContext(ctx, `
		SELECT family, client_id, person_id, scope, resource, binding, used_at, expires_at FROM refresh_token WHERE hash = $1`, i.hash(token)).
		Scan(&row.family, &row.client, &row.person, &row.scope, &row.resource, &row.binding, &row.usedAt, &row.expiresAt)
	if errors.Is(err, sql.ErrNoRows) {
		return row, false, nil
	}
	return row, err == nil, err
}

// deleteRefresh deletes refresh tokens, twice: on PostgreSQL the first time may wait for somebody who just uses one of them, and
// does not see the one that comes of that.
func deleteRefresh(ctx context.Context, tx *store.Tx, where string, args ...any) error {
	for range 2 {
		if _, err := tx.ExecContext(ctx, `DELETE FROM refresh_token WHERE `+where, args...); err != nil {
			return err
		}
	}
	return nil
}

// refreshBinding is what a refresh token is bound to: that of a public client to the key of the
// proof it came with (RFC 9449 section 5); others prove who they are anyway.
func refreshBinding(got proven, bound binding) string {
	if got.client.AuthMethod == grantway.AuthNone {
		return string(bound)
	}
	return ""
}
