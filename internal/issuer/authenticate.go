package issuer

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// session is a token that this replica has seen. It is immutable.
type session struct {
	entry     *entry
	only      access.Permissions // 0: all that the roles allow
	expiresAt int64              // Unix milliseconds
}

// sessionKey is the SHA-256 of a token: a dump of the memory shows no token.
type sessionKey [sha256.Size]byte

func sessionKeyOf(token string) sessionKey {
	var buf [128]byte // of our own tokens all fit; on the stack
	return sha256.Sum256(append(buf[:0], token...))
}

// sessions holds the tokens that were used or issued here, up to maxSessions of them.
// Beyond that some are forgotten, and are read from the database when they come again.
type sessions struct {
	shards  [64]sessionShard
	loading singleflight.Group
}

type sessionShard struct {
	mu sync.RWMutex // never held over I/O
	m  map[sessionKey]*session
	_  [32]byte // a cache line for each shard
}

const maxSessions = 1 << 17 // about 20 MiB

func (s *sessions) init() {
	for i := range s.shards {
		s.shards[i].m = make(map[sessionKey]*session)
	}
}

func (s *sessions) shard(k *sessionKey) *sessionShard { return &s.shards[k[0]%64] }

func (s *sessions) get(k *sessionKey) *session {
	shard := s.shard(k)
	shard.mu.RLock()
	found := shard.m[*k]
	shard.mu.RUnlock()
	return found
}

func (s *sessions) put(k sessionKey, v *session) {
	shard := s.shard(&k)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for other := range shard.m { // any
		if len(shard.m) < maxSessions/len(s.shards) {
			break
		}
		delete(shard.m, other)
	}
	shard.m[k] = v
}

// expire forgets the tokens that have expired, and those of clients that are gone.
func (s *sessions) expire(now time.Time) {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		for k, v := range shard.m {
			if now.UnixMilli() >= v.expiresAt || v.entry.state.Load() == gone {
				delete(shard.m, k)
			}
		}
		shard.mu.Unlock()
	}
}

// bearerError is the cause of an error of Authenticate: the error code of RFC 6750
// section 3.1, "" when the request carried no token.
type bearerError string

// Error implements error.
func (e bearerError) Error() string { return "bearer token: " + string(e) }

func bearerErrorf(code grantway.Code, cause bearerError, message string) error {
	return &grantway.Error{Code: code, Message: message, Err: cause}
}

// Authenticate returns the client whose access token r carries in its Authorization
// header (RFC 6750 section 2.1). A token that was seen here before costs no more than
// looking into memory, and works while the database is away; a new one is read from the
// database once.
//
// Errors are of code Unauthenticated, Malformed (two tokens, or one in the query),
// RateLimited (too many unknown tokens from this address; never for a token in memory), or
// Unavailable (the database is away). Challenge gives the header that goes with them.
func (i *Issuer) Authenticate(r *http.Request) (access.Caller, error) {
	if r.URL.RawQuery != "" && r.URL.Query().Has("access_token") {
		return access.Caller{}, bearerErrorf(grantway.Malformed, "invalid_request",
			"a token in the URL ends up in logs: send it in the Authorization header, and get a new one")
	}
	headers := r.Header["Authorization"]
	if len(headers) > 1 {
		return access.Caller{}, bearerErrorf(grantway.Malformed, "invalid_request", "there are two Authorization headers")
	}
	if len(headers) == 0 {
		return access.Caller{}, bearerErrorf(grantway.Unauthenticated, "", "this needs an access token, which POST /oauth/token gives")
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return access.Caller{}, bearerErrorf(grantway.Unauthenticated, "", `the Authorization header must hold "Bearer" and an access token`)
	}
	token = strings.TrimLeft(token, " ")
	if token == "" {
		return access.Caller{}, bearerErrorf(grantway.Malformed, "invalid_request", "the Authorization header holds no token")
	}
	key := sessionKeyOf(token)
	s := i.sessions.get(&key)
	if s == nil {
		var err error
		if s, err = i.loadSession(r, key, token); err != nil {
			return access.Caller{}, err
		}
	}
	c := s.entry.state.Load()
	if !c.active || time.Now().UnixMilli() >= s.expiresAt {
		return access.Caller{}, errInvalidToken()
	}
	caller := c.caller
	caller.Only = s.only
	return caller, nil
}

// errInvalidToken does not say which: whether a token ever was one is nobody's business.
func errInvalidToken() error {
	return bearerErrorf(grantway.Unauthenticated, "invalid_token", "the access token is unknown, has expired, or was revoked")
}

// loadSession reads a token from the database. Requests that bring the same one share the
// query, so it does not end with the first of them.
func (i *Issuer) loadSession(r *http.Request, key sessionKey, token string) (*session, error) {
	if !wellFormed(tokenPrefix, token) {
		return nil, errInvalidToken()
	}
	ctx, now := r.Context(), time.Now()
	from, _ := i.origin(r)
	if wait := i.misses.full(from, now); wait > 0 {
		return nil, &grantway.Error{Code: grantway.RateLimited, Message: "too many unknown access tokens from this address", RetryAt: now.Add(wait)}
	}
	loading := i.sessions.loading.DoChan(string(key[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		row, err := i.tokens.find(ctx, i.hash(token))
		if err != nil {
			return nil, err
		}
		e := i.clients.entry(row.client)
		if e == nil { // made elsewhere just now
			if err := i.reload(ctx, row.client); err != nil {
				return nil, err
			}
			if e = i.clients.entry(row.client); e == nil {
				return nil, sql.ErrNoRows
			}
		}
		s := &session{entry: e, expiresAt: row.expiresAt}
		if row.scope != "" {
			only, ok := access.ParsePermissions(row.scope)
			if !ok {
				return nil, fmt.Errorf("token of client %s has the unknown scope %q", row.client, row.scope)
			}
			s.only = only
		}
		i.sessions.put(key, s)
		return s, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-loading:
		switch {
		case errors.Is(got.Err, sql.ErrNoRows):
			i.misses.missed(from, now)
			return nil, errInvalidToken()
		case got.Err != nil:
			return nil, &grantway.Error{Code: grantway.Unavailable, Message: "the access token cannot be checked now", Err: got.Err}
		}
		return got.Val.(*session), nil
	}
}

// Challenge is the value of the WWW-Authenticate header of the answer to a request that
// failed with err (RFC 6750 section 3); "" when there is none: err is neither from
// Authenticate nor from a check of permissions.
func Challenge(err error) string {
	const realm = `Bearer realm="grantway"`
	if e, ok := errors.AsType[bearerError](err); ok {
		if e == "" {
			return realm
		}
		return realm + `, error="` + string(e) + `"`
	}
	if missing, ok := errors.AsType[access.Missing](err); ok {
		return realm + `, error="insufficient_scope", scope="` + access.Permissions(missing).String() + `"`
	}
	return ""
}
