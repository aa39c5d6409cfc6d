package broker

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// head is what has to be known of a credential to serve a token from memory. Heads are
// immutable but for what is learned when tokens are fetched: the atomic fields.
type head struct {
	id, name, division, connector string
	version, connectorVersion     int64
	secretExpiresAt               time.Time

	record     atomic.Pointer[record]
	unresolved atomic.Bool                       // a secret could not be had, and that was noted
	refused    atomic.Pointer[[sha256.Size]byte] // digest of the secrets that the provider refused last

	usage *usage // the same for every version of a credential
}

// record is what a token request needs: kept in memory, secrets still sealed, so that
// tokens can be renewed while the database is away.
type record struct {
	inputs map[string]grantway.Value
	sealed map[string][]byte // by input
	zone   *time.Location    // nil is UTC
}

// external tells whether some secret lives in a secret store.
func (r *record) external() bool {
	for _, v := range r.inputs {
		if v.Ref != nil {
			return true
		}
	}
	return false
}

// heads is the snapshot of all credentials that every replica keeps in memory. Reading
// takes no lock.
type heads struct {
	byID   sync.Map // id → *head
	byName sync.Map // name in lower case → *head

	mu sync.Mutex // held while the two maps change, never over I/O
}

// idPrefix begins the id of every credential.
const idPrefix = "cred_"

const headColumns = `id, name, division, connector, connector_version, version, secret_expires_at`

func scanHead(row interface{ Scan(...any) error }) (*head, error) {
	h := &head{}
	var expires int64
	if err := row.Scan(&h.id, &h.name, &h.division, &h.connector, &h.connectorVersion, &h.version, &expires); err != nil {
		return nil, err
	}
	h.secretExpiresAt = fromMillis(expires)
	return h, nil
}

// get finds a head by id or name. What looks like an id is one, if there is a credential
// with it, so that nobody gets at the references to a credential by giving another one its id as name.
func (s *heads) get(ref string) *head {
	if strings.HasPrefix(ref, idPrefix) {
		if h, ok := s.byID.Load(ref); ok {
			return h.(*head)
		}
	}
	if h, ok := s.byName.Load(strings.ToLower(ref)); ok {
		return h.(*head)
	}
	return nil
}

// load reads every credential and forgets those that are gone.
func (s *heads) load(ctx context.Context, st *store.Store) error {
	rows, err := st.Read().QueryContext(ctx, `SELECT `+headColumns+` FROM credential`)
	if err != nil {
		return fmt.Errorf("load credentials: %w", err)
	}
	defer rows.Close()
	seen := map[string]bool{}
	for rows.Next() {
		h, err := scanHead(rows)
		if err != nil {
			return fmt.Errorf("load credentials: %w", err)
		}
		seen[h.id] = true
		s.put(h)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("load credentials: %w", err)
	}
	for id := range s.byID.Range {
		if !seen[id.(string)] { // deleted, or made just now
			if _, err := s.reload(ctx, st, id.(string)); err != nil {
				return err
			}
		}
	}
	return nil
}

// reload reads one credential again. It returns nil when the credential is gone.
func (s *heads) reload(ctx context.Context, st *store.Store, id string) (*head, error) {
	h, err := scanHead(st.Read().QueryRowContext(ctx, `SELECT `+headColumns+` FROM credential WHERE id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		s.remove(id)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load credential %s: %w", id, err)
	}
	return s.put(h), nil
}

// put stores h unless a newer version is there already, and returns what is stored then.
func (s *heads) put(h *head) *head {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.byID.Load(h.id)
	if !ok {
		h.usage = &usage{}
	} else {
		was := old.(*head)
		if was.version >= h.version {
			return was
		}
		h.usage = was.usage
		if key := strings.ToLower(was.name); key != strings.ToLower(h.name) {
			s.byName.CompareAndDelete(key, was)
		}
	}
	s.byID.Store(h.id, h)
	s.byName.Store(strings.ToLower(h.name), h)
	return h
}

func (s *heads) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.byID.LoadAndDelete(id); ok {
		s.byName.CompareAndDelete(strings.ToLower(old.(*head).name), old)
	}
}

// Count is the number of credentials.
func (b *Broker) Count() int {
	n := 0
	for range b.heads.byID.Range {
		n++
	}
	return n
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
