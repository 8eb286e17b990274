-- Indexes for lists and resolution at a million accounts. Each list has the columns it is limited to,
-- the filter, and then its order, so that a page reads its own rows only. Without statistics a
-- planner prefers an index in the list's order over a shorter one, hence the organization in each.

CREATE INDEX service_accounts_by_name ON service_accounts (org_id, username_key, created_ms, id);
CREATE INDEX service_accounts_by_state ON service_accounts (org_id, state, created_ms, id);
CREATE INDEX service_accounts_by_manager ON service_accounts (org_id, managed_by, created_ms, id);

DROP INDEX api_keys_by_owner;
CREATE INDEX api_keys_by_owner ON api_keys (owner_id, org_id, created_ms, id);
CREATE INDEX api_keys_by_state ON api_keys (org_id, state, created_ms, id);
CREATE INDEX api_keys_by_owner_kind ON api_keys (org_id, owner_kind, created_ms, id);
CREATE INDEX api_keys_restricted ON api_keys (org_id) WHERE restriction IS NOT NULL;

DROP INDEX resources_by_parent;
CREATE INDEX resources_by_parent ON resources (parent_id, org_id, created_ms, id);

CREATE INDEX audit_events_by_action ON audit_events (org_id, action, seq);
CREATE INDEX audit_events_by_outcome ON audit_events (org_id, outcome, seq);

DROP INDEX role_bindings_by_resource;
CREATE INDEX role_bindings_by_resource ON role_bindings (resource_id, org_id, created_ms, id);
CREATE INDEX role_bindings_by_subject ON role_bindings (subject_id, org_id, created_ms, id);
CREATE INDEX role_bindings_by_subject_kind ON role_bindings (org_id, subject_kind, created_ms, id);
DROP INDEX IF EXISTS role_bindings_by_role;
CREATE INDEX role_bindings_by_role ON role_bindings (role_id, org_id, created_ms, id);
-- Where a role is bound is read from the index alone.
CREATE INDEX role_bindings_places ON role_bindings (role_id, resource_id, propagate);

-- Whether a group has members of a kind must not be looked for among all of them.
CREATE INDEX memberships_by_kind ON memberships (group_id, principal_kind, created_ms, id);
