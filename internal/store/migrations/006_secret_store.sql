-- +goose Up

-- A secret store that was added; env and file are always there and have no row. inputs is the
-- JSON of the API, in which an internal secret is only a mark and an external one its reference.
CREATE TABLE secret_store (
    name        TEXT   NOT NULL PRIMARY KEY,
    name_key    TEXT   NOT NULL UNIQUE, -- name in lower case
    kind        TEXT   NOT NULL,
    description TEXT   NOT NULL,
    inputs      TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);

-- The secrets a store signs in with, sealed. What is kept in the store is nowhere here.
CREATE TABLE secret_store_secret (
    store  TEXT  NOT NULL REFERENCES secret_store (name) ON DELETE CASCADE,
    input  TEXT  NOT NULL,
    sealed BYTEA NOT NULL,
    PRIMARY KEY (store, input)
);

-- +goose Down
DROP TABLE secret_store_secret;
DROP TABLE secret_store;
