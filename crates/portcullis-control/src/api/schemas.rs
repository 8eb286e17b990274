//! The objects that answers show, as JSON schemas: closed, so that a field which a view adds and this
//! table does not know fails the tests. It describes what `views.rs` and its like write.

use serde_json::{Map, Value, json};

use super::problem::Code;

/// Makes a schema.
type Schema = fn() -> Value;

/// All objects, by name.
pub(crate) const OBJECTS: &[(&str, Schema)] = &[
    ("AccessRow", access_row),
    ("AccessRows", || list(reference("AccessRow"))),
    ("AuditEvent", audit_event),
    ("Author", author),
    ("BatchResult", batch_result),
    ("BatchResults", || list(reference("BatchResult"))),
    ("ChainVerdict", chain_verdict),
    ("Count", number),
    ("Diagnosis", diagnosis),
    ("Explanation", explanation),
    ("FieldFault", field_fault),
    ("Gateway", gateway),
    ("Gateways", || {
        closed(&[("items", list(reference("Gateway"))), ("next_cursor", json!({"type": "null"}))])
    }),
    ("Group", group),
    ("GroupName", group_name),
    ("GroupNames", || list(reference("GroupName"))),
    ("Introspection", introspection),
    ("Jwks", || closed(&[("keys", list(jwk()))])),
    ("Key", key),
    ("Login", login),
    ("Membership", membership),
    ("Organization", organization),
    ("OauthMetadata", oauth_metadata),
    ("OauthRefusal", || closed(&[("error", text()), ("error_description", text())])),
    ("OrgPolicy", org_policy),
    ("OrgUsage", org_usage),
    ("Policy", || closed(&policy_fields())),
    ("Problem", problem),
    ("Propagation", propagation),
    ("Resource", resource),
    ("Role", role),
    ("RoleBinding", role_binding),
    ("RoleBindings", || list(reference("RoleBinding"))),
    ("SecurityPolicy", security_policy),
    ("ServiceAccount", service_account),
    ("Spread", spread),
    ("Token", token),
    ("Usage", usage),
    ("User", user),
    ("Warning", || closed(&[("code", text()), ("detail", text())])),
    ("Whoami", whoami),
    ("ZenmlFault", texts),
    ("ZenmlMember", zenml_member),
    ("ZenmlRefusal", || closed(&[("detail", texts())])),
    ("ZenmlUser", zenml_user),
];

/// An object with these members and no others; a name that ends in `?` may be absent.
pub(super) fn closed(members: &[(&str, Value)]) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, schema) in members {
        let bare = name.trim_end_matches('?');
        properties.insert(bare.to_owned(), schema.clone());
        if bare == *name {
            required.push(bare);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn nullable(schema: Value) -> Value {
    match schema.get("type") {
        Some(Value::String(one)) => {
            let both = json!([one, "null"]);
            let mut schema = schema;
            schema["type"] = both;
            if let Some(Value::Array(words)) = schema.get_mut("enum") {
                words.push(Value::Null);
            }
            schema
        }
        _ => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

pub(super) fn list(items: Value) -> Value {
    let members = [("type".to_owned(), json!("array")), ("items".to_owned(), items)];
    Value::Object(Map::from_iter(members))
}

fn text() -> Value {
    json!({"type": "string"})
}

fn texts() -> Value {
    list(text())
}

fn truth() -> Value {
    json!({"type": "boolean"})
}

fn number() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn instant() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn words(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn nullable_text() -> Value {
    nullable(text())
}

fn nullable_instant() -> Value {
    nullable(instant())
}

fn author() -> Value {
    closed(&[("kind", text()), ("id", text()), ("display", text())])
}

/// What became of one object of a batch.
fn batch_result() -> Value {
    closed(&[
        ("id", text()),
        ("status", number()),
        ("code", nullable(text())),
        ("detail?", text()),
        ("value?", nullable(text())),
        ("secret?", nullable(text())),
        ("value_withheld?", truth()),
    ])
}

fn organization() -> Value {
    closed(&[
        ("id", text()),
        ("name", text()),
        ("plan", text()),
        ("entitlements", closed(&[("service_accounts", truth())])),
        ("profile", text()),
        ("policy", reference("Policy")),
        ("root_resource_id", text()),
        ("owner_group_id", text()),
        ("state", words(&["active", "suspended"])),
        ("created_at", instant()),
        ("updated_at", instant()),
        ("version", number()),
    ])
}

/// The policy with what it shares with its organization.
fn org_policy() -> Value {
    let mut members = policy_fields();
    members.extend([
        ("org_id", text()),
        ("profile", text()),
        ("updated_at", instant()),
        ("version", number()),
    ]);
    closed(&members)
}

/// Every field of the policy, as it may be written.
fn policy_fields() -> Vec<(&'static str, Value)> {
    super::v1::policy_readers().into_iter().map(|(name, reader)| (name, reader.schema())).collect()
}

fn resource() -> Value {
    closed(&[
        ("id", text()),
        ("org_id", text()),
        ("parent_id", nullable_text()),
        ("kind", text()),
        ("name", text()),
        ("ref", text()),
        ("path", texts()),
        ("state", words(&["active", "archived"])),
        ("created_at", instant()),
        ("updated_at", instant()),
        ("version", number()),
    ])
}

/// A removed user shows less.
fn user() -> Value {
    closed(&[
        ("id", text()),
        ("org_id", text()),
        ("username", text()),
        ("state", words(&["active", "removed"])),
        ("seat", truth()),
        ("version", number()),
        ("email?", nullable_text()),
        ("created_at?", instant()),
        ("updated_at?", instant()),
        ("removed_at?", nullable_instant()),
        ("removed_by?", nullable(reference("Author"))),
    ])
}

/// A deleted account shows less.
fn service_account() -> Value {
    closed(&[
        ("id", text()),
        ("org_id", text()),
        ("username", text()),
        ("display_name", text()),
        ("state", words(&["active", "deleted", "inactive", "revoked"])),
        ("version", number()),
        ("description?", nullable_text()),
        ("owning_team?", nullable_text()),
        ("avatar_url?", nullable_text()),
        ("is_bot?", truth()),
        ("author?", reference("Author")),
        ("managed_by?", text()),
        ("external_refs?", list(external_ref())),
        ("key_count?", number()),
        ("last_used_at?", nullable_instant()),
        ("last_used_ip?", nullable_text()),
        ("use_count?", number()),
        ("denied_count?", number()),
        ("last_login_at?", nullable_instant()),
        ("deactivated_at?", nullable_instant()),
        ("deactivated_by?", nullable(reference("Author"))),
        ("revoked_at?", nullable_instant()),
        ("revoked_by?", nullable(reference("Author"))),
        ("deleted_at?", nullable_instant()),
        ("deleted_by?", nullable(reference("Author"))),
        ("created_at?", instant()),
        ("updated_at?", instant()),
    ])
}

fn external_ref() -> Value {
    closed(&[("system", text()), ("workspace_id", nullable_text()), ("legacy_id", nullable_text())])
}

fn key() -> Value {
    let current = closed(&[("created_at", instant()), ("last_used_at", nullable_instant())]);
    let previous = closed(&[
        ("generation", number()),
        ("retained_until", instant()),
        ("last_used_at", nullable_instant()),
        ("retire_after_quiet_hours", nullable(number())),
    ]);
    let restriction = closed(&[
        ("permissions?", nullable(texts())),
        ("resource_ids?", nullable(texts())),
        ("methods?", nullable(texts())),
    ]);
    closed(&[
        ("id", text()),
        ("uid", text()),
        ("org_id", text()),
        ("owner", closed(&[("kind", words(&["service_account", "user"])), ("id", text())])),
        ("name", text()),
        ("description", nullable_text()),
        ("state", words(&["active", "deleted", "inactive", "revoked"])),
        ("expires_at", nullable_instant()),
        ("generation", number()),
        ("current", current),
        ("previous", nullable(previous)),
        ("hint", nullable(closed(&[("prefix", text()), ("last4", text())]))),
        ("style", words(&["native", "opaque", "zenml"])),
        ("alg", words(&["b3", "bcrypt", "sha256"])),
        ("restriction", nullable(restriction)),
        ("created_by", reference("Author")),
        ("created_at", instant()),
        ("updated_at", instant()),
        ("last_used_at", nullable_instant()),
        ("last_used_ip", nullable_text()),
        ("last_login_at", nullable_instant()),
        ("last_rotated_at", nullable_instant()),
        ("use_count", number()),
        ("denied_count", number()),
        ("expired", truth()),
        ("usable", truth()),
        ("age_days", number()),
        ("stale", truth()),
        ("version", number()),
    ])
}

fn role() -> Value {
    closed(&[
        ("id", text()),
        ("org_id", nullable_text()),
        ("name", text()),
        ("description", nullable_text()),
        ("base_role_id", nullable_text()),
        ("permissions", texts()),
        ("deny", texts()),
        ("level", number()),
        ("sticky", truth()),
        ("sa_assignable", truth()),
        ("binding_kinds", texts()),
        ("built_in", truth()),
        ("deprecated", truth()),
        ("created_by?", reference("Author")),
        ("created_at?", instant()),
        ("updated_at?", instant()),
        ("version", number()),
    ])
}

fn group() -> Value {
    closed(&[
        ("id", text()),
        ("org_id", text()),
        ("name", text()),
        ("kind", words(&["custom", "default", "owner"])),
        ("description", nullable_text()),
        ("member_count", number()),
        ("created_by", reference("Author")),
        ("created_at", instant()),
        ("updated_at", instant()),
        ("version", number()),
    ])
}

fn group_name() -> Value {
    let kind = words(&["custom", "default", "owner"]);
    closed(&[("id", text()), ("name", text()), ("kind", kind)])
}

fn membership() -> Value {
    let kind = words(&["service_account", "user"]);
    closed(&[
        ("id", text()),
        ("group_id", text()),
        ("principal", closed(&[("kind", kind), ("id", text())])),
        ("created_by", reference("Author")),
        ("created_at", instant()),
    ])
}

/// A list leaves the bindings out.
fn security_policy() -> Value {
    closed(&[
        ("id", text()),
        ("org_id", text()),
        ("name", text()),
        ("kind", words(&["custom", "default"])),
        ("enabled", truth()),
        ("group_count", number()),
        ("user_count", number()),
        ("service_account_count", number()),
        ("role_count", number()),
        ("created_by", reference("Author")),
        ("created_at", instant()),
        ("updated_by", reference("Author")),
        ("updated_at", instant()),
        ("version", number()),
        ("bindings?", list(reference("RoleBinding"))),
    ])
}

fn role_binding() -> Value {
    closed(&[
        ("id", text()),
        ("org_id", text()),
        ("role_id", text()),
        ("subject", subject()),
        ("resource_id", text()),
        ("propagate", truth()),
        ("policy_id", nullable_text()),
        ("managed_by", text()),
        ("created_by", reference("Author")),
        ("created_at", instant()),
        ("updated_at", instant()),
        ("version", number()),
    ])
}

fn subject() -> Value {
    closed(&[("kind", words(&["group", "service_account", "user"])), ("id", text())])
}

fn access_row() -> Value {
    let source = closed(&[
        ("source", words(&["direct", "group", "inherited"])),
        ("from_resource_id", text()),
        ("group_id", nullable_text()),
        ("role_id", text()),
        ("policy_id", nullable_text()),
        ("binding_id", text()),
    ]);
    closed(&[
        ("resource", closed(&[("id", text()), ("kind", text()), ("name", text())])),
        ("source", words(&["direct", "group", "inherited"])),
        ("from_resource_id", text()),
        ("group_id", nullable_text()),
        ("role_ids", texts()),
        ("permissions", texts()),
        ("denied", texts()),
        ("editable", truth()),
        ("sources", list(source)),
    ])
}

fn audit_event() -> Value {
    let actor = closed(&[
        ("kind", text()),
        ("id", text()),
        ("username", text()),
        ("key_id", nullable_text()),
        ("state_now", nullable_text()),
    ]);
    let target = closed(&[
        ("kind", text()),
        ("id", text()),
        ("name", text()),
        ("state_now", nullable_text()),
    ]);
    let anything = json!({"type": ["array", "object", "null"]});
    closed(&[
        ("seq", number()),
        ("id", text()),
        ("ts", instant()),
        ("org_id", text()),
        ("actor", actor),
        ("action", text()),
        ("target", target),
        ("outcome", words(&["denied", "error", "ok"])),
        ("reason", nullable_text()),
        ("ip", nullable_text()),
        ("user_agent", nullable_text()),
        ("request_id", nullable_text()),
        ("resource_id", nullable_text()),
        ("before", anything.clone()),
        ("after", anything),
        ("principal_state_at_event", text()),
        ("prev_hash", text()),
        ("hash", text()),
    ])
}

const CHAIN_FAULTS: [&str; 8] =
    ["changed", "gap", "malformed", "order", "rewritten", "signature", "truncated", "unsealed"];

fn chain_verdict() -> Value {
    closed(&[
        ("ok", truth()),
        ("first_seq", nullable(number())),
        ("last_seq", nullable(number())),
        ("first_bad_seq", nullable(number())),
        ("fault", nullable(words(&CHAIN_FAULTS))),
        ("sealed_seq", nullable(number())),
        ("public_key", text()),
    ])
}

fn usage() -> Value {
    let day = closed(&[
        ("day", json!({"type": "string", "format": "date"})),
        ("calls", number()),
        ("denied", number()),
        ("last_ip", nullable_text()),
    ]);
    closed(&[
        ("total_calls", number()),
        ("total_denied", number()),
        ("last_used_at", nullable_instant()),
        ("last_used_ip", nullable_text()),
        ("days", list(day)),
    ])
}

fn org_usage() -> Value {
    closed(&[
        ("seats", number()),
        ("service_accounts", number()),
        ("keys", number()),
        ("calls", number()),
        ("denied", number()),
    ])
}

fn diagnosis() -> Value {
    let suggestion =
        closed(&[("role_id", text()), ("subject", subject()), ("resource_id", text())]);
    let check = closed(&[("check", text()), ("ok", truth()), ("detail", text())]);
    closed(&[
        ("usable", truth()),
        ("reason", nullable_text()),
        ("key_id", nullable_text()),
        ("checks", list(check)),
        ("suggestions", list(suggestion)),
    ])
}

fn explanation() -> Value {
    let contribution = closed(&[
        ("binding_id", text()),
        ("subject", subject()),
        ("role_id", text()),
        ("resource_id", text()),
        ("via", words(&["direct", "group", "inherited"])),
        ("policy_id", nullable_text()),
        ("sticky", truth()),
        ("denies", texts()),
        ("applied", truth()),
        ("excluded", nullable_text()),
    ]);
    closed(&[
        ("seq", number()),
        ("allowed?", truth()),
        ("permissions", texts()),
        ("denied", texts()),
        ("contributions", list(contribution)),
    ])
}

fn gateway() -> Value {
    closed(&[
        ("id", text()),
        ("name", text()),
        ("state", words(&["fenced", "lagging", "live", "lost"])),
        ("epoch", number()),
        ("applied_seq", number()),
        ("lag_ms", number()),
        ("last_seen_at", instant()),
        ("build", nullable_text()),
    ])
}

fn spread() -> Value {
    closed(&[("applied", texts()), ("pending", texts()), ("fenced", texts())])
}

fn propagation() -> Value {
    closed(&[
        ("epoch", number()),
        ("seq", number()),
        ("state", words(&["applied", "failed", "pending"])),
        ("gateways", reference("Spread")),
    ])
}

fn whoami() -> Value {
    let kind = words(&["operator", "service_account", "user"]);
    closed(&[
        ("principal", closed(&[("kind", kind), ("id", text()), ("username", text())])),
        ("org_id", nullable_text()),
        ("key_id", text()),
        ("generation", number()),
        ("permissions", texts()),
    ])
}

/// RFC 6749 section 5.1 and RFC 8693 section 2.2.1.
fn token() -> Value {
    closed(&[
        ("access_token", text()),
        ("token_type", words(&["Bearer"])),
        ("expires_in", number()),
        ("scope", text()),
        ("issued_token_type?", text()),
    ])
}

/// RFC 7662 section 2.2. Of what is not active nothing else is said.
fn introspection() -> Value {
    closed(&[
        ("active", truth()),
        ("scope?", text()),
        ("client_id?", text()),
        ("username?", text()),
        ("sub?", text()),
        ("iss?", text()),
        ("aud?", texts()),
        ("iat?", number()),
        ("exp?", number()),
        ("jti?", text()),
        ("token_type?", words(&["Bearer"])),
    ])
}

/// RFC 8414 section 2.
fn oauth_metadata() -> Value {
    closed(&[
        ("issuer", text()),
        ("token_endpoint", text()),
        ("jwks_uri", text()),
        ("introspection_endpoint", text()),
        ("revocation_endpoint", text()),
        ("grant_types_supported", texts()),
        ("response_types_supported", texts()),
        ("token_endpoint_auth_methods_supported", texts()),
        ("introspection_endpoint_auth_methods_supported", texts()),
        ("revocation_endpoint_auth_methods_supported", texts()),
        ("scopes_supported", texts()),
    ])
}

/// A public key (RFC 7517, RFC 8037), of one of the kinds that sign session tokens.
fn jwk() -> Value {
    closed(&[
        ("kty", words(&["EC", "OKP", "RSA"])),
        ("crv?", words(&["Ed25519", "P-256"])),
        ("x?", text()),
        ("y?", text()),
        ("e?", text()),
        ("n?", text()),
        ("kid", text()),
        ("use", words(&["sig"])),
        ("alg", words(&["ES256", "EdDSA", "RS256"])),
    ])
}

/// What a login at ZenML Pro answers: exactly these.
fn login() -> Value {
    let null = json!({"type": "null"});
    closed(&[
        ("access_token", text()),
        ("expires_in", number()),
        ("token_type", words(&["bearer"])),
        ("device_id", null.clone()),
        ("device_metadata", null),
    ])
}

fn zenml_user() -> Value {
    let null = json!({"type": "null"});
    closed(&[
        ("password", null.clone()),
        ("password_expired", truth()),
        ("name", text()),
        ("avatar_url", null.clone()),
        ("company", null.clone()),
        ("job_title", null.clone()),
        ("metadata", closed(&[])),
        ("id", text()),
        ("username", text()),
        ("email", text()),
        ("oauth_provider", null.clone()),
        ("oauth_id", null),
        ("is_active", truth()),
        ("is_superuser", truth()),
        ("is_service_account", truth()),
        ("organization_id", text()),
    ])
}

fn zenml_member() -> Value {
    let null = json!({"type": "null"});
    closed(&[
        ("id", text()),
        ("username", text()),
        ("email", text()),
        ("name", text()),
        ("is_superuser", truth()),
        ("is_service_account", truth()),
        ("avatar_url", null.clone()),
        ("oidc_claims", null),
    ])
}

fn field_fault() -> Value {
    let codes = [
        "bad_format",
        "out_of_range",
        "policy",
        "read_only",
        "required",
        "unknown_field",
        "unknown_reference",
    ];
    closed(&[("field", text()), ("code", words(&codes)), ("detail", text())])
}

/// RFC 9457, with the closed list of codes.
fn problem() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.label()).collect();
    closed(&[
        ("type", json!({"type": "string", "pattern": "^urn:portcullis:problem:[a-z_]+$"})),
        ("title", text()),
        ("status", json!({"type": "integer", "minimum": 400, "maximum": 599})),
        ("detail", text()),
        ("instance", text()),
        ("code", words(&codes)),
        ("request_id", text()),
        ("errors?", list(reference("FieldFault"))),
        ("required_permission?", text()),
        ("resource_id?", text()),
    ])
}
