-- +goose Up

-- One row per topic that something changed in. version goes up by one with every
-- transaction that changed something, so that a replica which missed a notification
-- finds out by comparing numbers.
CREATE TABLE change (
    topic   TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);
