-- Keys that other systems made, session tokens, legacy accounts of workspaces.

-- How the digest beside it was made: b3, sha256 or bcrypt.
ALTER TABLE api_keys ADD COLUMN current_alg TEXT NOT NULL DEFAULT 'b3';
ALTER TABLE api_keys ADD COLUMN previous_alg TEXT;
-- Whose spelling the key came with: native, opaque or zenml.
ALTER TABLE api_keys ADD COLUMN style TEXT NOT NULL DEFAULT 'native';
-- A rendering names its key by the uid, so no two keys may ever share one.
CREATE UNIQUE INDEX api_keys_by_uid ON api_keys (uid);

-- SHA-256 of every text that was ever imported as a key. Rows stay when their key is deleted: a
-- deleted key does not come back by being imported again.
CREATE TABLE imported_texts (
    digest  TEXT PRIMARY KEY NOT NULL,
    key_id  TEXT NOT NULL REFERENCES api_keys (id)
);

-- The workspace that a service account belongs to, where it is no account of the whole
-- organization: such accounts come from elsewhere and are never made here.
ALTER TABLE service_accounts ADD COLUMN legacy_workspace_id TEXT REFERENCES resources (id);

-- Accounts that take over what a workspace's own account of the same name has, at their first login
-- to that workspace.
CREATE TABLE takeovers (
    legacy_id     TEXT PRIMARY KEY NOT NULL REFERENCES service_accounts (id),
    account_id    TEXT NOT NULL REFERENCES service_accounts (id),
    workspace_id  TEXT NOT NULL REFERENCES resources (id),
    due_ms        BIGINT NOT NULL,
    done_ms       BIGINT
);
CREATE INDEX takeovers_by_account ON takeovers (account_id, workspace_id);
