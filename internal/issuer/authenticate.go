package issuer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// session is a token that this replica has seen. It is immutable, but for the count of calls.
type session struct {
	entry     *entry
	only      access.Permissions // 0: all that the roles allow
	person    string             // who allowed it; "": nobody, the client acts for itself
	binding   binding
	resource  string // which other API it is for; "": this one
	jti       string
	names     []any  // strings, under which it may have been revoked; boxed, so that to look them up allocates nothing
	kid       string // of its key
	after     int64  // tokensAfter of the client when it was issued
	issuedAt  int64  // Unix milliseconds
	expiresAt int64  // Unix milliseconds

	window atomic.Uint64 // calls in the current minute; see limited
}

// named sets under which names a token may be revoked: its own, and that of the refresh tokens it comes from, if it does.
func (s *session) named(jti, family string) {
	s.jti, s.names = jti, []any{jti}
	if family != "" {
		s.names = append(s.names, familyPrefix+family)
	}
}

// limited counts a call, and returns for how long the caller must wait because there were
// most in the minute that began with the first of them; 0: go on.
func (s *session) limited(most int, now time.Time) time.Duration {
	second := uint64(now.Unix())
	for {
		old := s.window.Load() // when the minute began, in Unix seconds, and how many calls since
		began, calls := old>>24, old&(1<<24-1)
		next := old + 1
		if second-began >= 60 { // also when the clock was set back
			next = second<<24 | 1
		} else if calls >= uint64(most) {
			return time.Unix(int64(began)+60, 0).Sub(now)
		}
		if s.window.CompareAndSwap(old, next) {
			return 0
		}
	}
}

// sessionKey is the SHA-256 of a token: a dump of the memory shows no token.
type sessionKey [sha256.Size]byte

func sessionKeyOf(token string) sessionKey {
	var buf [512]byte // most fit; on the stack
	return sha256.Sum256(append(buf[:0], token...))
}

// sessions holds the tokens that were used here, up to maxSessions of them. Beyond that some are
// forgotten, and are verified anew when they come again.
type sessions struct {
	shards [64]sessionShard
	drops  atomic.Uint64 // how often tokens were taken out
}

type sessionShard struct {
	mu sync.RWMutex // never held over I/O
	m  map[sessionKey]*session
	_  [32]byte // a cache line for each shard
}

const maxSessions = 1 << 17 // about 40 MiB

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

// put keeps a token that was verified when drops was this: if tokens were taken out since, it may
// have been one of them.
func (s *sessions) put(k sessionKey, v *session, drops uint64) {
	shard := s.shard(&k)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if s.drops.Load() != drops {
		return
	}
	if len(shard.m) >= maxSessions/len(s.shards) {
		for other := range shard.m { // any
			delete(shard.m, other)
			break
		}
	}
	shard.m[k] = v
}

// drop forgets the tokens that f names.
func (s *sessions) drop(f func(*session) bool) {
	s.drops.Add(1)
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		for k, v := range shard.m {
			if f(v) {
				delete(shard.m, k)
			}
		}
		shard.mu.Unlock()
	}
}

// expire forgets the tokens that have expired, and those of clients that are gone.
func (s *sessions) expire(now time.Time) {
	s.drop(func(v *session) bool { return now.UnixMilli() >= v.expiresAt || v.entry.state.Load() == gone })
}

// bearerError is the cause of an error of Authenticate: the error code of RFC 6750
// section 3.1, "" when the request carried no token.
type bearerError string

// Error implements error.
func (e bearerError) Error() string { return "bearer token: " + string(e) }

func bearerErrorf(code grantway.Code, cause bearerError, message string) error {
	return &grantway.Error{Code: code, Message: message, Err: cause}
}

// The schemes of the Authorization header.
const (
	schemeBearer = "Bearer" // RFC 6750
	schemeDPoP   = "DPoP"   // RFC 9449 section 7.1
)

// Authenticate returns who may do what r asks for: the client whose access token r carries in
// its Authorization header, or the person who let the client act. A token that was seen
// here before costs no more than looking into memory, a new one is verified once; neither needs the
// database. One that is bound to a DPoP key costs a write
// each time, since its proof must not be used twice.
//
// Errors are of code Unauthenticated, Malformed (two tokens, or one in the query),
// RateLimited (too many calls with this token, or too many unknown tokens from this address), or
// Unavailable (the database is away). Challenge and Nonce give the headers that go with them.
func (i *Issuer) Authenticate(r *http.Request) (access.Caller, error) {
	scheme, token, err := readToken(r)
	if err != nil {
		return access.Caller{}, err
	}
	key := sessionKeyOf(token)
	s := i.sessions.get(&key)
	if s == nil {
		if s, err = i.loadSession(r, key, token); err != nil {
			return access.Caller{}, inScheme(scheme, err)
		}
	}
	now := time.Now()
	c := s.entry.state.Load()
	if !i.good(s, c, now) || s.resource != "" { // not for us (RFC 9700 section 2.3)
		return access.Caller{}, inScheme(scheme, errInvalidToken())
	}
	if c.networks != nil {
		if from, _ := i.origin(r); !c.admits(from) {
			return access.Caller{}, bearerErrorf(grantway.Unauthenticated, "invalid_token", "the client may not come from this address")
		}
	}
	if s.binding != "" || scheme != schemeBearer {
		if err := i.checkBinding(r, scheme, token, s.binding); err != nil {
			return access.Caller{}, err
		}
	}
	if most := cmp.Or(c.RequestsPerMinute, i.RequestsPerMinute); most > 0 {
		if wait := s.limited(most, now); wait > 0 {
			return access.Caller{}, &grantway.Error{Code: grantway.RateLimited, Message: "too many calls with this token in a minute", RetryAt: now.Add(wait)}
		}
	}
	s.entry.calls.Add(1)
	return i.caller(r.Context(), s, c)
}

// caller is whom a token of c that is good stands for.
func (i *Issuer) caller(ctx context.Context, s *session, c *client) (caller access.Caller, err error) {
	caller = c.caller
	if s.person != "" {
		if caller, err = i.person(ctx, s, c); err != nil {
			return access.Caller{}, err
		}
	}
	caller.Only = s.only
	return caller, nil
}

// person is who allowed a token, as long as the person is active, with the credentials that both
// the person and the client may use.
func (i *Issuer) person(ctx context.Context, s *session, c *client) (access.Caller, error) {
	if i.Person == nil || s.only&^c.scopes != 0 { // what the client may ask for has become less
		return access.Caller{}, errInvalidToken()
	}
	caller, err := i.Person(ctx, s.person)
	if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.NotFound {
		return access.Caller{}, errInvalidToken()
	}
	if err != nil {
		return access.Caller{}, &grantway.Error{Code: grantway.Unavailable, Message: "the access token cannot be checked now", Err: err}
	}
	caller.Uses = c.Credentials
	return caller, nil
}

// good says whether a token is good at now: not expired, its client active, not revoked.
func (i *Issuer) good(s *session, c *client, now time.Time) bool {
	return c.active && now.UnixMilli() < s.expiresAt && s.after >= c.tokensAfter && !slices.ContainsFunc(s.names, i.revoked.has)
}

// readToken finds the one access token of r, and the scheme it comes with.
func readToken(r *http.Request) (scheme, token string, err error) {
	if r.URL.RawQuery != "" && r.URL.Query().Has("access_token") {
		return "", "", bearerErrorf(grantway.Malformed, "invalid_request",
			"a token in the URL ends up in logs: send it in the Authorization header, and get a new one")
	}
	headers := r.Header["Authorization"]
	if len(headers) > 1 {
		return "", "", bearerErrorf(grantway.Malformed, "invalid_request", "there are two Authorization headers")
	}
	if len(headers) == 0 {
		return "", "", bearerErrorf(grantway.Unauthenticated, "", "this needs an access token, which POST /oauth/token gives")
	}
	scheme, token, _ = strings.Cut(headers[0], " ")
	switch {
	case strings.EqualFold(scheme, schemeBearer):
		scheme = schemeBearer
	case strings.EqualFold(scheme, schemeDPoP):
		scheme = schemeDPoP
	default:
		return "", "", bearerErrorf(grantway.Unauthenticated, "", `the Authorization header must hold "Bearer" and an access token`)
	}
	if token = strings.TrimLeft(token, " "); token == "" {
		return "", "", bearerErrorf(grantway.Malformed, "invalid_request", "the Authorization header holds no token")
	}
	return scheme, token, nil
}

// errInvalidToken does not say which: whether a token ever was one is nobody's business.
func errInvalidToken() error {
	return bearerErrorf(grantway.Unauthenticated, "invalid_token", "the access token is unknown, has expired, or was revoked")
}

// inScheme is err with the challenge of the scheme that the token came with.
func inScheme(scheme string, err error) error {
	if cause, ok := errors.AsType[bearerError](err); ok && scheme == schemeDPoP {
		return dpopErrorf(string(cause), err.(*grantway.Error).Message)
	}
	return err
}

// Why a token that is not in memory is refused.
var (
	errNoToken    = errors.New("the token is none of ours")
	errUnknownKey = errors.New("the token names a key that is not known here")
)

// loadSession finds out what a token that is not in memory stands for; whether it is still good is for
// the caller to ask. A good one passes however many were made up at the same address.
func (i *Issuer) loadSession(r *http.Request, key sessionKey, token string) (*session, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	verify := i.verifyToken
	if strings.HasPrefix(token, tokenPrefix) {
		verify = i.openToken
	}
	drops := i.sessions.drops.Load()
	s, client, err := verify(token)
	if errors.Is(err, errUnknownKey) && i.mayAskForKeys() {
		if err = i.keysChanged(ctx, ""); err == nil { // it may have been made elsewhere just now
			s, client, err = verify(token)
		}
	}
	if err == nil {
		err = i.attach(ctx, s, client)
	}
	switch {
	case err == nil:
		i.sessions.put(key, s, drops)
		return s, nil
	case errors.Is(err, errUnknownKey): // perhaps one that was removed, so it does not count against those who share an address
		return nil, errInvalidToken()
	case !errors.Is(err, errNoToken):
		return nil, &grantway.Error{Code: grantway.Unavailable, Message: "the access token cannot be checked now", Err: err}
	}
	now := time.Now()
	from, _ := i.origin(r)
	if wait := i.forged.missed(from, now); wait > 0 {
		return nil, &grantway.Error{Code: grantway.RateLimited, Message: "too many access tokens from this address that are made up", RetryAt: now.Add(wait)}
	}
	return nil, errInvalidToken()
}

// mayAskForKeys says whether the keys may be read again because of a token. Anybody can name a key that does not
// exist, so it counts for all addresses together; without it the feed of changes brings new keys a moment later.
func (i *Issuer) mayAskForKeys() bool {
	everybody := netip.Addr{}
	return i.strangeKeys.missed(everybody, time.Now()) == 0
}

// attach gives a session its client.
func (i *Issuer) attach(ctx context.Context, s *session, client string) error {
	e := i.clients.entry(client)
	if e == nil { // made elsewhere just now
		if err := i.reload(ctx, client); err != nil {
			return err
		}
		if e = i.clients.entry(client); e == nil {
			return errNoToken
		}
	}
	s.entry = e
	return nil
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
	if e, ok := errors.AsType[dpopError](err); ok {
		return `DPoP realm="grantway", error="` + e.code + `", algs="` + strings.Join(proofAlgNames(), " ") + `"`
	}
	if missing, ok := errors.AsType[access.Missing](err); ok {
		return realm + `, error="insufficient_scope", scope="` + access.Permissions(missing).String() + `"`
	}
	return ""
}
