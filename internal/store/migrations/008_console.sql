-- +goose Up

-- What people look for a credential by; the broker writes both with the inputs.
ALTER TABLE credential ADD COLUMN token_host TEXT NOT NULL DEFAULT ''; -- host of the token endpoint
ALTER TABLE credential ADD COLUMN words TEXT NOT NULL DEFAULT '';      -- name, description and plain inputs in lower case; '': not filled in yet

CREATE INDEX token_read_credential ON token_read (credential_id, minute);

-- How the token requests of a credential went, by Unix minute.
CREATE TABLE token_fetch (
    credential_id TEXT   NOT NULL REFERENCES credential (id) ON DELETE CASCADE,
    minute        BIGINT NOT NULL,
    worked        BIGINT NOT NULL,
    failed        BIGINT NOT NULL,
    failure       TEXT   NOT NULL, -- JSON of grantway.Failure, the last one of the minute; '': none
    PRIMARY KEY (credential_id, minute)
);

-- The processes that serve this hub; each says every few seconds that it is alive.
CREATE TABLE replica (
    name    TEXT   NOT NULL PRIMARY KEY,
    version TEXT   NOT NULL,
    started BIGINT NOT NULL,
    seen    BIGINT NOT NULL
);

-- +goose Down
DROP TABLE replica;
DROP TABLE token_fetch;
DROP INDEX token_read_credential;
ALTER TABLE credential DROP COLUMN words;
ALTER TABLE credential DROP COLUMN token_host;
