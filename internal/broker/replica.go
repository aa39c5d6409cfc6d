package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// A replica says every replicaBeat that it is alive; one that has not for replicaGone is forgotten.
const (
	replicaBeat = 10 * time.Second
	replicaGone = time.Minute
)

// Replica is one process that serves the hub.
type Replica struct {
	Name, Version string
	Started, Seen time.Time
	Self          bool // the one that answers
}

// present keeps this process in the list of replicas until ctx ends. The list is for
// people: nothing depends on it, so an error only means that it is shown less well.
func (b *Broker) present(ctx context.Context) {
	started := time.Now()
	tick := time.NewTicker(replicaBeat)
	defer tick.Stop()
	for {
		if err := b.beat(ctx, started, time.Now()); err != nil && ctx.Err() == nil {
			b.Log.Debug("this replica is not in the list", "error", err)
		}
		select {
		case <-ctx.Done():
			stopped, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = b.Store.Write(stopped, func(tx *store.Tx) error {
				_, err := tx.ExecContext(stopped, `DELETE FROM replica WHERE name = $1`, b.replica)
				return err
			})
			return
		case <-tick.C:
		}
	}
}

func (b *Broker) beat(ctx context.Context, started, now time.Time) error {
	return b.write(ctx, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO replica (name, version, started, seen) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO UPDATE SET seen = $4`,
			b.replica, b.Version, started.UnixMilli(), now.UnixMilli())
		_, old := tx.ExecContext(ctx, `DELETE FROM replica WHERE seen < $1`, now.Add(-replicaGone).UnixMilli())
		return errors.Join(err, old)
	})
}

// Replicas lists the processes that serve the hub, this one first.
func (b *Broker) Replicas(ctx context.Context, who access.Caller) ([]Replica, error) {
	if err := b.Audit.RequireSomewhere(ctx, who, access.ReadStatus, grantway.Event{Action: access.ReadStatus.String()}); err != nil {
		return nil, err
	}
	rows, err := b.Store.Read().QueryContext(ctx, `SELECT name, version, started, seen FROM replica ORDER BY CASE WHEN name = $1 THEN 0 ELSE 1 END, started`, b.replica)
	if err != nil {
		return nil, fmt.Errorf("replicas: %w", err)
	}
	defer rows.Close()
	var list []Replica
	for rows.Next() {
		var r Replica
		var started, seen int64
		if err := rows.Scan(&r.Name, &r.Version, &started, &seen); err != nil {
			return nil, fmt.Errorf("replicas: %w", err)
		}
		r.Started, r.Seen, r.Self = fromMillis(started), fromMillis(seen), r.Name == b.replica
		list = append(list, r)
	}
	return list, rows.Err()
}

// Queue says how much token requests there are to do.
type Queue struct {
	Fetching int // leases that are held
	Waiting  int // held back after a failure
	Tokens   int // stored and valid
}

// Queue counts the token requests of all replicas.
func (b *Broker) Queue(ctx context.Context, who access.Caller) (q Queue, err error) {
	if err := b.Audit.RequireSomewhere(ctx, who, access.ReadStatus, grantway.Event{Action: access.ReadStatus.String()}); err != nil {
		return q, err
	}
	err = b.Store.Read().QueryRowContext(ctx, `
		SELECT COALESCE(SUM(CASE WHEN lease_until > $1 THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN retry_at > $1 THEN 1 ELSE 0 END), 0),
		       COALESCE(SUM(CASE WHEN expires_at > $1 THEN 1 ELSE 0 END), 0) FROM token`, time.Now().UnixMilli()).Scan(&q.Fetching, &q.Waiting, &q.Tokens)
	if err != nil {
		return q, fmt.Errorf("count token requests: %w", err)
	}
	return q, nil
}
