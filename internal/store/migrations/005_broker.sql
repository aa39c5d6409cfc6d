-- +goose Up

-- A credential. inputs is the public form of its inputs: the JSON of the API, in which an
-- internal secret is only a mark and an external one its reference.
CREATE TABLE credential (
    id                TEXT PRIMARY KEY,
    name              TEXT NOT NULL,
    name_key          TEXT NOT NULL UNIQUE, -- name in lower case
    description       TEXT NOT NULL,
    division          TEXT NOT NULL REFERENCES division (name),
    connector         TEXT NOT NULL,
    inputs            TEXT NOT NULL,
    secret_expires_at BIGINT NOT NULL,      -- 0: nobody said
    version           BIGINT NOT NULL,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL
);

CREATE INDEX credential_division ON credential (division);

-- The internal secrets of a credential, sealed.
CREATE TABLE credential_secret (
    credential_id TEXT NOT NULL REFERENCES credential (id) ON DELETE CASCADE,
    input         TEXT NOT NULL,
    sealed        BYTEA NOT NULL,
    PRIMARY KEY (credential_id, input)
);

-- What refers to a credential and so keeps it from being deleted.
CREATE TABLE credential_reference (
    credential_id TEXT NOT NULL REFERENCES credential (id),
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,
    PRIMARY KEY (credential_id, kind, name)
);

-- How the token requests of a credential went.
CREATE TABLE credential_health (
    credential_id TEXT PRIMARY KEY REFERENCES credential (id) ON DELETE CASCADE,
    version       BIGINT NOT NULL, -- of the credential, at the last request
    last_success  BIGINT NOT NULL, -- 0: never
    last_failure  TEXT NOT NULL,   -- JSON of grantway.Failure, '' : never
    failing       BOOLEAN NOT NULL,
    next_try      BIGINT NOT NULL  -- 0: nothing holds the next request back
);

-- One row per cache key: the sealed token, who is fetching the next one, and how the last
-- fetch failed. Replicas agree through this row on who asks the provider.
CREATE TABLE token (
    cache_key     TEXT PRIMARY KEY,
    credential_id TEXT NOT NULL REFERENCES credential (id) ON DELETE CASCADE,
    sealed        BYTEA,
    fingerprint   TEXT NOT NULL,
    expires_at    BIGINT NOT NULL, -- of the token
    holder        TEXT NOT NULL,   -- who has the lease
    lease_until   BIGINT NOT NULL,
    failure       TEXT NOT NULL,   -- JSON of the shared failure, '' : the last fetch worked
    retry_at      BIGINT NOT NULL  -- until then the failure holds for every replica
);

CREATE INDEX token_credential ON token (credential_id);
CREATE INDEX token_expires ON token (expires_at);

-- Creates that may be repeated. digest is sealed: it is computed over secrets too.
CREATE TABLE idempotency (
    caller        TEXT NOT NULL,
    idem_key      TEXT NOT NULL,
    digest        BYTEA NOT NULL,
    credential_id TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    PRIMARY KEY (caller, idem_key)
);

-- +goose Down
DROP TABLE idempotency;
DROP TABLE token;
DROP TABLE credential_health;
DROP TABLE credential_reference;
DROP TABLE credential_secret;
DROP TABLE credential;
