package issuer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

const (
	maxSecrets = 10                  // of one client
	expirySoon = 14 * 24 * time.Hour // when warnings begin
)

// usesSecret says whether clients with this authentication method have secrets.
func usesSecret(method string) bool {
	switch method {
	case grantway.AuthBasic, grantway.AuthPost, grantway.AuthSecret, grantway.AuthSecretJWT:
		return true
	}
	return false
}

// addSecret writes one more secret for c.
func (i *Issuer) addSecret(ctx context.Context, tx *store.Tx, c *grantway.OAuthClient, expires time.Time) (id, secret string, err error) {
	id, secret = newID("secret"), newSecret(secretPrefix)
	var sealed []byte
	if c.AuthMethod == grantway.AuthSecretJWT {
		if sealed, err = i.Sealer.Seal(secretPlace(id), []byte(secret)); err != nil {
			return "", "", err
		}
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO client_secret (id, client_id, hash, sealed, created_at, expires_at, last_used) VALUES ($1, $2, $3, $4, $5, $6, 0)`,
		id, c.ID, i.hash(secret), sealed, time.Now().UnixMilli(), unixMilli(expires))
	if err != nil {
		return "", "", fmt.Errorf("secret of client %s: %w", c.ID, err)
	}
	return id, secret, nil
}

// ResetSecret gives a client a new secret, in the answer, and ends the old ones. Tokens that
// it has stay good until they expire, unless how says to end them; the answer says which.
// Errors are of code Forbidden, NotFound, or Conflict when the client has no secrets.
func (i *Issuer) ResetSecret(ctx context.Context, who access.Caller, id string, how grantway.SecretReset) (grantway.OAuthClient, error) {
	var secret string
	stored, err := i.edit(ctx, who, id, "client.reset_secret", func(tx *store.Tx, old *client, event *grantway.Event) error {
		if !usesSecret(old.AuthMethod) {
			return noSecrets(old)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM client_secret WHERE client_id = $1`, id); err != nil {
			return err
		}
		secretID, fresh, err := i.addSecret(ctx, tx, &old.OAuthClient, time.Time{})
		if secret, event.Detail = fresh, "secret "+secretID; err != nil || !how.RevokeTokens {
			return err
		}
		event.Detail += ", tokens revoked"
		return revokeTokens(ctx, tx, id)
	})
	if err != nil {
		return grantway.OAuthClient{}, err
	}
	one := i.public(who, stored, secret)
	one.LiveTokens = map[bool]string{false: "kept", true: "revoked"}[how.RevokeTokens]
	return one, nil
}

// RevokeTokens ends all tokens that a client has. Errors are of code Forbidden or NotFound.
func (i *Issuer) RevokeTokens(ctx context.Context, who access.Caller, id string) error {
	_, err := i.edit(ctx, who, id, "client.revoke_tokens", func(tx *store.Tx, _ *client, _ *grantway.Event) error {
		return revokeTokens(ctx, tx, id)
	})
	return err
}

// revokeTokens ends the tokens of a client: those that say a smaller tokens_after, and so those too that
// a replica issues which has not heard of it yet. No clocks are compared.
func revokeTokens(ctx context.Context, tx *store.Tx, id string) error {
	_, err := tx.ExecContext(ctx, `UPDATE client SET tokens_after = CASE WHEN tokens_after >= $1 THEN tokens_after + 1 ELSE $1 END WHERE id = $2`, time.Now().UnixMilli(), id)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM authorization_code WHERE client_id = $1`, id); err != nil {
		return err
	}
	return deleteRefresh(ctx, tx, `client_id = $1`, id)
}

// Secrets lists the secrets of a client, without their text, the oldest first. Errors are of
// code Forbidden or NotFound.
func (i *Issuer) Secrets(ctx context.Context, who access.Caller, id string) ([]grantway.ClientSecret, error) {
	if _, err := i.Client(ctx, who, id); err != nil {
		return nil, err
	}
	c, err := readClient(ctx, i.Store.Read(), id) // last used is newer there
	if err != nil {
		return nil, err
	}
	all := []grantway.ClientSecret{}
	for _, s := range c.secrets {
		all = append(all, grantway.ClientSecret{ID: s.id, CreatedAt: timeOf(s.createdAt), ExpiresAt: timeOf(s.expiresAt), LastUsed: timeOf(s.lastUsed)})
	}
	return all, nil
}

// AddSecret gives a client one more secret, in the answer, and says when the others end.
// Errors are of code Forbidden, NotFound, Invalid, or Conflict when the client has no secrets,
// or too many.
func (i *Issuer) AddSecret(ctx context.Context, who access.Caller, id string, n grantway.NewSecret) (grantway.ClientSecret, error) {
	now := time.Now()
	if !n.ExpiresAt.IsZero() && !n.ExpiresAt.After(now) {
		return grantway.ClientSecret{}, wrongField("/expires_at", "is in the past")
	}
	if n.OldExpireIn != nil && (*n.OldExpireIn < 0 || *n.OldExpireIn > 366*86400) {
		return grantway.ClientSecret{}, wrongField("/old_expire_in", "must be from 0 to 31622400 seconds")
	}
	var made grantway.ClientSecret
	_, err := i.edit(ctx, who, id, "client.add_secret", func(tx *store.Tx, old *client, event *grantway.Event) error {
		if !usesSecret(old.AuthMethod) {
			return noSecrets(old)
		}
		if n.OldExpireIn != nil {
			end := now.Add(n.OldExpireIn.Duration())
			_, err := tx.ExecContext(ctx, `UPDATE client_secret SET expires_at = $1 WHERE client_id = $2 AND (expires_at = 0 OR expires_at > $1)`, end.UnixMilli(), id)
			if err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM client_secret WHERE client_id = $1 AND expires_at <> 0 AND expires_at <= $2`, id, now.UnixMilli())
		if err != nil {
			return err
		}
		secretID, secret, err := i.addSecret(ctx, tx, &old.OAuthClient, n.ExpiresAt)
		if err != nil {
			return err
		}
		var count int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM client_secret WHERE client_id = $1`, id).Scan(&count); err != nil {
			return err
		}
		if count > maxSecrets {
			return grantway.Errorf(grantway.Conflict, "client %s has %d secrets; revoke one first", old.Name, maxSecrets)
		}
		event.Detail = "secret " + secretID
		made = grantway.ClientSecret{ID: secretID, CreatedAt: now.UTC().Truncate(time.Millisecond), ExpiresAt: n.ExpiresAt.UTC(), Secret: secret, SecretExpiresAt: unixSeconds(unixMilli(n.ExpiresAt))}
		return nil
	})
	if err != nil {
		return grantway.ClientSecret{}, err
	}
	return made, nil
}

// RevokeSecret ends one secret of a client; tokens it got with it stay. Errors are of code
// Forbidden or NotFound.
func (i *Issuer) RevokeSecret(ctx context.Context, who access.Caller, id, secretID string) error {
	_, err := i.edit(ctx, who, id, "client.revoke_secret", func(tx *store.Tx, old *client, event *grantway.Event) error {
		if !slices.ContainsFunc(old.secrets, func(s clientSecret) bool { return s.id == secretID }) {
			return grantway.Errorf(grantway.NotFound, "client %s has no secret with this id", old.Name)
		}
		event.Detail = "secret " + secretID
		_, err := tx.ExecContext(ctx, `DELETE FROM client_secret WHERE client_id = $1 AND id = $2`, id, secretID)
		return err
	})
	return err
}

func noSecrets(c *client) error {
	return grantway.Errorf(grantway.Conflict, "client %s authenticates by %s and has no secrets", c.Name, c.AuthMethod)
}

func wrongField(pointer, detail string) error {
	return &grantway.Error{Code: grantway.Invalid, Message: "a field is wrong", Fields: []grantway.Field{{Pointer: pointer, Detail: detail}}}
}

// Expiring is a client whose last good secret expires soon.
type Expiring struct {
	Client, Name, Secret string // ids but for the name
	At                   time.Time
}

// expiring are the clients that need a new secret, the most urgent first.
func (i *Issuer) expiring(now time.Time, which func(*client) bool) (all []Expiring) {
	i.clients.all(func(_ *entry, c *client) {
		last := c.lastSecret(now)
		if c.active && last != nil && last.expiresAt != 0 && last.expiresAt < now.Add(expirySoon).UnixMilli() && which(c) {
			all = append(all, Expiring{c.ID, c.Name, last.id, timeOf(last.expiresAt)})
		}
	})
	slices.SortFunc(all, func(a, b Expiring) int { return a.At.Compare(b.At) })
	return all
}

// Expiring lists the clients that who may see and that need a new secret, the most urgent first.
// Errors are of code Forbidden.
func (i *Issuer) Expiring(ctx context.Context, who access.Caller) ([]Expiring, error) {
	if err := i.requireRead(ctx, who, ""); err != nil {
		return nil, err
	}
	return i.expiring(time.Now(), func(c *client) bool { return visible(who, c.Roles) }), nil
}

// warnExpiring logs, once a day, which clients need a new secret.
func (i *Issuer) warnExpiring(now time.Time) {
	if now.Sub(i.warned) < 24*time.Hour {
		return
	}
	i.warned = now
	for _, e := range i.expiring(now, func(*client) bool { return true }) {
		i.Log.Warn("the last secret of a client expires soon; add a new one", "client", e.Client, "name", e.Name, "secret", e.Secret, "expires", e.At)
	}
}

// lastSecret is the good secret that expires last; nil when there is none.
func (c *client) lastSecret(now time.Time) (last *clientSecret) {
	for n := range c.secrets {
		s := &c.secrets[n]
		if s.good(now) && (last == nil || s.expiresAt == 0 || last.expiresAt != 0 && s.expiresAt > last.expiresAt) {
			last = s
		}
	}
	return last
}

var secretExpires = prometheus.NewDesc("grantway_client_secret_expires_timestamp_seconds",
	"When the last good secret of an OAuth client expires, in Unix seconds; clients whose secret never does are left out.", []string{"client"}, nil)

// Describe implements prometheus.Collector.
func (i *Issuer) Describe(to chan<- *prometheus.Desc) {
	to <- secretExpires
	i.requests.Describe(to)
}

// Collect implements prometheus.Collector.
func (i *Issuer) Collect(to chan<- prometheus.Metric) {
	now := time.Now()
	i.clients.all(func(_ *entry, c *client) {
		if last := c.lastSecret(now); c.active && last != nil && last.expiresAt != 0 {
			to <- prometheus.MustNewConstMetric(secretExpires, prometheus.GaugeValue, float64(last.expiresAt)/1000, c.Name)
		}
	})
	i.requests.Collect(to)
}

// unixMilli is t as rows hold it, 0 for the zero time; timeOf is the way back.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func unixSeconds(ms int64) *int64 {
	s := ms / 1000
	return &s
}
