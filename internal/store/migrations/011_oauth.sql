-- +goose Up

ALTER TABLE client ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';     -- JSON of grantway.ClientSettings, without what has a column
ALTER TABLE client ADD COLUMN tokens_after BIGINT NOT NULL DEFAULT 0; -- goes up when all tokens are revoked; each says what it was
ALTER TABLE client ADD COLUMN deleted_at BIGINT NOT NULL DEFAULT 0;   -- 0: not; else name_key is the id, and the row goes some days later
ALTER TABLE client ADD COLUMN deleted_roles TEXT NOT NULL DEFAULT '';  -- JSON; its roles while it is deleted, which hold no division
ALTER TABLE client_secret ADD COLUMN sealed BYTEA;                     -- the secret itself, for client_secret_jwt only

ALTER TABLE client_credential ADD COLUMN endpoints TEXT NOT NULL DEFAULT '[]'; -- JSON list; via may be endpoint as well

-- What binds a token, beyond its client.
ALTER TABLE access_token ADD COLUMN person_id TEXT NOT NULL DEFAULT ''; -- who allowed it; '': nobody, the client acts for itself
ALTER TABLE access_token ADD COLUMN binding TEXT NOT NULL DEFAULT '';   -- thumbprint of the key it is bound to: "jkt …" or "x5t …"
ALTER TABLE access_token ADD COLUMN resource TEXT NOT NULL DEFAULT '';  -- which other API it is for; '': this one
ALTER TABLE access_token ADD COLUMN family TEXT NOT NULL DEFAULT '';    -- of refresh tokens it comes from

CREATE INDEX access_token_family ON access_token (family) WHERE family <> '';

-- The keys that JWTs are signed with, and that opaque tokens are sealed with.
CREATE TABLE signing_key (
    kid        TEXT   NOT NULL PRIMARY KEY,
    alg        TEXT   NOT NULL,
    sealed     BYTEA  NOT NULL, -- PKCS #8, or the bytes of a key of opaque tokens
    created_at BIGINT NOT NULL, -- published since
    signs_from BIGINT NOT NULL
);

-- Tokens that were revoked before they expire, and families of them.
CREATE TABLE revoked_token (
    jti        TEXT   NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE INDEX revoked_token_expires ON revoked_token (expires_at);

-- What may be used once and has been: the jti of assertions and of DPoP proofs, hashed
-- together with whose they are.
CREATE TABLE used_once (
    hash       TEXT   NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE INDEX used_once_expires ON used_once (expires_at);

-- Codes of the authorization code grant. A code that was used stays until it expires, so that
-- a second use is noticed.
CREATE TABLE authorization_code (
    hash         TEXT   NOT NULL PRIMARY KEY, -- keyed, see issuer_state
    client_id    TEXT   NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    person_id    TEXT   NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    redirect_uri TEXT   NOT NULL,
    challenge    TEXT   NOT NULL, -- PKCE, S256
    scope        TEXT   NOT NULL,
    resource     TEXT   NOT NULL,
    binding      TEXT   NOT NULL, -- "jkt …": the key the code is bound to (RFC 9449 section 10)
    family       TEXT   NOT NULL, -- of what it was exchanged for; '': not used yet
    expires_at   BIGINT NOT NULL
);

CREATE INDEX authorization_code_expires ON authorization_code (expires_at);

-- Refresh tokens. Each is good once; a family goes back to one consent, and ends as a whole
-- when one of it comes twice.
CREATE TABLE refresh_token (
    hash       TEXT   NOT NULL PRIMARY KEY, -- keyed, see issuer_state
    family     TEXT   NOT NULL,
    client_id  TEXT   NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    person_id  TEXT   NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    scope      TEXT   NOT NULL,
    resource   TEXT   NOT NULL,
    binding    TEXT   NOT NULL,
    used_at    BIGINT NOT NULL, -- 0: not yet
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX refresh_token_family ON refresh_token (family);
CREATE INDEX refresh_token_expires ON refresh_token (expires_at);

-- What people have allowed a client.
CREATE TABLE consent (
    person_id  TEXT   NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    client_id  TEXT   NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    scope      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (person_id, client_id)
);

-- What a client did, by Unix hour. All replicas add to it.
CREATE TABLE client_use (
    client_id TEXT   NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    hour      BIGINT NOT NULL,
    tokens    BIGINT NOT NULL,
    calls     BIGINT NOT NULL,
    failures  BIGINT NOT NULL,
    last      BIGINT NOT NULL, -- Unix milliseconds of the last token or call; 0: none in this hour
    PRIMARY KEY (client_id, hour)
);

-- +goose Down
DROP TABLE client_use;
DROP TABLE consent;
DROP TABLE refresh_token;
DROP TABLE authorization_code;
DROP TABLE used_once;
DROP TABLE revoked_token;
DROP TABLE signing_key;
DROP INDEX access_token_family;
ALTER TABLE access_token DROP COLUMN family;
ALTER TABLE access_token DROP COLUMN resource;
ALTER TABLE access_token DROP COLUMN binding;
ALTER TABLE access_token DROP COLUMN person_id;
ALTER TABLE client_credential DROP COLUMN endpoints;
ALTER TABLE client_secret DROP COLUMN sealed;
ALTER TABLE client DROP COLUMN deleted_roles;
ALTER TABLE client DROP COLUMN deleted_at;
ALTER TABLE client DROP COLUMN tokens_after;
ALTER TABLE client DROP COLUMN settings;
