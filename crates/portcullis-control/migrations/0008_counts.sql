-- Workspaces' own accounts are few, and every new account asks whether it is to take one over.
CREATE INDEX service_accounts_legacy ON service_accounts (org_id, username, created_ms, id)
    WHERE legacy_workspace_id IS NOT NULL;

-- A group of 100,000 says how many it has without counting them.
ALTER TABLE account_groups ADD COLUMN member_count BIGINT NOT NULL DEFAULT 0;
UPDATE account_groups SET member_count = (
    SELECT COUNT(*) FROM memberships WHERE memberships.group_id = account_groups.id
);
