package issuer

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// topicClient is the topic of changes of clients; its keys are client ids.
const topicClient = "client"

// client is an OAuth client as it was when it was last read. It is immutable.
type client struct {
	grantway.OAuthClient // without Secret
	active               bool
	lifetime             time.Duration // of its tokens
	tokensAfter          int64         // goes up when all tokens are revoked; a token says what it was
	networks             []netip.Prefix
	scopes               access.Permissions // that people may let it use
	secrets              []clientSecret
	caller               access.Caller
}

// clientSecret is one secret of a client. Times are in Unix milliseconds.
type clientSecret struct {
	id, hash  string
	sealed    []byte // nil: only the hash is kept
	createdAt int64
	expiresAt int64 // 0: never
	lastUsed  int64 // 0: never; as it was when the client was read
}

func (s clientSecret) good(now time.Time) bool {
	return s.expiresAt == 0 || now.UnixMilli() < s.expiresAt
}

// gone is what is left of a deleted client. No version is newer, so a slow reader cannot
// bring the client back.
var gone = &client{OAuthClient: grantway.OAuthClient{Version: math.MaxInt64}}

// entry is the place of one client in memory; sessions point to it.
type entry struct {
	state atomic.Pointer[client]
	crowd atomic.Int64 // Unix nanoseconds until which tokens that live their whole time are used up; see lifetime
	calls atomic.Int64 // of the API since they were written down
}

// set replaces the state by a newer one.
func (e *entry) set(c *client) {
	for {
		old := e.state.Load()
		if old.Version > c.Version || e.state.CompareAndSwap(old, c) {
			return
		}
	}
}

// registry holds all clients. Entries are never removed: ids are not used again, and
// deletions are rare.
type registry struct{ entries sync.Map } // string → *entry

// entry returns the entry of a client id, nil when there is no such client.
func (r *registry) entry(id string) *entry {
	e, ok := r.entries.Load(id)
	if !ok {
		return nil
	}
	return e.(*entry)
}

// set notes that c is the client with this id, unless what is known of it is newer.
func (r *registry) set(id string, c *client) {
	e := r.entry(id)
	if e == nil && c == gone {
		return
	}
	if e == nil {
		fresh := &entry{}
		fresh.state.Store(c)
		loaded, there := r.entries.LoadOrStore(id, fresh)
		if !there {
			return
		}
		e = loaded.(*entry)
	}
	e.set(c)
}

// all calls f with each client that exists, in no order. Those that were deleted and can be restored are among them.
func (r *registry) all(f func(*entry, *client)) {
	r.entries.Range(func(_, v any) bool {
		e := v.(*entry)
		if c := e.state.Load(); c != gone {
			f(e, c)
		}
		return true
	})
}

// clientChanged reads the client with this id again, or all of them when it is "".
func (i *Issuer) clientChanged(ctx context.Context, id string) error {
	if id != "" {
		return i.reload(ctx, id)
	}
	clients, err := readClients(ctx, i.Store.Read(), "")
	if err != nil {
		return fmt.Errorf("clients: %w", err)
	}
	there := make(map[string]bool, len(clients))
	for _, c := range clients {
		there[c.ID] = true
		i.clients.set(c.ID, c)
	}
	var missing []string
	i.clients.all(func(_ *entry, c *client) {
		if !there[c.ID] {
			missing = append(missing, c.ID)
		}
	})
	for _, id := range missing { // deleted, or made just now
		if err := i.reload(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// reload reads one client again.
func (i *Issuer) reload(ctx context.Context, id string) error {
	c, err := readClient(ctx, i.Store.Read(), id)
	if err != nil {
		return err
	}
	i.clients.set(id, c)
	return nil
}

// readClient reads the client with this id; gone if there is none.
func readClient(ctx context.Context, db store.Querier, id string) (*client, error) {
	if id == "" {
		return gone, nil
	}
	found, err := readClients(ctx, db, id)
	if err != nil {
		return nil, fmt.Errorf("client %s: %w", id, err)
	}
	if len(found) == 0 {
		return gone, nil
	}
	return found[0], nil
}

// readClients reads the client with this id, or all when it is "". The rows of client come first:
// if a change falls between the queries, what was read has the old version, and is
// replaced when the change is told of.
func readClients(ctx context.Context, db store.Querier, id string) ([]*client, error) {
	from, to := id, id
	if id == "" {
		to = "z" // after every id, in whatever collation
	}
	var all []*client
	byID := make(map[string]*client)
	err := store.Each(ctx, db, func(rows *sql.Rows) error {
		c := &client{}
		var seconds, created, deleted int64
		var settings, roles string
		if err := rows.Scan(&c.ID, &c.Name, &c.Description, &c.active, &c.GrantType, &c.AuthMethod, &seconds, &c.Version, &created, &settings, &c.tokensAfter, &deleted, &roles); err != nil {
			return err
		}
		if err := c.compile(settings, seconds); err != nil {
			return err
		}
		c.Roles = []grantway.Assignment{}
		if deleted != 0 {
			if err := json.Unmarshal([]byte(roles), &c.Roles); err != nil {
				return fmt.Errorf("roles of client %s: %w", c.ID, err)
			}
			c.active, c.DeletedAt, c.RestorableUntil = false, timeOf(deleted), timeOf(deleted).Add(keepDeleted)
		}
		c.CreatedAt = time.UnixMilli(created).UTC()
		all, byID[c.ID] = append(all, c), c
		return nil
	}, `SELECT id, name, description, active, grant_type, auth_method, token_seconds, version, created_at, settings, tokens_after, deleted_at, deleted_roles
		FROM client WHERE id >= $1 AND id <= $2`, from, to)
	if err != nil {
		return nil, err
	}
	err = store.Each(ctx, db, func(rows *sql.Rows) error {
		var id string
		var s clientSecret
		if err := rows.Scan(&id, &s.id, &s.hash, &s.sealed, &s.createdAt, &s.expiresAt, &s.lastUsed); err != nil {
			return err
		}
		if c := byID[id]; c != nil {
			c.secrets = append(c.secrets, s)
		}
		return nil
	}, `SELECT client_id, id, hash, sealed, created_at, expires_at, last_used FROM client_secret
		WHERE client_id >= $1 AND client_id <= $2 ORDER BY created_at, id`, from, to)
	if err != nil {
		return nil, err
	}
	err = store.Each(ctx, db, func(rows *sql.Rows) error {
		var id string
		var a grantway.Assignment
		if err := rows.Scan(&id, &a.Role, &a.Division); err != nil {
			return err
		}
		if c := byID[id]; c != nil {
			c.Roles = append(c.Roles, a)
		}
		return nil
	}, `SELECT client_id, role, coalesce(division, '*') FROM client_role
		WHERE client_id >= $1 AND client_id <= $2 ORDER BY role, division`, from, to)
	if err != nil {
		return nil, err
	}
	if err := readUses(ctx, db, byID, from, to); err != nil {
		return nil, err
	}
	for _, c := range all {
		c.caller = access.Caller{ID: c.ID, Name: c.Name, Kind: access.Client, Roles: c.Roles, Uses: c.Credentials}
	}
	return all, nil
}

// version returns the version of a client in the database, 0 when it is not there. The
// query returns one row in either case, so that both take the same time.
func (i *Issuer) version(ctx context.Context, id string) (version int64, err error) {
	err = i.Store.Read().QueryRowContext(ctx,
		`SELECT coalesce((SELECT version FROM client WHERE id = $1), 0)`, id).Scan(&version)
	return version, err
}
