package access

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// The methods of a sign-in.
const (
	methodPassword = "password"
	methodSSO      = "single_sign_on"
)

// session is a session that this replica has seen: what the database said when it was read.
// Any change of its person drops it, so that it is read again.
type session struct {
	public  grantway.Session
	caller  Caller
	seen    atomic.Int64 // Unix milliseconds, of the last use here
	written atomic.Int64 // what the database has of seen
}

// sessions are those in memory, by the hash of their token.
type sessions struct {
	mu    sync.RWMutex // never held over I/O
	m     map[string]*session
	drops int // how often drop was called
}

const maxSessions = 1 << 16

func (s *sessions) get(hash string) *session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[hash]
}

// generation is to be taken before a session is read from the database, and given to put.
func (s *sessions) generation() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.drops
}

// put keeps a session, unless what was read may have changed since.
func (s *sessions) put(hash string, one *session, generation int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drops != generation {
		return
	}
	if s.m == nil {
		s.m = make(map[string]*session)
	}
	for other := range s.m { // any
		if len(s.m) < maxSessions {
			break
		}
		delete(s.m, other)
	}
	s.m[hash] = one
}

// drop forgets the sessions of a person, or all when it is "".
func (s *sessions) drop(person string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drops++
	for hash, one := range s.m {
		if person == "" || one.caller.ID == person {
			delete(s.m, hash)
		}
	}
}

// begin starts a session of a person who has proved who he or she is, in the transaction that
// says so, and returns its token. It is always a new one: nobody can prepare a session for
// somebody else to sign in to.
func (p *People) begin(ctx context.Context, tx *store.Tx, one *person, method string, o Origin) (SignedIn, error) {
	now := time.Now()
	in := SignedIn{Person: one.Person, Token: newToken(), ExpiresAt: now.Add(p.Absolute).UTC().Truncate(time.Second)}
	in.Person.LastSignIn = now.UTC().Truncate(time.Millisecond)
	from := ""
	if o.From.IsValid() {
		from = o.From.Unmap().String()
	}
	agent := strings.ToValidUTF8(strings.ReplaceAll(o.UserAgent, "\x00", ""), "")
	if utf8.RuneCountInString(agent) > 300 {
		agent = string([]rune(agent)[:300])
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO person_session (hash, id, person_id, method, from_address, user_agent, created_at, seen_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)`,
		p.hash(kindSession, in.Token), "session_"+strings.ToLower(rand.Text()), one.ID, method, from, agent, now.UnixMilli(), now.Add(p.Absolute).UnixMilli())
	if err != nil {
		return SignedIn{}, fmt.Errorf("session of person %s: %w", one.ID, err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE person SET last_sign_in = $1 WHERE id = $2`, now.UnixMilli(), one.ID); err != nil {
		return SignedIn{}, fmt.Errorf("session of person %s: %w", one.ID, err)
	}
	return in, p.Audit.Record(ctx, tx, one.caller(), grantway.Event{Action: "person.sign_in", Object: "person/" + one.Email, Detail: strings.TrimSpace(method + " " + from)})
}

// Session returns who has the session of this token, with the roles of now, and keeps it from
// ending for being idle. One that was seen here before costs a look into memory; it goes on
// while the database is away.
//
// Errors are of code Unauthenticated: the token is none, or its session has ended; or
// Unavailable when the database is away.
func (p *People) Session(ctx context.Context, token string) (Caller, grantway.Session, error) {
	if len(token) != tokenLength {
		return Caller{}, grantway.Session{}, errNoSession()
	}
	hash := p.hash(kindSession, token)
	s, now := p.sessions.get(hash), time.Now()
	if s == nil || now.UnixMilli() >= s.seen.Load()+p.Idle.Milliseconds() { // used elsewhere meanwhile?
		generation := p.sessions.generation()
		var err error
		if s, err = p.readSession(ctx, hash); err != nil {
			return Caller{}, grantway.Session{}, err
		}
		if now.UnixMilli() >= s.seen.Load()+p.Idle.Milliseconds() {
			return Caller{}, grantway.Session{}, errNoSession()
		}
		p.sessions.put(hash, s, generation)
	}
	if !now.Before(s.public.ExpiresAt) {
		return Caller{}, grantway.Session{}, errNoSession()
	}
	s.seen.Store(now.UnixMilli())
	public := s.public
	public.SeenAt = now.UTC().Truncate(time.Millisecond)
	return s.caller, public, nil
}

func errNoSession() error {
	return grantway.Errorf(grantway.Unauthenticated, "you are not signed in, or your session has ended; sign in again")
}

const sessionColumns = `id, person_id, method, from_address, user_agent, created_at, seen_at, expires_at`

func scanSession(rows *sql.Rows) (person string, one grantway.Session, err error) {
	var created, seen, expires int64
	err = rows.Scan(&one.ID, &person, &one.Method, &one.From, &one.UserAgent, &created, &seen, &expires)
	one.CreatedAt, one.SeenAt, one.ExpiresAt = time.UnixMilli(created).UTC(), time.UnixMilli(seen).UTC(), time.UnixMilli(expires).UTC()
	return person, one, err
}

func (p *People) readSession(ctx context.Context, hash string) (*session, error) {
	s, id := &session{}, ""
	err := store.Each(ctx, p.Store.Read(), func(rows *sql.Rows) (err error) {
		id, s.public, err = scanSession(rows)
		return err
	}, `SELECT `+sessionColumns+` FROM person_session WHERE hash = $1`, hash)
	var one *person
	if err == nil && id != "" {
		one, err = readPerson(ctx, p.Store.Read(), id, "")
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &grantway.Error{Code: grantway.Unavailable, Message: "your session cannot be checked now; try again in a moment", Err: err}
	}
	if one == nil || !one.active {
		return nil, errNoSession()
	}
	s.caller = one.caller()
	s.seen.Store(s.public.SeenAt.UnixMilli())
	s.written.Store(s.public.SeenAt.UnixMilli())
	return s, nil
}

// recordSeen writes down which sessions were used since the last time.
func (p *People) recordSeen(ctx context.Context) error {
	type use struct {
		hash string
		s    *session
		seen int64
	}
	var used []use
	p.sessions.mu.RLock()
	for hash, s := range p.sessions.m {
		if seen := s.seen.Load(); seen > s.written.Load() {
			used = append(used, use{hash, s, seen})
		}
	}
	p.sessions.mu.RUnlock()
	if used == nil {
		return nil
	}
	err := p.Store.Write(ctx, func(tx *store.Tx) error {
		for _, u := range used {
			if _, err := tx.ExecContext(ctx, `UPDATE person_session SET seen_at = $1 WHERE hash = $2 AND seen_at < $1`, u.seen, u.hash); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("use of sessions: %w", err)
	}
	for _, u := range used {
		u.s.written.Store(u.seen)
	}
	return nil
}

// SignOut ends the session of a token. A token that is none is no error.
func (p *People) SignOut(ctx context.Context, token string) error {
	hash := p.hash(kindSession, token)
	err := p.Store.Write(ctx, func(tx *store.Tx) error {
		var person string
		err := tx.QueryRowContext(ctx, `DELETE FROM person_session WHERE hash = $1 RETURNING person_id`, hash).Scan(&person)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			tx.Changed(topicPerson, person)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	p.sessions.mu.Lock()
	defer p.sessions.mu.Unlock()
	p.sessions.drops++
	delete(p.sessions.m, hash)
	return nil
}

// Sessions returns the sessions of a person, the newest first. One's own everybody may see.
// Errors are those of Get.
func (p *People) Sessions(ctx context.Context, who Caller, person string) ([]grantway.Session, error) {
	one, err := p.Get(ctx, who, person)
	if err != nil {
		return nil, err
	}
	all, now := []grantway.Session{}, time.Now()
	err = store.Each(ctx, p.Store.Read(), func(rows *sql.Rows) error {
		_, s, err := scanSession(rows)
		all = append(all, s)
		return err
	}, `SELECT `+sessionColumns+` FROM person_session WHERE person_id = $1 AND expires_at > $2 AND seen_at > $3 ORDER BY created_at DESC, id`,
		one.ID, now.UnixMilli(), now.Add(-p.Idle-time.Minute).UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("sessions of person %s: %w", one.ID, err)
	}
	return all, nil
}

// RevokeSession ends one session of a person, or all of them when session is "". One's own
// everybody may end; for others it takes what it takes to change the person. Errors are of code
// Forbidden or NotFound.
func (p *People) RevokeSession(ctx context.Context, who Caller, id, session string) error {
	edit := p.edit
	if who.Kind == Person && who.ID == id {
		edit = p.editAny
	}
	_, err := edit(ctx, who, id, "session.revoke", func(tx *store.Tx, old *person, event *grantway.Event) error {
		r, err := tx.ExecContext(ctx, `DELETE FROM person_session WHERE person_id = $1 AND ($2 = '' OR id = $2)`, old.ID, session)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		if err == nil && n == 0 && session != "" {
			return grantway.Errorf(grantway.NotFound, "there is no such session; it may have ended by itself")
		}
		event.Detail = fmt.Sprintf("%d sessions", n)
		return err
	})
	return err
}

func deleteSessions(ctx context.Context, tx *store.Tx, person string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM person_session WHERE person_id = $1`, person); err != nil {
		return fmt.Errorf("sessions of person %s: %w", person, err)
	}
	return nil
}
