package broker

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/tokencache"
)

// What a token request can end in, for the metrics.
const (
	outcomeOK = iota
	outcomePermanent
	outcomeTemporary
	outcomeThrottled
	outcomes
)

var outcomeNames = [outcomes]string{"ok", "permanent", "temporary", "throttled"}

func (u *usage) count(err error) {
	var counter *atomic.Int64
	switch classOf(err) {
	case "":
		counter = &u.fetches[outcomeOK]
	case grant.Permanent:
		counter = &u.fetches[outcomePermanent]
	case grant.Throttled:
		counter = &u.fetches[outcomeThrottled]
	default:
		counter = &u.fetches[outcomeTemporary]
	}
	counter.Add(1)
}

func classOf(err error) grant.Class {
	var e *grant.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Class
	}
	return grant.Temporary
}

// How long a failure holds for every replica, unless the provider said when to come back.
const (
	holdTemporary = time.Second
	holdPermanent = time.Minute
	holdAtMost    = time.Hour
)

// describe turns a failed token request into what is stored and shown, and says until when
// no replica should repeat it.
func describe(err error, now time.Time) (f grantway.Failure, retry time.Time) {
	f = grantway.Failure{At: now.UTC().Truncate(time.Millisecond), Class: string(classOf(err)), Stage: string(grant.StagePrepare), Message: err.Error()}
	retry = now.Add(holdTemporary)
	var e *grant.Error
	switch {
	case errors.As(err, new(*secretError)):
		f.Hint, retry = secret.Hint(err), now
	case errors.As(err, &e):
		f.Stage, f.Code, f.Message, f.Hint = string(e.Stage), e.Code, e.Error(), hint(e, nil)
		switch {
		case e.RetryAt.After(now):
			retry = e.RetryAt
		case e.Class == grant.Permanent:
			retry = now.Add(holdPermanent)
		}
	}
	if latest := now.Add(holdAtMost); retry.After(latest) {
		retry = latest
	}
	return f, retry
}

// sharedFailure is a failed token request as the other replicas read it.
type sharedFailure struct {
	Stage       grant.Stage `json:"stage"`
	Class       grant.Class `json:"class"`
	Status      int         `json:"status,omitempty"`
	Code        string      `json:"code,omitempty"`
	Description string      `json:"description,omitempty"`
	Message     string      `json:"message,omitempty"`
}

func encodeFailure(f grantway.Failure, cause error) ([]byte, error) {
	s := sharedFailure{Stage: grant.Stage(f.Stage), Class: grant.Class(f.Class), Message: f.Message}
	var e *grant.Error
	if errors.As(cause, &e) {
		s = sharedFailure{e.Stage, e.Class, e.Status, e.Code, e.Description, e.Message}
	}
	return json.Marshal(s)
}

// decodeFailure gives back a failure that another replica stored, and which holds until retry.
func decodeFailure(text string, retry time.Time) error {
	var s sharedFailure
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("stored failure: %w", err)
	}
	return &grant.Error{Stage: s.Stage, Class: s.Class, Status: s.Status, Code: s.Code, Description: s.Description, Message: s.Message, RetryAt: retry}
}

// tokenError says to a caller why there is no token.
func tokenError(h *head, err error) error {
	e := &grantway.Error{Code: grantway.Unavailable, Err: err}
	var backOff *tokencache.Error
	if errors.As(err, &backOff) {
		e.RetryAt = backOff.NextTry
	}
	var known *grantway.Error
	var failed *grant.Error
	switch {
	case errors.As(err, &known):
		e.Code, e.Message, e.Fields = known.Code, known.Message, known.Fields
		if !known.RetryAt.IsZero() {
			e.RetryAt = known.RetryAt
		}
		if known.Code == grantway.NotFound { // a key in a secret store, not something of the request
			e.Code = grantway.Unavailable
		}
	case errors.As(err, &failed):
		e.Message = failed.Error()
		if hint := hint(failed, nil); hint != "" {
			e.Message += ". " + hint
		}
		if failed.Class == grant.Permanent {
			e.Code = grantway.TokenRefused
		}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Message = "the token did not come in time"
	case errors.Is(err, errSuperseded):
		e.Message = "it is being changed; try again"
	default:
		return fmt.Errorf("credential %s: %w", h.name, err)
	}
	e.Message = "credential " + h.name + ": " + e.Message
	return e
}

// noteSuccess and noteFailure keep the health of a credential.
func (b *Broker) noteSuccess(ctx context.Context, tx *store.Tx, h *head, now time.Time) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO credential_health (credential_id, version, last_success, last_failure, failing, next_try)
		VALUES ($1, $2, $3, '', FALSE, 0)
		ON CONFLICT (credential_id) DO UPDATE SET version = $2, last_success = $3, failing = FALSE, next_try = 0`,
		h.id, h.version, now.UnixMilli())
	return err
}

// blames tells whether a failed request for the token of l says something about the
// credential itself, and not only about the scope or audience that a caller asked for.
func blames(h *head, l *lending, cause error) bool {
	var e *grant.Error
	return l.key == rowKey(l.b.key(h, "")) || !errors.As(cause, &e) || e.Code != "invalid_scope" && e.Code != "invalid_target"
}

func (b *Broker) noteFailure(ctx context.Context, tx *store.Tx, h *head, failure string, retry time.Time) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO credential_health (credential_id, version, last_success, last_failure, failing, next_try)
		VALUES ($1, $2, 0, $3, TRUE, $4)
		ON CONFLICT (credential_id) DO UPDATE SET version = $2, last_failure = $3, failing = TRUE, next_try = $4`,
		h.id, h.version, failure, retry.UnixMilli())
	return err
}

// Status returns the state of a credential.
func (b *Broker) Status(ctx context.Context, who access.Caller, ref string) (grantway.Status, error) {
	h, err := b.find(ctx, who, ref, access.ReadStatus)
	if err != nil {
		return grantway.Status{}, err
	}
	row, err := b.healthOf(ctx, h)
	if err != nil {
		return grantway.Status{}, err
	}
	return row.status(b, h), nil
}

// health is a row of credential_health.
type health struct {
	version     int64
	lastSuccess time.Time
	lastFailure *grantway.Failure
	failing     bool
	nextTry     time.Time
	tokenUntil  time.Time // of the token in the table
}

// healthOf reads the health of a credential; it is zero when no token was asked for yet.
func (b *Broker) healthOf(ctx context.Context, h *head) (row health, err error) {
	var failure string
	var success, next, until int64
	err = b.Store.Read().QueryRowContext(ctx, `
		SELECT version, last_success, last_failure, failing, next_try,
		       COALESCE((SELECT expires_at FROM token WHERE cache_key = $2), 0)
		FROM credential_health WHERE credential_id = $1`, h.id, rowKey(b.key(h, ""))).
		Scan(&row.version, &success, &failure, &row.failing, &next, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return health{}, nil
	}
	if err == nil && failure != "" {
		err = json.Unmarshal([]byte(failure), &row.lastFailure)
	}
	if err != nil {
		return health{}, fmt.Errorf("health of credential %s: %w", h.name, err)
	}
	row.lastSuccess, row.nextTry, row.tokenUntil = fromMillis(success), fromMillis(next), fromMillis(until)
	return row, nil
}

// status joins what the table knows with what is in this replica's memory.
func (row health) status(b *Broker, h *head) grantway.Status {
	now := time.Now()
	s := grantway.Status{
		Credential: h.name, LastSuccess: row.lastSuccess, LastError: row.lastFailure,
		TokenExpiresAt: row.tokenUntil, SecretExpiresAt: h.secretExpiresAt,
	}
	current := row.version == h.version // else the row tells of inputs that were changed since
	if current && row.failing && row.nextTry.After(now) {
		s.NextTry = row.nextTry
	}
	state := b.cache.Peek(b.key(h, ""))
	if state.Token != nil {
		s.TokenExpiresAt, s.TokenFingerprint, s.ExpirySource = state.Token.ExpiresAt.UTC(), state.Token.Fingerprint(), state.Token.ExpirySource
	}
	if state.Failure != nil && state.Failure.NextTry.After(now) {
		s.NextTry = state.Failure.NextTry.UTC()
	}
	if !s.TokenExpiresAt.After(now) {
		s.TokenExpiresAt = time.Time{}
	}
	switch {
	case !current:
		s.Health = grantway.NotValidated
	case row.failing && !s.TokenExpiresAt.IsZero():
		s.Health = grantway.Degraded
	case row.failing:
		s.Health = grantway.Failing
	case !row.lastSuccess.IsZero():
		s.Health = grantway.Healthy
	default:
		s.Health = grantway.NotValidated
	}
	if until := h.secretExpiresAt.Sub(now); !h.secretExpiresAt.IsZero() && until < secretWarning {
		s.Warnings = append(s.Warnings, cmp.Or(map[bool]string{true: "the client secret has expired"}[until < 0],
			"the client secret expires on "+h.secretExpiresAt.Format(time.DateOnly)))
	}
	if s.ExpirySource == "default" {
		s.Warnings = append(s.Warnings, "the provider does not say how long its tokens are valid; the default lifetime is used")
	}
	return s
}

// secretWarning is how long before its expiry a client secret is worth a warning.
const secretWarning = 30 * 24 * time.Hour
