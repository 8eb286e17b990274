//! `POST /feed/v1/usage`: what keys did at a gateway. A body has an id and is counted once, however
//! often it comes.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use portcullis_core::feed::parse_strict;
use portcullis_core::key::KeyId;
use portcullis_core::time::WallMs;
use portcullis_core::verdict::DenyReason;
use serde::Deserialize;

use super::entrance;
use crate::api::App;
use crate::api::body::read_whole;
use crate::api::problem::{Code, Problem};
use crate::domain::usage::take;
use crate::instant::column;
use crate::store::usage::Used;

/// One line. Members that we do not know are ignored: a newer gateway may say more.
#[derive(Deserialize)]
struct Line {
    key: String,
    /// How long the gateway gathered; nothing depends on it.
    #[serde(default, rename = "window_ms")]
    _window_ms: u64,
    allowed: u64,
    denied: u64,
    last_at_ms: u64,
    #[serde(default)]
    last_source: Option<String>,
    /// Generation of the secret, if it was proven.
    #[serde(default)]
    generation: Option<u32>,
    /// Why the requests of this line were denied.
    #[serde(default)]
    reason: Option<String>,
}

pub(super) async fn receive(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    let gateway = match entrance::admit(&app, &headers).await {
        Ok(gateway) => gateway,
        Err(refused) => return refused,
    };
    match count(&app, &gateway.id, &headers, body).await {
        Ok(within) => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            if let Some(seconds) = within {
                let name = HeaderName::from_static("portcullis-usage-within");
                response.headers_mut().insert(name, HeaderValue::from(seconds));
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Within how many seconds the next report is wanted.
async fn count(
    app: &App,
    gateway: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<u32>, Problem> {
    let id = headers.get("idempotency-key").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let visible = |byte: u8| byte.is_ascii_graphic();
    if id.is_empty() || id.len() > 128 || !id.bytes().all(visible) {
        let detail = "Idempotency-Key is 1 to 128 visible ASCII characters, another for each body.";
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    let bytes = read_whole(body).await?;
    let now = app.now();
    let mut used = Vec::new();
    for (place, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if !line.is_empty() {
            used.push(read(line, now).map_err(|what| {
                let detail = format!("Line {} of the report: {what}.", place + 1);
                Problem::new(Code::MalformedRequest, detail)
            })?);
        }
    }
    take(app, gateway, id, &used).await
}

fn read(line: &[u8], now: WallMs) -> Result<Used, String> {
    let line: Line =
        parse_strict(line).and_then(serde_json::from_value).map_err(|error| error.to_string())?;
    let Line { key, _window_ms, allowed, denied, last_at_ms, last_source, generation, reason } =
        line;
    let key: KeyId = key.parse().map_err(|_| "key: 11 letters and digits are wanted".to_owned())?;
    // The reader takes no integer beyond 2^53.
    let counted = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let source = match last_source {
        None => None,
        Some(text) => {
            let address: IpAddr =
                text.parse().map_err(|_| "last_source: an IP address is wanted".to_owned())?;
            Some(address.to_canonical().to_string())
        }
    };
    Ok(Used {
        key_id: key.to_string(),
        generation: generation.map(i64::from),
        allowed: counted(allowed),
        denied: counted(denied),
        // A gateway whose clock is ahead must not make a key look used tomorrow.
        at_ms: column(WallMs(last_at_ms.min(now.0))),
        source,
        // A reason of a newer gateway is counted like any other.
        reason: reason.and_then(|label| {
            DenyReason::ALL.iter().copied().find(|reason| reason.label() == label)
        }),
    })
}
