package secret

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/outbound"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

const (
	topic = "secret_store" // of store.Tx.Changed; the key is the store's name

	readTimeout = 15 * time.Second // for one read, the sign-in included
	pause       = 5 * time.Second  // after a store was away, before a value that is held is read again
	renewEvery  = time.Second      // how often sign-ins are looked at that have to be kept alive
	renewRetry  = 30 * time.Second // after one could not be renewed
)

// Options are what Stores work with. All but Log are required.
type Options struct {
	Store    *store.Store
	Sealer   *seal.Sealer
	Audit    *access.Log
	Outbound *outbound.Guard
	BuiltIn  []Store // those that are always there
	Log      *slog.Logger

	// Users names the credentials that refer to a store. The app sets it from the one who
	// keeps credentials; nil means that there are none.
	Users func(ctx context.Context, q store.Querier, name string) ([]string, error)
}

// Stores are all secret stores of the hub. Safe for concurrent use.
type Stores struct {
	Options
	entries atomic.Pointer[map[string]*entry] // by name

	loading sync.Mutex         // one load at a time, so that the newest wins
	flights singleflight.Group // reads of one value

	mu   sync.Mutex
	held map[valueKey]*value

	background sync.WaitGroup
	stop       func()
}

// entry is one store of the snapshot.
type entry struct {
	Store
	row     *grantway.SecretStore // nil for one that is always there
	kind    Kind
	sealed  map[string][]byte
	ttl     time.Duration
	limit   time.Duration
	version int64
	health  *health
}

// valueKey tells values apart. A store that was changed does not get to its old values.
type valueKey struct {
	store        string
	version      int64
	key, edition string
}

// value is what a store answered. It is in memory only.
type value struct {
	data []byte
	at   time.Time // when it was asked for
	wait time.Time // do not ask again before
}

// health is how a store has been doing since this process started.
type health struct {
	mu      sync.Mutex
	success time.Time
	failure *grantway.StoreFailure
}

func (h *health) note(err error) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.failure != nil && h.failure.At.After(h.success)
	now := time.Now().UTC().Truncate(time.Millisecond)
	if err == nil || !reasonOf(err).away() { // an answer is an answer
		h.success = now
		return was
	}
	h.failure = &grantway.StoreFailure{At: now, Message: err.Error()}
	return !was
}

func (h *health) show(s *grantway.SecretStore) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.LastSuccess, s.LastError = h.success, h.failure
	if h.failure != nil && !h.success.After(h.failure.At) {
		s.Error = h.failure.Message
	}
}

// New returns the stores that are built in and those in the database. Start makes it follow changes.
func New(ctx context.Context, o Options) (*Stores, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Stores{Options: o, held: map[valueKey]*value{}}
	s.entries.Store(&map[string]*entry{})
	return s, s.load(ctx)
}

// Start follows the changes that other replicas make and keeps sign-ins alive, until Stop.
func (s *Stores) Start() {
	ctx, stop := context.WithCancel(context.Background())
	cancel := s.Store.Subscribe(topic, func(ctx context.Context, _ string) error { return s.load(ctx) })
	s.stop = func() { cancel(); stop() }
	s.background.Go(func() { s.renew(ctx) })
}

// Stop ends background work and waits for it.
func (s *Stores) Stop(context.Context) error {
	if s.stop != nil {
		s.stop()
	}
	s.background.Wait()
	return nil
}

// load makes the snapshot anew. A store that did not change stays as it is, signed in.
func (s *Stores) load(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	before, now := *s.entries.Load(), map[string]*entry{}
	for _, one := range s.BuiltIn {
		now[one.Describe().Name] = &entry{Store: one, health: &health{}}
	}
	secrets, err := s.loadSecrets(ctx)
	if err != nil {
		return err
	}
	rows, err := s.Store.Read().QueryContext(ctx, `SELECT `+columns+` FROM secret_store`)
	if err != nil {
		return fmt.Errorf("load secret stores: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return fmt.Errorf("load secret stores: %w", err)
		}
		sealed := secrets[row.Name]
		if old := before[row.Name]; old != nil && old.version == row.Version && maps.EqualFunc(old.sealed, sealed, slices.Equal) {
			now[row.Name] = old
			continue
		}
		now[row.Name] = s.open(row, sealed)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("load secret stores: %w", err)
	}
	s.entries.Store(&now)
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.held, func(k valueKey, _ *value) bool { return now[k.store] == nil || now[k.store].version != k.version })
	return nil
}

const columns = `name, kind, description, inputs, version, created_at, updated_at`

func scan(row interface{ Scan(...any) error }) (*grantway.SecretStore, error) {
	var one grantway.SecretStore
	var inputs string
	var created, updated int64
	if err := row.Scan(&one.Name, &one.Kind, &one.Description, &inputs, &one.Version, &created, &updated); err != nil {
		return nil, err
	}
	one.CreatedAt, one.UpdatedAt = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	if err := json.Unmarshal([]byte(inputs), &one.Inputs); err != nil {
		return nil, fmt.Errorf("inputs of secret store %s: %w", one.Name, err)
	}
	return &one, nil
}

// loadSecrets returns the sealed sign-in secrets of all stores.
func (s *Stores) loadSecrets(ctx context.Context) (map[string]map[string][]byte, error) {
	rows, err := s.Store.Read().QueryContext(ctx, `SELECT store, input, sealed FROM secret_store_secret`)
	if err != nil {
		return nil, fmt.Errorf("load secret stores: %w", err)
	}
	defer rows.Close()
	all := map[string]map[string][]byte{}
	for rows.Next() {
		var name, input string
		var sealed sql.RawBytes
		if err := rows.Scan(&name, &input, &sealed); err != nil {
			return nil, fmt.Errorf("load secret stores: %w", err)
		}
		if all[name] == nil {
			all[name] = map[string][]byte{}
		}
		all[name][input] = slices.Clone(sealed)
	}
	return all, rows.Err()
}

// open makes the store of a row. One of a kind that a newer hub knows cannot be read here.
func (s *Stores) open(row *grantway.SecretStore, sealed map[string][]byte) *entry {
	e := &entry{row: row, sealed: sealed, version: row.Version, health: &health{}}
	k, ok := FindKind(row.Kind)
	if !ok {
		e.Store = unknown{*row}
		return e
	}
	text := func(input string) string {
		in, _ := k.Input(input)
		return cmp.Or(row.Inputs[input].Text, in.Default)
	}
	seconds := func(input string) time.Duration {
		n, _ := strconv.Atoi(text(input)) // it was checked
		return time.Duration(n) * time.Second
	}
	e.kind, e.ttl, e.limit = k, seconds("ttl_seconds"), seconds("hard_limit_seconds")
	e.Store = k.open(setting{
		name: row.Name, text: text,
		secret:  func(ctx context.Context, input string) (string, error) { return s.signInSecret(ctx, e, input) },
		http:    s.Outbound.Client(readTimeout),
		machine: s.Outbound.MachineTransport(),
	})
	return e
}

// signInSecret opens what a store signs in with, or reads it from the environment or a file.
func (s *Stores) signInSecret(ctx context.Context, e *entry, input string) (string, error) {
	if ref := e.row.Inputs[input].Ref; ref != nil {
		v, err := s.Resolve(ctx, *ref)
		if err != nil {
			return "", fault(e.row.Name, refused, err, "its %s cannot be had: %v", input, err)
		}
		return string(v), nil
	}
	sealed, ok := e.sealed[input]
	if !ok {
		return "", nil
	}
	plain, err := s.Sealer.Open(place(e.row.Name, input), sealed)
	if err != nil {
		return "", fault(e.row.Name, refused, err, "its stored %s does not open", input)
	}
	return string(plain), nil
}

func place(name, input string) seal.Place {
	return seal.Place{Table: "secret_store_secret", Row: name + "/" + input, Column: "sealed"}
}

// unknown is a store of a kind that this version of the hub does not know.
type unknown struct{ row grantway.SecretStore }

func (u unknown) Describe() grantway.SecretStore { return u.row }
func (u unknown) SignIn(context.Context) error {
	return fault(u.row.Name, unreachable, nil, "this version of the hub does not know the kind %s", u.row.Kind)
}
func (u unknown) Read(ctx context.Context, _, _ string) ([]byte, error) { return nil, u.SignIn(ctx) }

// Names lists the stores' names.
func (s *Stores) Names() []string { return slices.Sorted(maps.Keys(*s.entries.Load())) }

func (s *Stores) find(name string) (*entry, error) {
	if e := (*s.entries.Load())[name]; e != nil {
		return e, nil
	}
	return nil, grantway.Errorf(grantway.NotFound, "there is no such secret store; the stores are %s", strings.Join(s.Names(), ", "))
}

// Spelling is the key of ref as its store spells it: some allow few characters in a name.
func (s *Stores) Spelling(ref grantway.SecretRef) string {
	if e := (*s.entries.Load())[ref.Store]; e != nil {
		return e.spelling(ref.Key)
	}
	return ref.Key
}

func (e *entry) spelling(key string) string {
	if e.kind.spell == nil {
		return key
	}
	return e.kind.spell(key)
}

// Away says why the named store cannot be read just now, in which case values come from memory;
// "" when it can, or nobody tried.
func (s *Stores) Away(name string) string {
	e := (*s.entries.Load())[name]
	if e == nil || e.row == nil {
		return ""
	}
	var one grantway.SecretStore
	e.health.show(&one)
	return one.Error
}

// Resolve returns the value that ref names, read at most the store's time to live ago. While
// the store is away it returns an older one, up to the store's hard limit. The error is a
// *grantway.Error that names the store: NotFound when there is no such secret, else Unavailable.
func (s *Stores) Resolve(ctx context.Context, ref grantway.SecretRef) (grantway.Secret, error) {
	return s.resolve(ctx, ref, -1)
}

// Renew is Resolve for a value that was refused somewhere: it is read again, unless that was
// done within the last age. A negative age is the store's time to live.
func (s *Stores) Renew(ctx context.Context, ref grantway.SecretRef, age time.Duration) (grantway.Secret, error) {
	return s.resolve(ctx, ref, age)
}

func (s *Stores) resolve(ctx context.Context, ref grantway.SecretRef, age time.Duration) (grantway.Secret, error) {
	e, err := s.find(ref.Store)
	if err != nil {
		return "", err
	}
	var data []byte
	if e.row == nil {
		data, err = e.Read(ctx, ref.Key, ref.Version)
	} else {
		if age < 0 {
			age = e.ttl
		}
		data, err = s.read(ctx, e, ref, age)
	}
	if err != nil {
		return "", err
	}
	return pick(data, ref, e.kind.objects)
}

// read returns the value of a key from memory or from the store. Callers who want the same
// at the same time share one request.
func (s *Stores) read(ctx context.Context, e *entry, ref grantway.SecretRef, age time.Duration) ([]byte, error) {
	key := valueKey{ref.Store, e.version, ref.Key, ref.Version}
	now := time.Now()
	s.mu.Lock()
	if v := s.held[key]; v != nil && (now.Sub(v.at) < age || now.Before(v.wait)) {
		s.mu.Unlock()
		return v.data, nil
	}
	s.mu.Unlock()
	flight := s.flights.DoChan(fmt.Sprintf("%q %d %q %q", key.store, key.version, key.key, key.edition), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		return s.fetch(ctx, e, key, time.Now())
	})
	select {
	case <-ctx.Done():
		return nil, fault(ref.Store, unreachable, ctx.Err(), "did not answer in time")
	case r := <-flight:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]byte), nil
	}
}

// fetch reads a value from its store. What the store says counts; if it is away, what it said
// last counts until the hard limit.
func (s *Stores) fetch(ctx context.Context, e *entry, key valueKey, now time.Time) ([]byte, error) {
	data, err := e.Read(ctx, key.key, key.edition)
	if e.health.note(err) {
		s.logHealth(key.store, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch v := s.held[key]; {
	case err == nil:
		maps.DeleteFunc(s.held, func(k valueKey, v *value) bool { return k.store == key.store && now.Sub(v.at) > e.limit })
		s.held[key] = &value{data: data, at: now}
		return data, nil
	case !reasonOf(err).away() || v == nil:
		delete(s.held, key)
		return nil, err
	case now.Sub(v.at) > e.limit:
		delete(s.held, key)
		var t *trouble
		if errors.As(err, &t) {
			return nil, fault(key.store, t.reason, err, "%s; the value that was read at %s is past the hard limit", t.text, v.at.UTC().Format(time.RFC3339))
		}
		return nil, err
	default:
		s.held[key] = &value{data: v.data, at: v.at, wait: time.Now().Add(pause)}
		return v.data, nil
	}
}

func (s *Stores) logHealth(name string, err error) {
	if err != nil {
		s.Log.Warn("a secret store cannot be read; values that are in memory are used up to its hard limit", "store", name, "error", err)
		return
	}
	s.Log.Info("a secret store can be read again", "store", name)
}

// renewer is a store whose sign-in ends if nobody renews it.
type renewer interface {
	RenewSignIn(ctx context.Context) error
}

// renew keeps sign-ins alive until ctx ends.
func (s *Stores) renew(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	later := map[*entry]time.Time{} // those that failed
	for {
		now := time.Now()
		maps.DeleteFunc(later, func(_ *entry, at time.Time) bool { return now.After(at) })
		for name, e := range *s.entries.Load() {
			r, ok := e.Store.(renewer)
			if _, failed := later[e]; !ok || failed {
				continue
			}
			reading, cancel := context.WithTimeout(ctx, readTimeout)
			err := r.RenewSignIn(reading)
			cancel()
			if err != nil && ctx.Err() == nil {
				later[e] = now.Add(renewRetry)
				if e.health.note(err) {
					s.logHealth(name, err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
