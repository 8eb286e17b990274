-- Custom roles, groups and security policies, and bindings that belong to a policy.
-- Plain types only, as in the first schema; lists are JSON in TEXT.

CREATE TABLE roles (
    id             TEXT PRIMARY KEY NOT NULL,
    org_id         TEXT NOT NULL REFERENCES organizations (id),
    name           TEXT NOT NULL,
    name_key       TEXT NOT NULL,
    description    TEXT,
    base_role_id   TEXT,
    permissions    TEXT NOT NULL,
    deny           TEXT NOT NULL,
    level          BIGINT NOT NULL,
    sticky         BOOLEAN NOT NULL,
    sa_assignable  BOOLEAN NOT NULL,
    binding_kinds  TEXT NOT NULL,
    created_by     TEXT NOT NULL,
    created_ms     BIGINT NOT NULL,
    updated_ms     BIGINT NOT NULL,
    version        BIGINT NOT NULL,
    UNIQUE (org_id, name_key)
);
CREATE INDEX roles_by_org ON roles (org_id, created_ms, id);
CREATE INDEX roles_by_base ON roles (base_role_id);

CREATE TABLE account_groups (
    id           TEXT PRIMARY KEY NOT NULL,
    org_id       TEXT NOT NULL REFERENCES organizations (id),
    name         TEXT NOT NULL,
    name_key     TEXT NOT NULL,
    kind         TEXT NOT NULL,
    description  TEXT,
    created_by   TEXT NOT NULL,
    created_ms   BIGINT NOT NULL,
    updated_ms   BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    UNIQUE (org_id, name_key)
);
CREATE INDEX account_groups_by_org ON account_groups (org_id, created_ms, id);

CREATE TABLE memberships (
    id              TEXT PRIMARY KEY NOT NULL,
    org_id          TEXT NOT NULL REFERENCES organizations (id),
    group_id        TEXT NOT NULL REFERENCES account_groups (id),
    principal_kind  TEXT NOT NULL,
    principal_id    TEXT NOT NULL,
    created_by      TEXT NOT NULL,
    created_ms      BIGINT NOT NULL,
    UNIQUE (group_id, principal_id)
);
CREATE INDEX memberships_by_group ON memberships (group_id, created_ms, id);
CREATE INDEX memberships_by_principal ON memberships (principal_id, group_id);

CREATE TABLE security_policies (
    id          TEXT PRIMARY KEY NOT NULL,
    org_id      TEXT NOT NULL REFERENCES organizations (id),
    name        TEXT NOT NULL,
    name_key    TEXT NOT NULL,
    kind        TEXT NOT NULL,
    enabled     BOOLEAN NOT NULL,
    created_by  TEXT NOT NULL,
    created_ms  BIGINT NOT NULL,
    updated_by  TEXT NOT NULL,
    updated_ms  BIGINT NOT NULL,
    version     BIGINT NOT NULL,
    UNIQUE (org_id, name_key)
);
CREATE INDEX security_policies_by_org ON security_policies (org_id, created_ms, id);

-- The owner group and the default group of an organization that is older than groups are made at
-- the next start, for ids are not made here.
ALTER TABLE organizations ADD COLUMN owner_group_id TEXT NOT NULL DEFAULT '';

-- The same table with a policy, which is part of what makes a binding unique.
CREATE TABLE role_bindings_new (
    id            TEXT PRIMARY KEY NOT NULL,
    org_id        TEXT NOT NULL REFERENCES organizations (id),
    role_id       TEXT NOT NULL,
    subject_kind  TEXT NOT NULL,
    subject_id    TEXT NOT NULL,
    resource_id   TEXT NOT NULL REFERENCES resources (id),
    propagate     BOOLEAN NOT NULL,
    policy_id     TEXT REFERENCES security_policies (id),
    managed_by    TEXT NOT NULL,
    created_by    TEXT NOT NULL,
    created_ms    BIGINT NOT NULL,
    updated_ms    BIGINT NOT NULL,
    version       BIGINT NOT NULL
);
INSERT INTO role_bindings_new (id, org_id, role_id, subject_kind, subject_id, resource_id,
        propagate, policy_id, managed_by, created_by, created_ms, updated_ms, version)
    SELECT id, org_id, role_id, subject_kind, subject_id, resource_id,
        propagate, NULL, managed_by, created_by, created_ms, updated_ms, version
    FROM role_bindings;
DROP TABLE role_bindings;
ALTER TABLE role_bindings_new RENAME TO role_bindings;
CREATE UNIQUE INDEX role_bindings_unique
    ON role_bindings (subject_id, resource_id, role_id, COALESCE(policy_id, ''));
CREATE INDEX role_bindings_by_org ON role_bindings (org_id, created_ms, id);
CREATE INDEX role_bindings_by_resource ON role_bindings (resource_id);
CREATE INDEX role_bindings_by_policy ON role_bindings (policy_id, org_id, created_ms, id);
