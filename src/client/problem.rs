//! Refusals as the admin API writes them (RFC 9457 with its closed list of codes).

use serde::Deserialize;

/// Why a call was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The status of the answer.
    pub status: u16,
    /// Stable; what programs decide by.
    pub code: String,
    /// For people.
    pub detail: String,
    /// Leads to the server's log.
    pub request_id: String,
    /// What is wrong with which field.
    pub errors: Vec<FieldFault>,
    /// What the caller would have needed.
    pub required_permission: Option<String>,
    /// The resource that it is about.
    pub resource_id: Option<String>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FieldFault {
    /// Its path in the body, or the name of the parameter.
    pub field: String,
    /// Stable.
    pub code: String,
    /// What is allowed.
    pub detail: String,
}
