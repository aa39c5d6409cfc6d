-- +goose Up

-- The keyset with the data keys, once for each key-encryption key that opens it. While there
-- are several rows all hold the same keyset, so that the key-encryption key can be changed
-- replica by replica.
CREATE TABLE keyset_wrap (
    kek_id  TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL, -- goes up with every change of the keyset
    sealed  BYTEA  NOT NULL
);
