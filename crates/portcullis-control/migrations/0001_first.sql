-- The control plane's first schema. Plain types only, so that PostgreSQL takes the same text:
-- ids and enums are TEXT, instants are BIGINT milliseconds since 1970, JSON is TEXT.

CREATE TABLE installation (
    name        TEXT PRIMARY KEY NOT NULL,
    value       TEXT NOT NULL
);

-- Keys that belong to no organization: the operator's and the gateways'.
CREATE TABLE installation_keys (
    id          TEXT PRIMARY KEY NOT NULL,
    purpose     TEXT NOT NULL,
    pepper      BIGINT NOT NULL,
    digest      TEXT NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE organizations (
    id                   TEXT PRIMARY KEY NOT NULL,
    name                 TEXT NOT NULL,
    profile              TEXT NOT NULL,
    policy               TEXT NOT NULL,
    plan                 TEXT NOT NULL,
    allows_accounts      BOOLEAN NOT NULL,
    state                TEXT NOT NULL,
    root_resource_id     TEXT NOT NULL,
    created_ms           BIGINT NOT NULL,
    updated_ms           BIGINT NOT NULL,
    version              BIGINT NOT NULL
);

CREATE TABLE resources (
    id          TEXT PRIMARY KEY NOT NULL,
    org_id      TEXT NOT NULL REFERENCES organizations (id),
    parent_id   TEXT REFERENCES resources (id),
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    ref         TEXT NOT NULL,
    state       TEXT NOT NULL,
    created_ms  BIGINT NOT NULL,
    updated_ms  BIGINT NOT NULL,
    version     BIGINT NOT NULL,
    UNIQUE (org_id, kind, ref)
);
CREATE INDEX resources_by_org ON resources (org_id, created_ms, id);
CREATE INDEX resources_by_parent ON resources (parent_id);

CREATE TABLE users (
    id            TEXT PRIMARY KEY NOT NULL,
    org_id        TEXT NOT NULL REFERENCES organizations (id),
    username      TEXT NOT NULL,
    username_key  TEXT NOT NULL,
    email         TEXT,
    state         TEXT NOT NULL,
    created_ms    BIGINT NOT NULL,
    updated_ms    BIGINT NOT NULL,
    version       BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_by_username ON users (org_id, username_key) WHERE state = 'active';

CREATE TABLE service_accounts (
    id              TEXT PRIMARY KEY NOT NULL,
    org_id          TEXT NOT NULL REFERENCES organizations (id),
    username        TEXT NOT NULL,
    username_key    TEXT NOT NULL,
    display_name    TEXT NOT NULL,
    description     TEXT,
    owning_team     TEXT,
    avatar_url      TEXT,
    state           TEXT NOT NULL,
    author          TEXT NOT NULL,
    managed_by      TEXT NOT NULL,
    external_refs   TEXT NOT NULL,
    last_used_ms    BIGINT,
    last_login_ms   BIGINT,
    deactivated_ms  BIGINT,
    deactivated_by  TEXT,
    revoked_ms      BIGINT,
    revoked_by      TEXT,
    deleted_ms      BIGINT,
    deleted_by      TEXT,
    created_ms      BIGINT NOT NULL,
    updated_ms      BIGINT NOT NULL,
    version         BIGINT NOT NULL
);
CREATE UNIQUE INDEX service_accounts_by_username
    ON service_accounts (org_id, username_key) WHERE state <> 'deleted';
CREATE INDEX service_accounts_by_org ON service_accounts (org_id, created_ms, id);

CREATE TABLE api_keys (
    id                   TEXT PRIMARY KEY NOT NULL,
    uid                  TEXT NOT NULL,
    org_id               TEXT NOT NULL REFERENCES organizations (id),
    owner_kind           TEXT NOT NULL,
    owner_id             TEXT NOT NULL,
    name                 TEXT NOT NULL,
    description          TEXT,
    state                TEXT NOT NULL,
    expires_ms           BIGINT,
    generation           BIGINT NOT NULL,
    prefix               TEXT NOT NULL,
    last4                TEXT NOT NULL,
    current_pepper       BIGINT NOT NULL,
    current_digest       TEXT NOT NULL,
    current_created_ms   BIGINT NOT NULL,
    previous_pepper      BIGINT,
    previous_digest      TEXT,
    previous_created_ms  BIGINT,
    retained_until_ms    BIGINT,
    restriction          TEXT,
    created_by           TEXT NOT NULL,
    created_ms           BIGINT NOT NULL,
    updated_ms           BIGINT NOT NULL,
    last_used_ms         BIGINT,
    last_used_ip         TEXT,
    last_login_ms        BIGINT,
    last_rotated_ms      BIGINT,
    use_count            BIGINT NOT NULL,
    version              BIGINT NOT NULL
);
CREATE UNIQUE INDEX api_keys_by_name ON api_keys (owner_id, name) WHERE state <> 'deleted';
CREATE INDEX api_keys_by_owner ON api_keys (owner_id, created_ms, id);
CREATE INDEX api_keys_by_org ON api_keys (org_id, created_ms, id);

CREATE TABLE role_bindings (
    id            TEXT PRIMARY KEY NOT NULL,
    org_id        TEXT NOT NULL REFERENCES organizations (id),
    role_id       TEXT NOT NULL,
    subject_kind  TEXT NOT NULL,
    subject_id    TEXT NOT NULL,
    resource_id   TEXT NOT NULL REFERENCES resources (id),
    propagate     BOOLEAN NOT NULL,
    managed_by    TEXT NOT NULL,
    created_by    TEXT NOT NULL,
    created_ms    BIGINT NOT NULL,
    updated_ms    BIGINT NOT NULL,
    version       BIGINT NOT NULL,
    UNIQUE (subject_id, resource_id, role_id)
);
CREATE INDEX role_bindings_by_org ON role_bindings (org_id, created_ms, id);
CREATE INDEX role_bindings_by_resource ON role_bindings (resource_id);

-- One hash chain per organization; the installation's own chain has the organization id ''.
CREATE TABLE audit_events (
    org_id        TEXT NOT NULL,
    seq           BIGINT NOT NULL,
    id            TEXT NOT NULL UNIQUE,
    at_ms         BIGINT NOT NULL,
    actor_kind    TEXT NOT NULL,
    actor_id      TEXT NOT NULL,
    actor_name    TEXT NOT NULL,
    actor_key_id  TEXT,
    actor_state   TEXT NOT NULL,
    action        TEXT NOT NULL,
    target_kind   TEXT NOT NULL,
    target_id     TEXT NOT NULL,
    target_name   TEXT NOT NULL,
    resource_id   TEXT,
    outcome       TEXT NOT NULL,
    reason        TEXT,
    ip            TEXT,
    user_agent    TEXT,
    request_id    TEXT,
    before_json   TEXT,
    after_json    TEXT,
    prev_hash     TEXT NOT NULL,
    hash          TEXT NOT NULL,
    PRIMARY KEY (org_id, seq)
);
CREATE INDEX audit_events_by_target ON audit_events (org_id, target_id, seq);
CREATE INDEX audit_events_by_actor ON audit_events (org_id, actor_id, seq);

-- The newest committed position, the digest of all feed records and their number: one row.
CREATE TABLE feed_state (
    id       BIGINT PRIMARY KEY NOT NULL CHECK (id = 1),
    epoch    BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    digest   TEXT NOT NULL,
    records  BIGINT NOT NULL
);

-- What a snapshot contains, as gateways see it.
CREATE TABLE feed_records (
    kind    TEXT NOT NULL,
    id      TEXT NOT NULL,
    record  TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);

-- One signed line per committed transaction; `seq` has no gaps.
CREATE TABLE changes (
    epoch   BIGINT NOT NULL,
    seq     BIGINT NOT NULL,
    org_id  TEXT NOT NULL,
    line    TEXT NOT NULL,
    PRIMARY KEY (epoch, seq)
);

CREATE TABLE gateways (
    id             TEXT PRIMARY KEY NOT NULL,
    build          TEXT,
    first_seen_ms  BIGINT NOT NULL,
    last_seen_ms   BIGINT NOT NULL,
    epoch          BIGINT NOT NULL,
    applied_seq    BIGINT NOT NULL,
    fence_ms       BIGINT,
    removed_ms     BIGINT
);
