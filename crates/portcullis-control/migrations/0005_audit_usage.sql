-- Usage of keys as gateways and the admin API report it.
--
-- Last use and counts are observations, not changes: they leave versions alone.

ALTER TABLE api_keys ADD COLUMN denied_count BIGINT NOT NULL DEFAULT 0;
-- When each of the two secrets was last proven.
ALTER TABLE api_keys ADD COLUMN current_used_ms BIGINT;
ALTER TABLE api_keys ADD COLUMN previous_used_ms BIGINT;
-- After how long without use the replaced secret goes before its retention is over.
ALTER TABLE api_keys ADD COLUMN retire_quiet_ms BIGINT;
CREATE INDEX api_keys_to_retire ON api_keys (retained_until_ms) WHERE retire_quiet_ms IS NOT NULL;

ALTER TABLE service_accounts ADD COLUMN last_used_ip TEXT;
ALTER TABLE service_accounts ADD COLUMN use_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE service_accounts ADD COLUMN denied_count BIGINT NOT NULL DEFAULT 0;

-- Per key and UTC day; `day` counts from 1970-01-01.
CREATE TABLE usage_daily (
    key_id    TEXT NOT NULL,
    day       BIGINT NOT NULL,
    org_id    TEXT NOT NULL,
    owner_id  TEXT NOT NULL,
    calls     BIGINT NOT NULL,
    denied    BIGINT NOT NULL,
    last_ip   TEXT,
    last_ms   BIGINT NOT NULL,
    PRIMARY KEY (key_id, day)
);
CREATE INDEX usage_daily_by_owner ON usage_daily (owner_id, day);
CREATE INDEX usage_daily_by_day ON usage_daily (day);

CREATE TABLE org_usage_daily (
    org_id    TEXT NOT NULL,
    day       BIGINT NOT NULL,
    calls     BIGINT NOT NULL,
    denied    BIGINT NOT NULL,
    PRIMARY KEY (org_id, day)
);

-- Bodies that were counted, so that one which is sent again is not.
CREATE TABLE usage_reports (
    id        TEXT PRIMARY KEY NOT NULL,
    taken_ms  BIGINT NOT NULL
);
CREATE INDEX usage_reports_by_age ON usage_reports (taken_ms);

-- Signed heads of the audit log's chains.
CREATE TABLE audit_checkpoints (
    org_id      TEXT NOT NULL,
    seq         BIGINT NOT NULL,
    at_ms       BIGINT NOT NULL,
    hash        TEXT NOT NULL,
    public_key  TEXT NOT NULL,
    signature   TEXT NOT NULL,
    PRIMARY KEY (org_id, seq)
);
