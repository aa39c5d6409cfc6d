-- +goose Up

-- The groups that objects are in and roles are held in.
CREATE TABLE division (
    name        TEXT NOT NULL PRIMARY KEY,
    name_key    TEXT NOT NULL UNIQUE, -- name in lower case
    description TEXT NOT NULL
);

INSERT INTO division (name, name_key, description) VALUES ('home', 'home', 'Where everything is that names no division');

-- Who did what, or was refused it. Rows hold names, never values; they are not changed.
-- Ids sort by time.
CREATE TABLE audit (
    id          TEXT   NOT NULL PRIMARY KEY,
    at          BIGINT NOT NULL,
    caller      TEXT   NOT NULL,
    caller_name TEXT   NOT NULL, -- at that time
    action      TEXT   NOT NULL,
    outcome     TEXT   NOT NULL, -- done, denied or failed
    object      TEXT   NOT NULL,
    division    TEXT   NOT NULL, -- '': of the hub as a whole
    fields      TEXT   NOT NULL, -- JSON list of the names of what changed, or ''
    detail      TEXT   NOT NULL
);

CREATE INDEX audit_object ON audit (object, id);

-- How often a caller read tokens of a credential in a minute, counted in Unix minutes. All
-- replicas add to it. Neither side is a foreign key: the count outlives both.
CREATE TABLE token_read (
    minute        BIGINT NOT NULL,
    caller        TEXT   NOT NULL,
    credential_id TEXT   NOT NULL,
    count         BIGINT NOT NULL,
    PRIMARY KEY (minute, caller, credential_id)
);

-- +goose Down
DROP TABLE token_read;
DROP TABLE audit;
DROP TABLE division;
