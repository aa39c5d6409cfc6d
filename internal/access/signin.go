package access

import (
	"context"
	"crypto/hmac"
	"database/sql"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// Origin is where a sign-in comes from.
type Origin struct {
	From      netip.Addr
	UserAgent string
	Device    string // the device cookie that an earlier SignedIn gave; "" when there is none
}

// SignedIn is a session that has just begun.
type SignedIn struct {
	Person    grantway.Person
	Token     string    // for the session cookie
	Device    string    // for the device cookie, to be kept for a year; "" leaves it as it is
	ExpiresAt time.Time // at the latest
}

// SignIn begins a session of who knows a password. See throttle for who has to wait. An account
// that does not exist takes the same work as a wrong password, and is answered the same.
//
// Errors are of code Unauthenticated, Forbidden for a person who was deactivated,
// RateLimited, or Unavailable.
func (p *People) SignIn(ctx context.Context, email, password string, o Origin) (in SignedIn, err error) {
	defer func() { p.counted(methodPassword, err) }()
	account, now := emailKey(email), time.Now()
	if !utf8.ValidString(account) || strings.ContainsRune(account, 0) || len(account) > 254 {
		account = "?" // nobody's
	}
	device, known := p.knownDevice(account, o.Device)
	if !known {
		device = ""
	}
	keys := throttleKeys(o.From, account, device)
	if wait := p.throttle.begin(keys, now); wait > 0 {
		return SignedIn{}, tooOften(now.Add(wait))
	}
	one, err := p.account(ctx, account)
	if err != nil {
		p.throttle.forgive(keys)
		return SignedIn{}, &grantway.Error{Code: grantway.Unavailable, Message: "signing in is not possible now; try again in a moment", Err: err}
	}
	ok, err := p.knows(ctx, one, password)
	if err != nil {
		p.throttle.forgive(keys)
		return SignedIn{}, err
	}
	if !ok {
		p.failures.count(one, o.From)
		return SignedIn{}, grantway.Errorf(grantway.Unauthenticated, "there is no such account, or the password is wrong")
	}
	err = p.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, topicPerson); err != nil {
			return err
		}
		still, err := readPerson(ctx, tx, one.ID, "")
		if err != nil {
			return err
		}
		if still == nil || !slices.Equal(still.password, one.password) { // changed, or sealed again, just now
			return grantway.Errorf(grantway.Unauthenticated, "your account was changed at this moment; try again")
		}
		if !still.active {
			return deactivated()
		}
		in, err = p.begin(ctx, tx, still, methodPassword, o)
		return err
	})
	p.throttle.forgive(keys)
	if err != nil {
		return SignedIn{}, err
	}
	if !known {
		nonce := newToken()
		in.Device = nonce + "." + p.hash(kindDevice, account+"\x00"+nonce)
	}
	return in, nil
}

func deactivated() error {
	return grantway.Errorf(grantway.Forbidden, "your account is deactivated; ask an administrator of this hub")
}

func tooOften(until time.Time) error {
	return &grantway.Error{Code: grantway.RateLimited, Message: "there were too many wrong passwords; wait a little and try again", RetryAt: until}
}

// account reads what it takes to check a password, by one query whether there is somebody with
// this email or not; nil when not.
func (p *People) account(ctx context.Context, email string) (one *person, err error) {
	err = store.Each(ctx, p.Store.Read(), func(rows *sql.Rows) error {
		one = &person{}
		return rows.Scan(&one.ID, &one.Email, &one.password)
	}, `SELECT id, email, password FROM person WHERE email_key = $1`, email)
	return one, err
}

// knownDevice returns the nonce of a device cookie, if it is one that was given for account.
func (p *People) knownDevice(account, cookie string) (nonce string, ok bool) {
	nonce, mac, ok := strings.Cut(cookie, ".")
	ok = ok && hmac.Equal([]byte(mac), []byte(p.hash(kindDevice, account+"\x00"+nonce)))
	return nonce, ok
}

// knows says whether password is that of one, by the same work if one is nil, or has none.
func (p *People) knows(ctx context.Context, one *person, password string) (bool, error) {
	if one == nil || len(one.password) == 0 {
		one = &p.nobody
	}
	hash, err := p.Sealer.Open(passwordPlace(one.ID), one.password)
	if err != nil {
		return false, err
	}
	ok, err := p.hasher.matches(ctx, password, string(hash))
	return ok && one != &p.nobody, err
}

// ChangePassword changes the password of the person whose session token is, and ends all
// other sessions and links of the person. Errors are those of Session and SignIn, or of code
// Invalid, also for a wrong old password.
func (p *People) ChangePassword(ctx context.Context, token, old, password string) error {
	who, session, err := p.Session(ctx, token)
	if err != nil {
		return err
	}
	one, err := readPerson(ctx, p.Store.Read(), who.ID, "")
	if err != nil {
		return err
	}
	if one == nil || len(one.password) == 0 {
		return grantway.Errorf(grantway.Conflict, "you sign in without a password; who may change people can make you a link to choose one")
	}
	if detail := wrongPassword(password, one.Email); detail != "" {
		return invalidPerson(grantway.Field{Pointer: "/password", Detail: detail})
	}
	keys, now := []throttleKey{{account: emailKey(one.Email), device: session.ID}}, time.Now()
	if wait := p.throttle.begin(keys, now); wait > 0 {
		return tooOften(now.Add(wait))
	}
	ok, err := p.knows(ctx, one, old)
	if err != nil {
		return err
	}
	if !ok {
		return invalidPerson(grantway.Field{Pointer: "/old_password", Detail: "is wrong"})
	}
	p.throttle.forgive(keys)
	hash, err := p.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	_, err = p.editAny(ctx, who, who.ID, "person.password", func(tx *store.Tx, still *person, event *grantway.Event) error {
		if !slices.Equal(still.password, one.password) {
			return grantway.Errorf(grantway.Conflict, "your account was changed at this moment; try again")
		}
		event.Fields = []string{"password"}
		if err := deleteLinks(ctx, tx, still.ID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM person_session WHERE person_id = $1 AND id <> $2`, still.ID, session.ID); err != nil {
			return err
		}
		_, err := p.setPassword(ctx, tx, still.ID, hash)
		return err
	})
	return err
}

// failures counts sign-ins that failed, for the audit trail: a row for each would let a
// stranger fill it. What was typed as an email is not noted, for it may be a password.
type failures struct {
	mu     sync.Mutex
	counts map[failure]int // guarded by mu
}

type failure struct {
	email string // of a person that exists; "": there is none
	from  netip.Prefix
}

// maxFailures bounds how many rows a minute makes; what is beyond is counted together.
const maxFailures = 100

func (f *failures) count(one *person, from netip.Addr) {
	key := failure{from: prefixOf(from)}
	if one != nil {
		key.email = one.Email
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts = make(map[failure]int)
	}
	if _, there := f.counts[key]; !there && len(f.counts) >= maxFailures {
		key = failure{}
	}
	f.counts[key]++
}

// recordFailures writes down what failed since the last time.
func (p *People) recordFailures(ctx context.Context) error {
	p.failures.mu.Lock()
	counts := p.failures.counts
	p.failures.counts = nil
	p.failures.mu.Unlock()
	if counts == nil {
		return nil
	}
	err := p.Store.Write(ctx, func(tx *store.Tx) error {
		for f, n := range counts {
			e := grantway.Event{Action: "person.sign_in", Outcome: Failed, Object: "person", Detail: fmt.Sprintf("wrong passwords in a minute: %d", n)}
			if f.email != "" {
				e.Object = "person/" + f.email
			}
			if f.from.IsValid() {
				e.Detail += ", from " + f.from.String()
			}
			if err := p.Audit.Record(ctx, tx, Hub(), e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%d wrong passwords are missing in the audit trail: %w", len(counts), err)
	}
	return nil
}
