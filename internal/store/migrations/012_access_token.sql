-- +goose Up

-- The tokens that are live, and for some minutes those that have expired. Rows that come and go
-- together lie together, see the issuer. Those of before are not kept: their clients ask again.
DROP TABLE access_token;
CREATE TABLE access_token (
    expires_at BIGINT NOT NULL,
    hash       TEXT   NOT NULL, -- keyed, see issuer_state
    client_id  TEXT   NOT NULL, -- a token does not outlive its client, for it is not looked up without it
    secret_id  TEXT   NOT NULL, -- which secret it was issued for
    scope      TEXT   NOT NULL, -- narrows what the holder may do; '': does not
    person_id  TEXT   NOT NULL, -- who allowed it; '': nobody, the client acts for itself
    binding    TEXT   NOT NULL, -- thumbprint of the key it is bound to: "jkt …" or "x5t …"
    resource   TEXT   NOT NULL, -- which other API it is for; '': this one
    family     TEXT   NOT NULL, -- of refresh tokens it comes from
    issued_at  BIGINT NOT NULL,
    PRIMARY KEY (expires_at, hash)
);

CREATE INDEX access_token_family ON access_token (family) WHERE family <> '';

-- +goose Down
DROP TABLE access_token;
CREATE TABLE access_token (
    hash       TEXT   NOT NULL PRIMARY KEY,
    client_id  TEXT   NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    secret_id  TEXT   NOT NULL,
    scope      TEXT   NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    person_id  TEXT   NOT NULL DEFAULT '',
    binding    TEXT   NOT NULL DEFAULT '',
    resource   TEXT   NOT NULL DEFAULT '',
    family     TEXT   NOT NULL DEFAULT ''
);

CREATE INDEX access_token_client ON access_token (client_id, expires_at);
CREATE INDEX access_token_expires ON access_token (expires_at);
CREATE INDEX access_token_family ON access_token (family) WHERE family <> '';
