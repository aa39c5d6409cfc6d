package issuer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// Consented is what a person has allowed a program.
type Consented struct {
	Client string // id
	Name   string
	Scopes []string
	At     time.Time
}

// Consents lists the programs that a person lets act for it, the newest first.
func (i *Issuer) Consents(ctx context.Context, who access.Caller) (all []Consented, err error) {
	err = store.Each(ctx, i.Store.Read(), func(rows *sql.Rows) error {
		var c Consented
		var scope string
		var at int64
		if err := rows.Scan(&c.Client, &c.Name, &scope, &at); err != nil {
			return err
		}
		c.Scopes, c.At = strings.Fields(scope), timeOf(at)
		all = append(all, c)
		return nil
	}, `SELECT c.id, c.name, s.scope, s.created_at FROM consent s JOIN client c ON c.id = s.client_id WHERE s.person_id = $1 AND c.deleted_at = 0 ORDER BY s.created_at DESC, c.id`, who.ID)
	if err != nil {
		return nil, fmt.Errorf("consents of person %s: %w", who.ID, err)
	}
	return all, nil
}

// TakeBack ends what a person has allowed a client: all tokens that act for the person, on all
// replicas; the next time the person is asked again. Errors are of code NotFound.
func (i *Issuer) TakeBack(ctx context.Context, who access.Caller, client string) error {
	var revoked []string
	err := i.Store.Write(ctx, func(tx *store.Tx) error {
		revoked = nil
		var families []string
		var name, scope string
		err := tx.QueryRowContext(ctx, `SELECT c.name, s.scope FROM consent s JOIN client c ON c.id = s.client_id WHERE s.person_id = $1 AND s.client_id = $2`, who.ID, client).Scan(&name, &scope)
		if errors.Is(err, sql.ErrNoRows) {
			return grantway.Errorf(grantway.NotFound, "you have allowed this program nothing")
		}
		if err != nil {
			return err
		}
		for _, table := range []string{"authorization_code", "consent"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE person_id = $1 AND client_id = $2`, who.ID, client); err != nil {
				return err
			}
		}
		err = store.Each(ctx, tx, func(rows *sql.Rows) error { // each code began one, and its refresh tokens outlive all that came of it
			var family string
			err := rows.Scan(&family)
			families = append(families, family)
			return err
		}, `SELECT DISTINCT family FROM refresh_token WHERE person_id = $1 AND client_id = $2`, who.ID, client)
		if err != nil {
			return err
		}
		for _, family := range families {
			key, err := i.revokeFamily(ctx, tx, family)
			if err != nil {
				return err
			}
			revoked = append(revoked, key)
		}
		return i.Audit.Record(ctx, tx, who, grantway.Event{Action: "client.take_back", Object: "client/" + name, Detail: scope})
	})
	if _, ours := errors.AsType[*grantway.Error](err); ours {
		return err
	}
	for _, key := range revoked {
		if err == nil {
			err = i.tokenRevoked(ctx, key)
		}
	}
	if err != nil {
		return fmt.Errorf("take back consent: %w", err)
	}
	return nil
}
