package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

// Paths of the console that links and providers lead to.
const (
	SetupPath      = "/setup/"      // followed by the token
	InvitationPath = "/invitation/" // followed by the token
	SSOPath        = "/sign-in/sso/callback"
)

// topicPerson is the topic of changes of people and of the end of their sessions; its keys
// are ids of people. It is also the lock that such changes hold.
const topicPerson = "person"

// PeopleOptions are what People works with. Store, Sealer, Audit and URL are required.
type PeopleOptions struct {
	Store  *store.Store
	Sealer *seal.Sealer
	Audit  *Log
	URL    func() string // how people reach the hub, without a slash at the end
	HTTP   *http.Client  // asks the OpenID provider, with a Transport; nil: no single sign-on

	Idle     time.Duration // ends a session that is not used for so long; 0 is one hour
	Absolute time.Duration // ends any session; 0 is 12 hours

	Log *slog.Logger // nil discards
}

// People are those who sign in to the console, and their sessions. Its methods may be called
// concurrently.
//
//	set-up link ──────────> the first person, an owner
//	Invite ──> invitation ─> Accept: a password ──> SignIn ──┐
//	OpenID provider ──> SSOFinish: known, invited, or new ───┴──> session ──> Session: Caller
//
// Passwords are kept as argon2id hashes and these sealed, so a stolen database alone cannot be
// guessed at, and a hash moved to another row does not open. Links and sessions are
// random tokens of which the database has a keyed hash.
type People struct {
	PeopleOptions
	hashKey  []byte
	nobody   person // stands in for an account that does not exist
	hasher   *hasher
	throttle throttle
	sessions sessions
	holders  holders
	failures failures
	provider providers
	signIns  *prometheus.CounterVec

	stop        context.CancelFunc // nil before Start
	unsubscribe func()
	background  sync.WaitGroup
}

// NewPeople returns the people in o.Store.
func NewPeople(ctx context.Context, o PeopleOptions) (*People, error) {
	if o.Idle == 0 {
		o.Idle = time.Hour
	}
	if o.Absolute == 0 {
		o.Absolute = 12 * time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &People{PeopleOptions: o, hasher: newHasher()}
	p.signIns = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grantway_sign_ins_total", Help: "Sign-ins to the console, by method and outcome (done, failed, throttled).",
	}, []string{"method", "outcome"})
	if err := p.loadHashKey(ctx); err != nil {
		return nil, fmt.Errorf("key for the hashes of links and sessions: %w", err)
	}
	p.nobody.ID = "nobody"
	hash, err := p.hasher.hash(ctx, rand.Text())
	if err != nil {
		return nil, err
	}
	p.nobody.password, err = p.Sealer.Seal(passwordPlace(p.nobody.ID), []byte(hash))
	return p, err
}

// Describe implements prometheus.Collector.
func (p *People) Describe(to chan<- *prometheus.Desc) { p.signIns.Describe(to) }

// Collect implements prometheus.Collector.
func (p *People) Collect(to chan<- prometheus.Metric) { p.signIns.Collect(to) }

// counted counts a sign-in by its outcome.
func (p *People) counted(method string, err error) {
	outcome := Done
	if err != nil {
		outcome = Failed
	}
	if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.RateLimited {
		outcome = "throttled"
	}
	p.signIns.WithLabelValues(method, outcome).Inc()
}

// Start follows the changes that other replicas make, until Stop.
func (p *People) Start(context.Context) error {
	p.unsubscribe = p.Store.Subscribe(topicPerson, func(_ context.Context, id string) error {
		p.sessions.drop(id)
		p.holders.drop(id)
		return nil
	})
	running, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.background.Go(func() {
		tick := time.NewTicker(time.Minute)
		defer tick.Stop()
		for {
			select {
			case <-running.Done():
				return
			case <-tick.C:
			}
			if err := p.tidy(running); err != nil && running.Err() == nil {
				p.Log.Error("use of sessions not recorded", "error", err)
			}
		}
	})
	return nil
}

// Stop ends background work, and writes down what happened since the last minute.
func (p *People) Stop(ctx context.Context) error {
	if p.stop == nil {
		return nil
	}
	p.unsubscribe()
	p.stop()
	p.background.Wait()
	return p.tidy(ctx)
}

// tidy does what is due every minute.
func (p *People) tidy(ctx context.Context) error {
	return errors.Join(p.recordSeen(ctx), p.recordFailures(ctx), p.purge(ctx))
}

// purge deletes sessions and links that are over.
func (p *People) purge(ctx context.Context) error {
	now := time.Now()
	return p.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM person_session WHERE expires_at <= $1 OR seen_at <= $2`,
			now.UnixMilli(), now.Add(-p.Idle-time.Minute).UnixMilli())
		if err != nil {
			return fmt.Errorf("ended sessions: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM person_link WHERE expires_at <= $1`, now.UnixMilli()); err != nil {
			return fmt.Errorf("expired links: %w", err)
		}
		return nil
	})
}

// The kinds of what is hashed: a token of one kind is none of another.
const (
	kindLink    = "link"
	kindSession = "session"
	kindDevice  = "device"
	kindState   = "sso state"
)

const tokenLength = 43

// newToken returns 256 random bits as text of tokenLength characters.
func newToken() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// hash is what the database holds of a token: HMAC-SHA-256 under a key that is sealed in
// the database, so that who can only write to it cannot add a token he knows.
func (p *People) hash(kind string, token string) string {
	mac := hmac.New(sha256.New, p.hashKey)
	mac.Write([]byte(kind + "\x00" + token))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

const hashKeyName = "hash_key"

var hashKeyPlace = seal.Place{Table: "access_state", Row: hashKeyName, Column: "value"}

func passwordPlace(person string) seal.Place {
	return seal.Place{Table: "person", Row: person, Column: "password"}
}

var ssoSecretPlace = seal.Place{Table: "sso", Row: ssoRow, Column: "client_secret"}

func (p *People) loadHashKey(ctx context.Context) error {
	sealed, err := p.sealedHashKey(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		fresh := make([]byte, 32)
		rand.Read(fresh)
		sealed, err := p.Sealer.Seal(hashKeyPlace, fresh)
		if err != nil {
			return err
		}
		err = p.Store.Write(ctx, func(tx *store.Tx) error { // another replica may have been faster
			_, err := tx.ExecContext(ctx, `INSERT INTO access_state (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, hashKeyName, sealed)
			return err
		})
		if err != nil {
			return err
		}
		return p.loadHashKey(ctx)
	}
	if err != nil {
		return err
	}
	p.hashKey, err = p.Sealer.Open(hashKeyPlace, sealed)
	return err
}

func (p *People) sealedHashKey(ctx context.Context) (sealed []byte, err error) {
	err = p.Store.Read().QueryRowContext(ctx, `SELECT value FROM access_state WHERE name = $1`, hashKeyName).Scan(&sealed)
	return sealed, err
}

// Reseal seals what people keep sealed with the newest data key. It is a seal.Reseal.
func (p *People) Reseal(ctx context.Context, s *seal.Sealer) (n int, err error) {
	key, err := p.sealedHashKey(ctx)
	if err != nil {
		return 0, fmt.Errorf("key for the hashes of links and sessions: %w", err)
	}
	kept := []seal.Row{{Place: hashKeyPlace, Sealed: key, Replace: `UPDATE access_state SET value = $1 WHERE name = $2 AND value = $3`}}
	err = store.Each(ctx, p.Store.Read(), func(rows *sql.Rows) error {
		var id string
		var sealed []byte
		err := rows.Scan(&id, &sealed)
		kept = append(kept, seal.Row{Place: passwordPlace(id), Sealed: sealed, Replace: `UPDATE person SET password = $1 WHERE id = $2 AND password = $3`})
		return err
	}, `SELECT id, password FROM person WHERE length(password) > 0`)
	if err != nil {
		return 0, fmt.Errorf("passwords: %w", err)
	}
	err = store.Each(ctx, p.Store.Read(), func(rows *sql.Rows) error {
		var sealed []byte
		err := rows.Scan(&sealed)
		kept = append(kept, seal.Row{Place: ssoSecretPlace, Sealed: sealed, Replace: `UPDATE sso SET client_secret = $1 WHERE id = $2 AND client_secret = $3`})
		return err
	}, `SELECT client_secret FROM sso WHERE length(client_secret) > 0`)
	if err != nil {
		return 0, fmt.Errorf("secret of single sign-on: %w", err)
	}
	return s.RenewRows(ctx, p.Store, kept)
}
