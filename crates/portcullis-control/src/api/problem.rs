//! Refusals of the admin API: one table of codes, statuses and titles (service-accounts.md 9.13),
//! and the body that a caller sees. No problem ever contains a credential.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use portcullis_core::account::TransitionRefused;
use portcullis_core::entropy::EntropyFailure;
use serde::Serialize;
use serde_json::{Value, json};

use crate::store::StoreError;

macro_rules! codes {
    ($($variant:ident = $label:literal, $status:literal, $title:literal;)*) => {
        /// Why a call was refused.
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($variant,)* }

        impl Code {
            /// All of them.
            pub(crate) const ALL: &[Code] = &[$(Code::$variant,)*];

            pub(crate) const fn label(self) -> &'static str {
                match self { $(Code::$variant => $label,)* }
            }

            pub(crate) const fn status(self) -> u16 {
                match self { $(Code::$variant => $status,)* }
            }

            pub(crate) const fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }
        }
    };
}

codes! {
    AccessIsInherited = "access_is_inherited", 409, "The access comes from another resource";
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    Cycle = "cycle", 409, "The resource would lie below itself";
    DepthExceeded = "depth_exceeded", 409, "The resource tree would be too deep";
    DuplicateBinding = "duplicate_binding", 409, "There is such a binding already";
    EntitlementRequired = "entitlement_required", 402, "The plan does not include this";
    IdempotencyInProgress = "idempotency_in_progress", 409, "The first call is still running";
    IdempotencyKeyReused = "idempotency_key_reused", 422, "The key was used for another call";
    IdempotencyOutcomeUnknown = "idempotency_outcome_unknown", 409, "The first call was cut off";
    ImmutableObject = "immutable_object", 409, "This object cannot be changed";
    Internal = "internal", 500, "Internal error";
    InvalidCursor = "invalid_cursor", 400, "The cursor does not belong to this list";
    InvalidRequest = "invalid_request", 400, "The request is ambiguous";
    InvalidToken = "invalid_token", 401, "The credential is not accepted";
    KeyExpired = "key_expired", 409, "The key has expired";
    KeyInactive = "key_inactive", 409, "The key is inactive";
    KeyLimitReached = "key_limit_reached", 409, "No further key is allowed";
    KeyTaken = "key_taken", 409, "Another key has this id or secret";
    LastOwner = "last_owner", 409, "The last owner cannot be removed";
    MalformedRequest = "malformed_request", 400, "The request cannot be read";
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    NameTaken = "name_taken", 409, "The name is taken";
    NotFound = "not_found", 404, "There is no such object";
    OperationNotOffered = "operation_not_offered", 409, "The organization does not offer this";
    PermissionDenied = "permission_denied", 403, "A permission is missing";
    PolicyForbids = "policy_forbids", 409, "The organization's policy forbids this";
    PreconditionFailed = "precondition_failed", 412, "The object has changed";
    PreconditionRequired = "precondition_required", 428, "If-Match is required";
    PrivilegeEscalation = "privilege_escalation", 403, "Nobody grants more than they have";
    ResourceNotEmpty = "resource_not_empty", 409, "The resource has children";
    RoleInUse = "role_in_use", 409, "The role is in use";
    RoleLimitReached = "role_limit_reached", 409, "No further role is allowed here";
    ServiceAccountInactive = "service_account_inactive", 409, "The service account is not active";
    StateTerminal = "state_terminal", 409, "The state is final";
    Unauthenticated = "unauthenticated", 401, "A credential is required";
    Unavailable = "unavailable", 503, "The service cannot answer now";
    UnsupportedMediaType = "unsupported_media_type", 415, "The content type is not supported";
    UsernameTaken = "username_taken", 409, "The username is taken";
    ValidationFailed = "validation_failed", 422, "Some fields are not valid";
}

/// What is wrong with one field.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FieldCode {
    BadFormat,
    OutOfRange,
    Policy,
    ReadOnly,
    Required,
    UnknownField,
    UnknownReference,
}

/// One fault of a body or query: the field's path, a stable code, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FieldFault {
    pub(crate) field: String,
    pub(crate) code: FieldCode,
    pub(crate) detail: String,
}

impl FieldFault {
    #[expect(clippy::needless_pass_by_value, reason = "literals, errors and texts read alike")]
    pub(crate) fn new(field: &str, code: FieldCode, detail: impl ToString) -> FieldFault {
        FieldFault { field: field.to_owned(), code, detail: detail.to_string() }
    }
}

/// A refusal on its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) errors: Vec<FieldFault>,
    pub(crate) required_permission: Option<&'static str>,
    pub(crate) resource_id: Option<Box<str>>,
    /// For `Allow`.
    pub(crate) allow: Option<Box<str>>,
    /// For our log; never for the caller.
    pub(crate) internal: Option<Box<str>>,
}

impl Problem {
    #[expect(clippy::needless_pass_by_value, reason = "literals, errors and texts read alike")]
    pub(crate) fn new(code: Code, detail: impl ToString) -> Problem {
        Problem {
            code,
            detail: detail.to_string(),
            errors: Vec::new(),
            required_permission: None,
            resource_id: None,
            allow: None,
            internal: None,
        }
    }

    /// Deleted, unknown and foreign objects look the same.
    pub(crate) fn not_found() -> Problem {
        Problem::new(Code::NotFound, "There is no such object, or it is not yours to see.")
    }

    pub(crate) fn method_not_allowed(allow: String) -> Problem {
        let detail = format!("Allowed here: {allow}.");
        Problem { allow: Some(allow.into()), ..Problem::new(Code::MethodNotAllowed, detail) }
    }

    pub(crate) fn permission_denied(permission: &'static str) -> Problem {
        Problem {
            required_permission: Some(permission),
            ..Problem::new(Code::PermissionDenied, format!("This needs {permission}."))
        }
    }

    pub(crate) fn invalid(errors: Vec<FieldFault>) -> Problem {
        let names: Vec<&str> = errors.iter().map(|fault| fault.field.as_str()).collect();
        let detail = format!("Not valid: {}.", names.join(", "));
        Problem { errors, ..Problem::new(Code::ValidationFailed, detail) }
    }

    pub(crate) fn field(field: &str, code: FieldCode, detail: impl ToString) -> Problem {
        Problem::invalid(vec![FieldFault::new(field, code, detail)])
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body, for a request with this path and id.
    pub(crate) fn body(&self, instance: &str, request_id: &str) -> Value {
        let mut body = json!({
            "type": format!("urn:portcullis:problem:{}", self.code.label()),
            "title": self.code.title(),
            "status": self.code.status(),
            "detail": self.detail,
            "instance": instance,
            "code": self.code.label(),
            "request_id": request_id,
        });
        if let Value::Object(members) = &mut body {
            if !self.errors.is_empty() {
                members.insert("errors".to_owned(), json!(self.errors));
            }
            if let Some(permission) = &self.required_permission {
                members.insert("required_permission".to_owned(), json!(permission));
            }
            if let Some(id) = &self.resource_id {
                members.insert("resource_id".to_owned(), json!(id));
            }
        }
        body
    }
}

/// The frame of the router writes the body, for it knows the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let (code, detail) = match &error {
            StoreError::Unavailable(_) => {
                (Code::Unavailable, "Nothing was changed; the same call may work later.")
            }
            StoreError::Broken(_) | StoreError::Refused(_) => {
                (Code::Internal, "Nothing was changed; the request id leads to our log.")
            }
        };
        Problem { internal: Some(error.to_string().into()), ..Problem::new(code, detail) }
    }
}

impl From<EntropyFailure> for Problem {
    fn from(error: EntropyFailure) -> Problem {
        let detail = "No random numbers: nothing was changed; the same call may work later.";
        Problem {
            internal: Some(error.to_string().into()),
            ..Problem::new(Code::Unavailable, detail)
        }
    }
}

impl From<TransitionRefused> for Problem {
    fn from(refused: TransitionRefused) -> Problem {
        match refused {
            TransitionRefused::Deleted => Problem::not_found(),
            TransitionRefused::Terminal => Problem::new(Code::StateTerminal, refused),
        }
    }
}
