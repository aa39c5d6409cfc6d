package access

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// The outcomes of an event.
const (
	Done   = "done"
	Denied = "denied" // the caller was not allowed
	Failed = "failed" // it was allowed and did not work
)

// Log is the audit trail: who changed, validated or was refused what, and when. A row
// holds names, never values. Rows are added and read, never changed.
type Log struct {
	store *store.Store
	log   *slog.Logger
}

// NewLog returns the audit trail in s. What cannot be recorded goes to log.
func NewLog(s *store.Store, log *slog.Logger) *Log { return &Log{s, log} }

// Record adds e to the trail in the transaction that makes the change, so that there is
// never one without the other. It fills in the id, the time and the caller; an empty
// Outcome means Done.
func (l *Log) Record(ctx context.Context, tx *store.Tx, who Caller, e grantway.Event) error {
	now := time.Now()
	if e.Outcome == "" {
		e.Outcome = Done
	}
	var fields string
	if len(e.Fields) > 0 {
		b, err := json.Marshal(e.Fields)
		if err != nil {
			return fmt.Errorf("audit %s: %w", e.Action, err)
		}
		fields = string(b)
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO audit (id, at, caller, caller_name, action, outcome, object, division, fields, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		newID(now), now.UnixMilli(), who.ID, who.Name, e.Action, e.Outcome, storable(e.Object), storable(e.Division), fields, e.Detail)
	if err != nil {
		return fmt.Errorf("audit %s: %w", e.Action, err)
	}
	return nil
}

// storable is the beginning of s, without what PostgreSQL does not take for text: a refusal
// comes before anybody has looked at the names in the request.
func storable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s[:min(len(s), 256)], "\x00", ""), "")
}

// Denied records, in a transaction of its own, that who was refused e. It works after the
// caller has gone away. If it cannot be recorded the refusal still stands, so that is
// logged and not returned.
func (l *Log) Denied(ctx context.Context, who Caller, e grantway.Event) {
	e.Outcome = Denied
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := l.store.Write(ctx, func(tx *store.Tx) error { return l.Record(ctx, tx, who, e) })
	if err != nil {
		l.log.Error("a refusal is missing in the audit trail", "caller", who.ID, "action", e.Action, "object", e.Object, "error", err)
	}
}

// Require is who.Check(p, division) that records a refusal as e.
func (l *Log) Require(ctx context.Context, who Caller, p Permission, division string, e grantway.Event) error {
	err := who.Check(p, division)
	if err != nil {
		if e.Division == "" && division != Everywhere {
			e.Division = division
		}
		l.Denied(ctx, who, e)
	}
	return err
}

// RequireSomewhere is who.CheckSomewhere(p) that records a refusal as e.
func (l *Log) RequireSomewhere(ctx context.Context, who Caller, p Permission, e grantway.Event) error {
	err := who.CheckSomewhere(p)
	if err != nil {
		l.Denied(ctx, who, e)
	}
	return err
}

// Filter selects events. Empty fields select all.
type Filter struct {
	Action  string // such as "credential.create"; "credential." and the like select by beginning
	Caller  string // id
	Object  string
	Outcome string // Done, Denied or Failed

	Since time.Time // at or after
	Until time.Time // before
}

// List returns the newest events first, at most limit of them (0 means 100, at most 1,000),
// of the divisions in which who may read the audit trail. Events that belong to no division
// are for those who may read it everywhere. The cursor is "" or Next of the page before.
//
// Errors are of code Forbidden or, for a cursor that is not ours, Malformed.
func (l *Log) List(ctx context.Context, who Caller, f Filter, cursor string, limit int) (grantway.Page[grantway.Event], error) {
	var page grantway.Page[grantway.Event]
	if err := l.RequireSomewhere(ctx, who, ReadAudit, grantway.Event{Action: "audit.list"}); err != nil {
		return page, err
	}
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	before, after := "w", "" // "w" sorts after every id
	if !f.Until.IsZero() {
		before = firstID(f.Until)
	}
	if !f.Since.IsZero() {
		after = firstID(f.Since)
	}
	if cursor != "" {
		if b, err := idEncoding.DecodeString(cursor); err != nil || len(b) != idBytes {
			return page, grantway.Errorf(grantway.Malformed, "the cursor is not one that this hub gave out")
		}
		before = min(before, cursor)
	}

	page.Items = []grantway.Event{}
	divisions, everywhere := who.Divisions(ReadAudit)
	if everywhere {
		divisions = []string{Everywhere}
	}
	for _, d := range divisions {
		events, err := l.list(ctx, f, d, after, before, limit+1)
		if err != nil {
			return page, fmt.Errorf("audit trail: %w", err)
		}
		page.Items = append(page.Items, events...)
	}
	slices.SortFunc(page.Items, func(a, b grantway.Event) int { return strings.Compare(b.ID, a.ID) })
	if len(page.Items) > limit {
		page.Items = page.Items[:limit]
		page.Next = page.Items[limit-1].ID
	}
	return page, nil
}

// list returns the newest events of one division, or of all, with after <= id < before.
func (l *Log) list(ctx context.Context, f Filter, division, after, before string, limit int) ([]grantway.Event, error) {
	prefix := ""
	if strings.HasSuffix(f.Action, ".") {
		f.Action, prefix = "", f.Action
	}
	rows, err := l.store.Read().QueryContext(ctx, `
		SELECT id, at, caller, caller_name, action, outcome, object, division, fields, detail
		FROM audit
		WHERE id >= $1 AND id < $2
		  AND ($3 = '*' OR division = $3)
		  AND ($4 = '' OR action = $4)
		  AND ($5 = '' OR substr(action, 1, length($5)) = $5)
		  AND ($6 = '' OR caller = $6)
		  AND ($7 = '' OR object = $7)
		  AND ($8 = '' OR outcome = $8)
		ORDER BY id DESC LIMIT $9`,
		after, before, division, f.Action, prefix, f.Caller, f.Object, f.Outcome, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []grantway.Event
	for rows.Next() {
		var e grantway.Event
		var at int64
		var fields string
		if err := rows.Scan(&e.ID, &at, &e.Caller, &e.Name, &e.Action, &e.Outcome, &e.Object, &e.Division, &fields, &e.Detail); err != nil {
			return nil, err
		}
		e.At = time.UnixMilli(at).UTC()
		if fields != "" {
			if err := json.Unmarshal([]byte(fields), &e.Fields); err != nil {
				return nil, fmt.Errorf("event %s: %w", e.ID, err)
			}
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// An id is 7 bytes of microseconds since 1970 and 9 random ones, in an alphabet that sorts
// like the bytes: ids sort by time, and two replicas never make the same.
const idBytes = 16

var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func newID(t time.Time) string {
	b := idTime(t)
	rand.Read(b[7:])
	return idEncoding.EncodeToString(b[:])
}

// firstID is not after any id made at or after t.
func firstID(t time.Time) string {
	b := idTime(t)
	return idEncoding.EncodeToString(b[:])
}

func idTime(t time.Time) (b [idBytes]byte) {
	binary.BigEndian.PutUint64(b[:], uint64(max(t.UnixMicro(), 0))<<8)
	return b
}
