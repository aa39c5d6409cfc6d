-- +goose Up

-- Somebody who signs in to the console: with a password, by way of the OpenID provider, or
-- both. Who has neither yet has been invited.
CREATE TABLE person (
    id           TEXT    NOT NULL PRIMARY KEY,
    email        TEXT    NOT NULL,
    email_key    TEXT    NOT NULL UNIQUE, -- email in lower case
    name         TEXT    NOT NULL,
    active       BOOLEAN NOT NULL,
    password     BYTEA   NOT NULL, -- sealed argon2id hash; empty: none
    issuer       TEXT    NOT NULL, -- of the OpenID provider, and
    subject      TEXT    NOT NULL, -- whom it knows the person as; '': never signed in that way
    created_at   BIGINT  NOT NULL,
    last_sign_in BIGINT  NOT NULL -- 0: never
);

CREATE UNIQUE INDEX person_subject ON person (issuer, subject) WHERE subject <> '';

-- The roles of a person. No division means all divisions, those to come included.
CREATE TABLE person_role (
    person_id TEXT NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    role      TEXT NOT NULL,
    division  TEXT REFERENCES division (name)
);

CREATE UNIQUE INDEX person_role_once ON person_role (person_id, role, coalesce(division, '*'));
CREATE INDEX person_role_division ON person_role (division);

-- Links that were handed out and not used yet: each lets its person choose a password. One
-- without a person makes the first account of the hub.
CREATE TABLE person_link (
    hash       TEXT   NOT NULL PRIMARY KEY, -- keyed, see access_state
    person_id  TEXT   REFERENCES person (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL
);

-- The browsers in which people are signed in.
CREATE TABLE person_session (
    hash         TEXT   NOT NULL PRIMARY KEY, -- keyed, see access_state
    id           TEXT   NOT NULL UNIQUE,
    person_id    TEXT   NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    method       TEXT   NOT NULL, -- password or single_sign_on
    from_address TEXT   NOT NULL,
    user_agent   TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    seen_at      BIGINT NOT NULL, -- to the minute
    expires_at   BIGINT NOT NULL
);

CREATE INDEX person_session_person ON person_session (person_id);
CREATE INDEX person_session_expires ON person_session (expires_at);

-- Where single sign-on goes: one row, or none.
CREATE TABLE sso (
    id            TEXT  NOT NULL PRIMARY KEY, -- 'sso'
    settings      TEXT  NOT NULL, -- JSON of grantway.SingleSignOn, without the secret
    client_secret BYTEA NOT NULL  -- sealed; empty: none
);

-- What access keeps one of: "hash_key", sealed, under which links and sessions are hashed.
CREATE TABLE access_state (
    name  TEXT  NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

-- +goose Down
DROP TABLE access_state;
DROP TABLE sso;
DROP TABLE person_session;
DROP TABLE person_link;
DROP TABLE person_role;
DROP TABLE person;
