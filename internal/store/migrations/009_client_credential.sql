-- +goose Up

-- The credentials that a client may use, and how; a client without rows may use those that its
-- roles allow. A credential that is deleted leaves its row, which then allows nothing: without
-- it the client could get at more than before.
CREATE TABLE client_credential (
    client_id     TEXT   NOT NULL REFERENCES client (id) ON DELETE CASCADE,
    position      BIGINT NOT NULL, -- in the client's list
    credential_id TEXT   NOT NULL,
    via           TEXT   NOT NULL, -- token or proxy, see grantway.CredentialUse
    methods       TEXT   NOT NULL, -- JSON list
    paths         TEXT   NOT NULL, -- JSON list
    PRIMARY KEY (client_id, position)
);

-- +goose Down
DROP TABLE client_credential;
