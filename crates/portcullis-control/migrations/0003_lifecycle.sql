-- Human users as a collection of their own: who removed one and when, and lists in order.

ALTER TABLE users ADD COLUMN removed_ms BIGINT;
ALTER TABLE users ADD COLUMN removed_by TEXT;
CREATE INDEX users_by_org ON users (org_id, created_ms, id);
