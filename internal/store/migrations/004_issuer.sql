-- +goose Up

-- A client of the hub's own authorization server (RFC 6749 section 2). id is the client_id.
CREATE TABLE client (
    id            TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    name_key      TEXT    NOT NULL UNIQUE, -- name in lower case
    description   TEXT    NOT NULL,
    active        BOOLEAN NOT NULL,
    grant_type    TEXT    NOT NULL, -- the one it may use
    auth_method   TEXT    NOT NULL, -- client_secret (by Basic or in the body), or one registered method
    token_seconds BIGINT  NOT NULL, -- lifetime of its tokens
    version       BIGINT  NOT NULL, -- goes up with every change, those of its secrets and roles too
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL
);

-- The secrets of a client; each that has not expired is good.
CREATE TABLE client_secret (
    id         TEXT   NOT NULL PRIMARY KEY,
    client_id  TEXT   NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    hash       TEXT   NOT NULL, -- keyed, see issuer_state
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL, -- 0: never
    last_used  BIGINT NOT NULL  -- 0: never; to the minute
);

CREATE INDEX client_secret_client ON client_secret (client_id);

-- The roles of a client. No division means all divisions, those to come included.
CREATE TABLE client_role (
    client_id TEXT NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    role      TEXT NOT NULL,
    division  TEXT REFERENCES division (name)
);

CREATE UNIQUE INDEX client_role_once ON client_role (client_id, role, coalesce(division, '*'));
CREATE INDEX client_role_division ON client_role (division);

-- The tokens that are live, and for some minutes those that have expired.
CREATE TABLE access_token (
    hash       TEXT   NOT NULL PRIMARY KEY, -- keyed, see issuer_state
    client_id  TEXT   NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    secret_id  TEXT   NOT NULL, -- which secret it was issued for
    scope      TEXT   NOT NULL, -- narrows the client's roles; '': does not
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX access_token_client ON access_token (client_id, expires_at);
CREATE INDEX access_token_expires ON access_token (expires_at);

-- What the issuer keeps one of: "hash_key", sealed, under which secrets and tokens are
-- hashed; "owner", which says that the first client has been made.
CREATE TABLE issuer_state (
    name  TEXT  NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

-- +goose Down
DROP TABLE issuer_state;
DROP TABLE access_token;
DROP TABLE client_role;
DROP TABLE client_secret;
DROP TABLE client;
