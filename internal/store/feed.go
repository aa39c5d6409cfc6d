package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Staleness is how long after a commit the subscribers of every replica that reaches the
// database are told of it, at the latest.
const Staleness = time.Second

const (
	channel = "grantway"             // of the PostgreSQL notifications
	period  = 500 * time.Millisecond // of the comparison of versions
	grace   = 100 * time.Millisecond // for a notification that is under way
	silence = 30 * time.Second       // on the listening connection, then it is checked
	backlog = 1000                   // of keys that wait for one subscriber; more become ""
)

// notice says that one transaction changed keys of a topic, and which version of the topic
// that made. It is the payload of a PostgreSQL notification.
type notice struct {
	Topic   string   `json:"topic"`
	Version int64    `json:"version"`
	Keys    []string `json:"keys"`
}

// feed tells subscribers what changed. It learns of changes in two ways:
//
//	notice   at once: from PostgreSQL by LISTEN, on SQLite from Write of this process
//	compare  every half second: the table of versions, for what no notice arrived of, because
//	         the connection was cut or another process wrote to the SQLite file
//
// Versions of a topic have no gaps and commit in order, so a notice that is not the next one
// shows that something was missed; then the subscribers hear "".
type feed struct {
	store  *Store
	wake   chan struct{} // holds one item when there may be something to deliver
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu   sync.Mutex
	seen map[string]int64 // version of each topic that subscribers know of; nil before start
	subs []*subscriber
}

// subscriber waits for keys of a topic. feed.mu guards it.
type subscriber struct {
	topic   string
	call    func(ctx context.Context, key string) error
	keys    []string // to be told, in order; "" stands for all and is then the only one
	failing bool     // the last call failed
	resting bool     // after a failure, until the next comparison
}

func newFeed(s *Store) *feed { return &feed{store: s, wake: make(chan struct{}, 1)} }

// Subscribe has f called with every key of topic that changes, from Start on. The key "" says
// that changes may have been missed: reload all of the topic. Keys that change again before
// f is called are told once. So whoever subscribes and then loads, after Start, never has old
// data for longer than Staleness; who subscribes before Start hears "" first.
//
// All calls come from one goroutine, one after another, so f is quick. When it fails, the
// error is logged and f is called with "" twice a second until it succeeds. Its ctx ends with
// Close. cancel ends the subscription; a call may still be running when it returns.
func (s *Store) Subscribe(topic string, f func(ctx context.Context, key string) error) (cancel func()) {
	return s.feed.subscribe(topic, f)
}

// Start begins to deliver changes. ctx bounds the call only; Close ends the delivery.
func (s *Store) Start(ctx context.Context) error { return s.feed.start(ctx) }

func (f *feed) subscribe(topic string, call func(context.Context, string) error) func() {
	sub := &subscriber{topic: topic, call: call}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs = append(f.subs, sub)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.subs = slices.DeleteFunc(f.subs, func(s *subscriber) bool { return s == sub })
		sub.keys = nil
	}
}

func (f *feed) start(ctx context.Context) error {
	var conn *pgx.Conn
	if f.store.postgres != nil {
		var err error
		if conn, err = f.connect(ctx); err != nil {
			return fmt.Errorf("listening for changes: %w", err)
		}
	}
	versions, err := f.versions(ctx) // after listening has begun, so that nothing falls between
	if err != nil {
		if conn != nil {
			conn.Close(ctx)
		}
		return err
	}
	f.mu.Lock()
	f.seen = versions
	for _, sub := range f.subs {
		sub.add("")
	}
	f.mu.Unlock()
	f.ring()

	running, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.ended.Go(func() { f.deliver(running) })
	f.ended.Go(func() { f.compare(running) })
	if conn != nil {
		f.ended.Go(func() { f.listen(running, conn) })
	}
	return nil
}

func (f *feed) stop() {
	if f.cancel != nil {
		f.cancel()
	}
	f.ended.Wait()
}

// notice takes in one notice.
func (f *feed) notice(n notice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil || n.Version <= f.seen[n.Topic] {
		return // not started, or told already
	}
	if n.Version > f.seen[n.Topic]+1 {
		n.Keys = []string{""}
	}
	f.changed(n)
}

// changed notes what to tell the subscribers of a topic. f.mu is held.
func (f *feed) changed(n notice) {
	f.seen[n.Topic] = n.Version
	for _, sub := range f.subs {
		if sub.topic == n.Topic {
			for _, key := range n.Keys {
				sub.add(key)
			}
		}
	}
	f.ring()
}

func (s *subscriber) add(key string) {
	switch {
	case slices.Contains(s.keys, key) || slices.Contains(s.keys, ""):
	case key == "" || len(s.keys) == backlog:
		s.keys = []string{""}
	default:
		s.keys = append(s.keys, key)
	}
}

func (f *feed) ring() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// deliver calls subscribers until ctx ends.
func (f *feed) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		for sub, key := f.next(); sub != nil && ctx.Err() == nil; sub, key = f.next() {
			f.told(sub, key, deliverOne(ctx, sub, key), ctx.Err() != nil)
		}
	}
}

// callTime is how long one subscriber may take. One that hangs, on a connection that is
// half open say, is called again, and meanwhile the others get their turn.
const callTime = 20 * time.Second

func deliverOne(ctx context.Context, sub *subscriber, key string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return sub.call(ctx, key)
}

// told notes how a call ended. Of a row of failures the first is logged.
func (f *feed) told(sub *subscriber, key string, err error, closing bool) {
	f.mu.Lock()
	first := err != nil && !sub.failing
	sub.failing, sub.resting = err != nil, err != nil
	if err != nil {
		sub.add("")
	}
	f.mu.Unlock()
	if first && !closing {
		f.store.log.Error("reloading after a change, trying again", "topic", sub.topic, "key", key, "error", err)
	}
}

// next takes one key that is to be told; nil when there is none.
func (f *feed) next() (*subscriber, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sub := range f.subs {
		if len(sub.keys) > 0 && !sub.resting {
			key := sub.keys[0]
			sub.keys = sub.keys[1:]
			return sub, key
		}
	}
	return nil, ""
}

// compare reads the versions every period until ctx ends, and also lets subscribers that
// failed try again.
func (f *feed) compare(ctx context.Context) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.mu.Lock()
		for _, sub := range f.subs {
			sub.resting = false
		}
		f.mu.Unlock()
		f.ring()

		versions, err := f.versions(ctx)
		if ctx.Err() != nil {
			return
		}
		if (err != nil) != away {
			away = err != nil
			if away {
				f.store.log.Error("the database is away: changes by other replicas are not seen", "error", err)
			} else {
				f.store.log.Info("the database is back")
			}
		}
		if !f.behind(versions, false) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(grace):
			f.behind(versions, true)
		}
	}
}

// behind says whether versions show a change that no notice has told of; catchUp also tells
// the subscribers.
func (f *feed) behind(versions map[string]int64, catchUp bool) (behind bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for topic, version := range versions {
		if version > f.seen[topic] {
			behind = true
			if catchUp {
				f.changed(notice{topic, version, []string{""}})
			}
		}
	}
	return behind
}

func (f *feed) versions(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	rows, err := f.store.read.QueryContext(ctx, `SELECT topic, version FROM change`)
	if err != nil {
		return nil, fmt.Errorf("reading the versions of changes: %w", err)
	}
	defer rows.Close()
	versions := map[string]int64{}
	for rows.Next() {
		var topic string
		var version int64
		if err := rows.Scan(&topic, &version); err != nil {
			return nil, fmt.Errorf("reading the versions of changes: %w", err)
		}
		versions[topic] = version
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the versions of changes: %w", err)
	}
	return versions, nil
}

// connect opens a connection to PostgreSQL that receives notifications.
func (f *feed) connect(ctx context.Context) (*pgx.Conn, error) {
	config := f.store.postgres.Copy()
	config.RuntimeParams["application_name"] += " listen" // tells it apart in pg_stat_activity
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// listen takes in notifications until ctx ends, on a new connection when one is lost.
// What is missed in between, compare finds.
func (f *feed) listen(ctx context.Context, conn *pgx.Conn) {
	for {
		err := f.receive(ctx, conn)
		if ctx.Err() != nil {
			return
		}
		f.store.log.Warn("connection that listens for changes lost, connecting again", "error", err)
		for conn = nil; conn == nil; conn, _ = f.connect(ctx) { // the cause is in the log already
			select {
			case <-ctx.Done():
				return
			case <-time.After(period):
			}
		}
	}
}

func (f *feed) receive(ctx context.Context, conn *pgx.Conn) error {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	for {
		waiting, cancel := context.WithTimeout(ctx, silence)
		got, err := conn.WaitForNotification(waiting)
		cancel()
		if pgconn.Timeout(err) && ctx.Err() == nil {
			checking, cancel := context.WithTimeout(ctx, period)
			err = conn.Ping(checking)
			cancel()
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		var n notice
		if err := json.Unmarshal([]byte(got.Payload), &n); err != nil {
			f.store.log.Warn("notification is not ours", "channel", got.Channel, "error", err)
			continue
		}
		f.notice(n)
	}
}
