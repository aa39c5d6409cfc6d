package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// attempts is how often Write runs a transaction that PostgreSQL asks to run again.
const attempts = 10

// Tx is a transaction, run by Write. Query and change rows with the methods of sql.Tx, but
// leave Commit and Rollback to Write.
type Tx struct {
	*sql.Tx
	postgres bool
	changes  map[string][]string // keys by topic, in order
}

// Write runs f in a transaction and commits it if f returns nil; else nothing happened. When
// PostgreSQL breaks off a transaction because of another one (deadlock, serialization), f runs
// again, so f has no effect outside tx. An error of the commit itself, when the connection is
// lost, leaves open whether it happened.
//
// SQLite runs one Write at a time, so f does not call Write, and does not wait for the network.
// PostgreSQL runs them side by side, isolated as READ COMMITTED: a rule that reads before it
// writes puts what it read into the WHERE of the write, or takes a Lock.
func (s *Store) Write(ctx context.Context, f func(tx *Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := s.write(ctx, f)
		if err == nil || s.postgres == nil || attempt == attempts || !runAgain(err) {
			return err
		}
		pause := time.NewTimer(rand.N(time.Duration(attempt) * 10 * time.Millisecond))
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
	}
}

func (s *Store) write(ctx context.Context, f func(tx *Tx) error) error {
	// The transaction runs on a connection that is taken by hand, because a later part needs
	// it: conn.Raw gives the *pgx.Conn under it, and so a pgx.Tx of this same transaction.
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Close()
	begun, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return &beginError{err}
	}
	defer begun.Rollback() // does nothing after Commit

	tx := &Tx{Tx: begun, postgres: s.postgres != nil, changes: map[string][]string{}}
	if err := f(tx); err != nil {
		return err
	}
	notices, err := tx.bump(ctx)
	if err != nil {
		return err
	}
	if err := begun.Commit(); err != nil {
		if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
			err = ctx.Err() // which made the driver roll back
		}
		return fmt.Errorf("committing: %w", err)
	}
	if s.postgres == nil { // before conn is free for the next writer, so in order
		for _, n := range notices {
			s.feed.notice(n)
		}
	}
	return nil
}

// beginError is a transaction that did not start, and so can be tried again safely: the
// usual cause is a pooled connection that the server has closed.
type beginError struct{ err error }

func (e *beginError) Error() string { return "starting a transaction: " + e.err.Error() }
func (e *beginError) Unwrap() error { return e.err }

func runAgain(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "40001" || pg.Code == "40P01") {
		return true // serialization_failure, deadlock_detected
	}
	_, ok := errors.AsType[*beginError](err)
	return ok
}

// Changed tells the subscribers of topic, on every replica and after the commit, that key
// changed. The empty key stands for all of the topic.
func (tx *Tx) Changed(topic, key string) {
	if !slices.Contains(tx.changes[topic], key) {
		tx.changes[topic] = append(tx.changes[topic], key)
	}
}

// bump raises the version of each changed topic. It comes last in a transaction, because other
// transactions that change the topic wait from here to the commit, and in order of topics, so
// that two of them do not wait for one another.
func (tx *Tx) bump(ctx context.Context) ([]notice, error) {
	var notices []notice
	for _, topic := range slices.Sorted(maps.Keys(tx.changes)) {
		n := notice{Topic: topic, Keys: tx.changes[topic]}
		err := tx.QueryRowContext(ctx, `
			INSERT INTO change (topic, version) VALUES ($1, 1)
			ON CONFLICT (topic) DO UPDATE SET version = change.version + 1
			RETURNING version`, topic).Scan(&n.Version)
		if err != nil {
			return nil, fmt.Errorf("noting a change of %s: %w", topic, err)
		}
		notices = append(notices, n)
		if !tx.postgres {
			continue
		}
		payload, err := json.Marshal(n)
		if err == nil && len(payload) > 7999 { // PostgreSQL takes less than 8,000 bytes
			n.Keys = []string{""}
			payload, err = json.Marshal(n)
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `SELECT pg_notify('`+channel+`', $1)`, string(payload))
		}
		if err != nil {
			return nil, fmt.Errorf("announcing a change of %s: %w", topic, err)
		}
	}
	return notices, nil
}

// DeleteExpired deletes the rows of a table whose expires_at, in Unix milliseconds, has come: some thousands at a time, so
// that others get their turn. The table has an index that begins with it.
func (s *Store) DeleteExpired(ctx context.Context, table string, now time.Time) error {
	const some = 5000
	for deleted := int64(some); deleted >= some; {
		err := s.Write(ctx, func(tx *Tx) error {
			r, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE expires_at <= $1 AND expires_at <= coalesce(
				(SELECT expires_at FROM `+table+` ORDER BY expires_at LIMIT 1 OFFSET $2), $1)`, now.UnixMilli(), some-1)
			if err != nil {
				return err
			}
			deleted, err = r.RowsAffected()
			return err
		})
		if err != nil {
			return fmt.Errorf("expired rows of %s: %w", table, err)
		}
	}
	return nil
}

// Lock waits until no other transaction holds name, and holds it until this one ends. On
// SQLite there is nothing to wait for: a writer is alone.
func (tx *Tx) Lock(ctx context.Context, name string) error {
	if !tx.postgres {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, name); err != nil {
		return fmt.Errorf("waiting for the lock %s: %w", name, err)
	}
	return nil
}

// Away says whether err means that the database cannot be reached, or is about to stop: what
// failed may work later.
func Away(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		class := pg.Code[:min(len(pg.Code), 3)]
		return class == "57P" || pg.Code == "53300" // shut down, crashed, starting up; too_many_connections
	}
	_, refused := errors.AsType[*pgconn.ConnectError](err)
	_, cut := errors.AsType[*net.OpError](err)
	return refused || cut || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn)
}

// Duplicate says whether err is a row refused by a primary key or a unique index.
func Duplicate(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "23505" // unique_violation
	}
	lite, ok := errors.AsType[*sqlite.Error](err)
	return ok && (lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}
