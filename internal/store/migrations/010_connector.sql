-- +goose Up

-- The connectors that people made or imported. Those that come with the program are not here.
CREATE TABLE connector (
    name       TEXT   NOT NULL PRIMARY KEY,
    revision   BIGINT NOT NULL, -- goes up with every save of any of its versions
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Its versions, from 1 on. The newest is the one that is edited.
CREATE TABLE connector_version (
    name       TEXT   NOT NULL REFERENCES connector (name) ON DELETE CASCADE,
    version    BIGINT NOT NULL,
    definition TEXT   NOT NULL, -- YAML as it was written
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

ALTER TABLE credential ADD COLUMN connector_version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE credential ADD COLUMN rate_limit TEXT NOT NULL DEFAULT ''; -- JSON of grantway.RateLimit; '': that of the connector
ALTER TABLE credential ADD COLUMN time_zone TEXT NOT NULL DEFAULT '';  -- such as Europe/Paris; '': UTC

CREATE INDEX credential_connector ON credential (connector);

-- +goose Down
DROP INDEX credential_connector;
ALTER TABLE credential DROP COLUMN time_zone;
ALTER TABLE credential DROP COLUMN rate_limit;
ALTER TABLE credential DROP COLUMN connector_version;
DROP TABLE connector_version;
DROP TABLE connector;
