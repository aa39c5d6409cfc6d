package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// The orders of a Query.
const (
	ByName          = "name"
	ByHost          = "host"
	ByHealth        = "health" // the worst first
	ByLastSuccess   = "last_success"
	ByTokenExpiry   = "token_expiry"
	BySecretExpiry  = "secret_expiry"
	ByDivision      = "division"
	ByUpdate        = "updated"
	usedWithin      = 30 * 24 * time.Hour
	historyKeep     = 90 * 24 * time.Hour
	maxSearchLength = 200
)

// The kinds of a Query.
const (
	PlainKind    = "plain"    // of the connector of plain credentials
	InstanceKind = "instance" // of any other
)

// Query says which credentials somebody looks for. Zero fields select all.
type Query struct {
	Search   string // part of the name, the description or a plain input, whatever the case
	Health   grantway.Health
	Division string
	Expiring bool // the client secret has expired or will within 30 days

	Connector string // the name of what they are made of
	Kind      string // PlainKind or InstanceKind; nothing beside Connector

	Sort       string // ByName when empty
	Descending bool
	Offset     int
	Limit      int // 0 is 50, at most 1,000
}

// Found is one page of the credentials that a Query selects.
type Found struct {
	Rows  []Row
	Total int // on all pages

	// Counts says how many there are of each health, whichever the Query selects.
	Counts map[grantway.Health]int
}

// Row is a credential and how it is doing.
type Row struct {
	ID, Name, Description, Division, Connector string

	Host    string // of the token endpoint
	Status  grantway.Status
	Objects int // that refer to it
	Callers int // that read tokens of it in the last 30 days
	Updated time.Time
}

// validUntil is when the last valid token of c expires; NULL when there is none. With the comparison in WHERE,
// PostgreSQL may look through the tokens of all credentials in the order of their expiry, for each credential.
const validUntil = `SELECT MAX(CASE WHEN t.expires_at > $1 THEN t.expires_at END) FROM token t WHERE t.credential_id = c.id`

// found selects the credentials of a Query with their health: only what sorts them, because
// all of them are sorted and few are shown. The numbers of its parameters
// are shared by the queries that begin with it.
const found = `
	WITH found AS (
		SELECT c.id, c.name_key, c.division, c.token_host, c.secret_expires_at, c.updated_at,
		       COALESCE(h.last_success, 0) AS last_success, (` + validUntil + `) AS token_until,
		       CASE WHEN h.version IS NULL OR h.version <> c.version THEN 'not_validated'
		            WHEN h.failing AND (` + validUntil + `) IS NOT NULL THEN 'degraded'
		            WHEN h.failing THEN 'failing'
		            WHEN h.last_success > 0 THEN 'healthy'
		            ELSE 'not_validated' END AS health
		FROM credential c
		LEFT JOIN credential_health h ON h.credential_id = c.id
		WHERE ($2 OR REPLACE($3, ',' || c.division || ',', '') <> $3)
		  AND ($4 = '' OR c.words LIKE $4 ESCAPE '!')
		  AND ($5 = '' OR c.division = $5)
		  AND (CAST($6 AS BIGINT) = 0 OR (c.secret_expires_at > 0 AND c.secret_expires_at < $6))
		  AND CASE WHEN $7 <> '' THEN c.connector = $7
		           WHEN $8 = 'plain' THEN c.connector = '` + grantway.PlainConnector + `'
		           WHEN $8 = 'instance' THEN c.connector <> '` + grantway.PlainConnector + `'
		           ELSE TRUE END
	)`

// Find returns the credentials that who may read and q selects. It takes two queries,
// however many there are.
func (b *Broker) Find(ctx context.Context, who access.Caller, q Query) (Found, error) {
	result := Found{Counts: map[grantway.Health]int{}}
	if err := b.Audit.RequireSomewhere(ctx, who, access.ReadCredential, grantway.Event{Action: access.ReadCredential.String()}); err != nil {
		return result, err
	}
	if len(q.Search) > maxSearchLength {
		return result, grantway.Errorf(grantway.Invalid, "the search text is longer than %d bytes; shorten it", maxSearchLength)
	}
	now := time.Now()
	divisions, everywhere := who.Divisions(access.ReadCredential)
	expiring := int64(0)
	if q.Expiring {
		expiring = now.Add(secretWarning).UnixMilli()
	}
	args := []any{now.UnixMilli(), everywhere, "," + strings.Join(divisions, ",,") + ",", pattern(q.Search), q.Division, expiring, q.Connector, q.Kind}

	counts, err := b.Store.Read().QueryContext(ctx, found+` SELECT health, COUNT(*) FROM found GROUP BY health`, args...)
	if err != nil {
		return result, fmt.Errorf("count credentials: %w", err)
	}
	defer counts.Close()
	for counts.Next() {
		var health grantway.Health
		var n int
		if err := counts.Scan(&health, &n); err != nil {
			return result, fmt.Errorf("count credentials: %w", err)
		}
		result.Counts[health] = n
		if q.Health == "" || q.Health == health {
			result.Total += n
		}
	}
	if err := counts.Err(); err != nil {
		return result, fmt.Errorf("count credentials: %w", err)
	}

	args = append(args, string(q.Health), cmp.Or(q.Sort, ByName), q.Descending, min(cmp.Or(q.Limit, 50), 1000), q.Offset, now.Add(-usedWithin).Unix()/60)
	rows, err := b.Store.Read().QueryContext(ctx, found+`, keyed AS (
			SELECT id, name_key, last_success, token_until, health,
			       CASE $10 WHEN 'host' THEN token_host WHEN 'division' THEN division ELSE '' END AS text_key,
			       CASE $10 WHEN 'health' THEN CASE health WHEN 'failing' THEN 1 WHEN 'degraded' THEN 2 WHEN 'not_validated' THEN 3 ELSE 4 END
			               WHEN 'last_success' THEN last_success
			               WHEN 'token_expiry' THEN COALESCE(token_until, 9000000000000000)
			               WHEN 'secret_expiry' THEN CASE secret_expires_at WHEN 0 THEN 9000000000000000 ELSE secret_expires_at END
			               WHEN 'updated' THEN updated_at
			               ELSE 0 END AS number_key
			FROM found WHERE ($9 = '' OR health = $9)
		), page AS (
			SELECT keyed.* FROM keyed
			ORDER BY CASE WHEN $11 THEN '' ELSE text_key END, CASE WHEN $11 THEN 0 ELSE number_key END,
			         CASE WHEN $11 THEN text_key ELSE '' END DESC, CASE WHEN $11 THEN number_key ELSE 0 END DESC,
			         CASE WHEN $11 AND $10 = 'name' THEN name_key ELSE '' END DESC, name_key
			LIMIT $12 OFFSET $13
		)
		SELECT c.id, c.name, c.description, c.division, c.connector, c.token_host, c.secret_expires_at, c.updated_at,
		       page.last_success, COALESCE(h.last_failure, ''), COALESCE(page.token_until, 0), page.health,
		       (SELECT COUNT(*) FROM credential_reference r WHERE r.credential_id = page.id),
		       (SELECT COUNT(DISTINCT caller) FROM token_read r WHERE r.credential_id = page.id AND r.minute >= $14)
		FROM page
		JOIN credential c ON c.id = page.id
		LEFT JOIN credential_health h ON h.credential_id = page.id
		ORDER BY CASE WHEN $11 THEN '' ELSE text_key END, CASE WHEN $11 THEN 0 ELSE number_key END,
		         CASE WHEN $11 THEN text_key ELSE '' END DESC, CASE WHEN $11 THEN number_key ELSE 0 END DESC,
		         CASE WHEN $11 AND $10 = 'name' THEN page.name_key ELSE '' END DESC, page.name_key`, args...)
	if err != nil {
		return result, fmt.Errorf("find credentials: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r Row
		var secretExpires, updated, success, until int64
		var failure string
		if err := rows.Scan(&r.ID, &r.Name, &r.Description, &r.Division, &r.Connector, &r.Host, &secretExpires, &updated, &success, &failure, &until,
			&r.Status.Health, &r.Objects, &r.Callers); err != nil {
			return result, fmt.Errorf("find credentials: %w", err)
		}
		r.Updated, r.Status.Credential = fromMillis(updated), r.Name
		r.Status.LastSuccess, r.Status.SecretExpiresAt, r.Status.TokenExpiresAt = fromMillis(success), fromMillis(secretExpires), fromMillis(until)
		if failure != "" {
			r.Status.LastError = new(grantway.Failure)
			if err := json.Unmarshal([]byte(failure), r.Status.LastError); err != nil {
				return result, fmt.Errorf("health of credential %s: %w", r.ID, err)
			}
		}
		result.Rows = append(result.Rows, r)
	}
	if err := rows.Err(); err != nil {
		return result, fmt.Errorf("find credentials: %w", err)
	}
	return result, nil
}

// pattern is s as a part of what LIKE matches; "" when s is blank.
func pattern(s string) string {
	s = strings.ToLower(strings.Join(strings.Fields(s), " "))
	if s == "" {
		return ""
	}
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(s) + "%"
}

// found returns what people look for a credential by: the columns token_host and words.
func foundBy(c grantway.Credential) (host, words string) {
	if u, err := url.Parse(c.Inputs["token_endpoint"].Text); err == nil {
		host = strings.ToLower(u.Host)
	}
	parts := []string{c.Name, c.Description, c.ID}
	for _, key := range []string{"client_id", "token_endpoint", "scopes", "audience", "resource"} {
		parts = append(parts, c.Inputs[key].Text)
	}
	for _, key := range []string{"client_secret", "signing_key"} {
		if ref := c.Inputs[key].Ref; ref != nil {
			parts = append(parts, ref.Store+"/"+ref.Key)
		}
	}
	return host, strings.ToLower(strings.Join(parts, "\n"))
}

// writeWords stores what people look for c by.
func (b *Broker) writeWords(ctx context.Context, tx *store.Tx, c grantway.Credential) error {
	host, words := foundBy(c)
	if _, err := tx.ExecContext(ctx, `UPDATE credential SET token_host = $2, words = $3 WHERE id = $1`, c.ID, host, words); err != nil {
		return fmt.Errorf("credential %s: store words: %w", c.Name, err)
	}
	return nil
}

// fillWords does so for credentials that were stored before there were these columns.
func (b *Broker) fillWords(ctx context.Context) error {
	var missing []grantway.Credential
	rows, err := b.Store.Read().QueryContext(ctx, `SELECT `+credentialColumns+` FROM credential WHERE words = ''`)
	if err != nil {
		return fmt.Errorf("credentials without words: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		c, err := scanCredential(rows)
		if err != nil {
			return fmt.Errorf("credentials without words: %w", err)
		}
		missing = append(missing, c)
	}
	if err := rows.Err(); err != nil || missing == nil {
		return err
	}
	return b.Store.Write(ctx, func(tx *store.Tx) error {
		for _, c := range missing {
			if err := b.writeWords(ctx, tx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// Fetches is how the token requests of one credential went in one minute.
type Fetches struct {
	Minute         time.Time
	Worked, Failed int64
	LastFailure    *grantway.Failure // of the minute; nil when none failed
}

// noteFetch counts a token request for History.
func (b *Broker) noteFetch(ctx context.Context, tx *store.Tx, h *head, failure string, now time.Time) error {
	worked, failed := 1, 0
	if failure != "" {
		worked, failed = 0, 1
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO token_fetch (credential_id, minute, worked, failed, failure) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (credential_id, minute) DO UPDATE SET
			worked = token_fetch.worked + excluded.worked, failed = token_fetch.failed + excluded.failed,
			failure = CASE excluded.failure WHEN '' THEN token_fetch.failure ELSE excluded.failure END`,
		h.id, now.Unix()/60, worked, failed, failure)
	return err
}

// History returns the token requests of a credential since a time, oldest first: minutes
// in which there were any, up to 90 days ago.
func (b *Broker) History(ctx context.Context, who access.Caller, ref string, since time.Time) ([]Fetches, error) {
	h, err := b.find(ctx, who, ref, access.ReadCredential)
	if err != nil {
		return nil, err
	}
	rows, err := b.Store.Read().QueryContext(ctx, `
		SELECT minute, worked, failed, failure FROM token_fetch WHERE credential_id = $1 AND minute >= $2 ORDER BY minute`, h.id, since.Unix()/60)
	if err != nil {
		return nil, fmt.Errorf("token requests of credential %s: %w", h.name, err)
	}
	defer rows.Close()
	var list []Fetches
	for rows.Next() {
		var f Fetches
		var minute int64
		var failure string
		if err := rows.Scan(&minute, &f.Worked, &f.Failed, &failure); err != nil {
			return nil, fmt.Errorf("token requests of credential %s: %w", h.name, err)
		}
		f.Minute = time.Unix(minute*60, 0).UTC()
		if failure != "" {
			f.LastFailure = new(grantway.Failure)
			if err := json.Unmarshal([]byte(failure), f.LastFailure); err != nil {
				return nil, fmt.Errorf("token requests of credential %s: %w", h.name, err)
			}
		}
		list = append(list, f)
	}
	return list, rows.Err()
}

// Use is how one caller used a credential.
type Use struct {
	Caller string // id
	Name   string // as the audit trail or the list of clients knows it; the id when neither does
	Reads  int64
	Last   time.Time // to the minute
}

// Uses returns who read tokens of a credential since a time, the latest first, and the
// reads by minute. For callers who may read the audit trail in its division.
func (b *Broker) Uses(ctx context.Context, who access.Caller, ref string, since time.Time) (uses []Use, byMinute map[time.Time]int64, err error) {
	h, err := b.find(ctx, who, ref, access.ReadAudit)
	if err != nil {
		return nil, nil, err
	}
	rows, err := b.Store.Read().QueryContext(ctx, `
		SELECT r.caller, COALESCE((SELECT c.name FROM client c WHERE c.id = r.caller), r.caller), r.minute, r.count
		FROM token_read r WHERE r.credential_id = $1 AND r.minute >= $2 ORDER BY r.minute DESC`, h.id, since.Unix()/60)
	if err != nil {
		return nil, nil, fmt.Errorf("who used credential %s: %w", h.name, err)
	}
	defer rows.Close()
	byMinute = map[time.Time]int64{}
	index := map[string]int{}
	for rows.Next() {
		var u Use
		var minute, n int64
		if err := rows.Scan(&u.Caller, &u.Name, &minute, &n); err != nil {
			return nil, nil, fmt.Errorf("who used credential %s: %w", h.name, err)
		}
		u.Last = time.Unix(minute*60, 0).UTC()
		byMinute[u.Last] += n
		i, known := index[u.Caller]
		if !known {
			i = len(uses)
			index[u.Caller] = i
			uses = append(uses, u)
		}
		uses[i].Reads += n
	}
	return uses, byMinute, rows.Err()
}

// Contents names credentials in a division; see access.Divisions.
func (b *Broker) Contents(ctx context.Context, tx *store.Tx, division string) (names []string, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT name FROM credential WHERE division = $1 ORDER BY name_key LIMIT 10`, division)
	if err != nil {
		return nil, fmt.Errorf("credentials of division %s: %w", division, err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("credentials of division %s: %w", division, err)
		}
		names = append(names, "credential "+name)
	}
	return names, rows.Err()
}
