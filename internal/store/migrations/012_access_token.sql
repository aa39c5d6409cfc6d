-- +goose Up

-- Access tokens have no rows any more, neither opaque ones, which a key in signing_key seals, nor JWTs. Opaque ones of
-- before are not kept: their clients ask again.
DROP TABLE access_token;

-- +goose Down
DELETE FROM signing_key WHERE alg = 'AES256_CTR_HMAC_SHA256';
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
