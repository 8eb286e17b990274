//! What the operator's listener answers, path by path, and whom. It reads what the gateway tells and
//! passes orders on; it never opens a socket.

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use portcullis_gateway::{GatewayHandle, Question};
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::json;
use tokio::sync::watch;

use super::{InForce, Orders, PATIENCE};

/// The largest question that `explain` takes.
const MAX_BODY_BYTES: usize = 64 << 10;

type Answer = Response<Full<Bytes>>;

/// What keeps strangers from /admin/v1.
pub(super) enum Guard {
    /// Nothing is let in, for there is no token.
    Closed,
    /// Whoever could open the socket file.
    FileMode,
    /// The hash of the bearer token.
    Token(blake3::Hash),
}

/// Answers one request after the other from what the gateway tells.
pub(super) struct Desk {
    pub(super) gateway: GatewayHandle,
    pub(super) guard: Guard,
    pub(super) in_force: watch::Receiver<InForce>,
    pub(super) registry: Registry,
    pub(super) public_metrics: bool,
    pub(super) orders: Orders,
}

impl Desk {
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let (allowed, needs_token): (&'static str, bool) = match path {
            "/livez" | "/readyz" => ("GET, HEAD", false),
            "/metrics" => ("GET, HEAD", !self.public_metrics),
            "/admin/v1/status" => ("GET, HEAD", true),
            "/admin/v1/drain" | "/admin/v1/explain" | "/admin/v1/reload" => ("POST", true),
            _ if path.starts_with("/admin/v1/") => ("", true),
            _ => ("", false),
        };
        if needs_token && let Err(refusal) = self.authenticate(&request) {
            return *refusal;
        }
        if allowed.is_empty() {
            return problem(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.");
        }
        if !allowed.split(", ").any(|method| method == request.method().as_str()) {
            let mut answer =
                problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "See Allow.");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return answer;
        }
        let head_only = request.method() == Method::HEAD;
        let mut answer = match path {
            "/livez" => self.live(),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            "/admin/v1/status" => self.status(),
            "/admin/v1/drain" => self.drain(),
            "/admin/v1/reload" => self.reload(),
            _ => self.explain(request).await,
        };
        if head_only {
            *answer.body_mut() = Full::default();
        }
        answer
    }

    /// The bearer token, compared by its hash and in constant time.
    fn authenticate<B>(&self, request: &Request<B>) -> Result<(), Box<Answer>> {
        let token = match &self.guard {
            Guard::FileMode => return Ok(()),
            Guard::Token(token) => token,
            Guard::Closed => {
                return Err(Box::new(problem(
                    StatusCode::FORBIDDEN,
                    "no_admin_token",
                    "This gateway has no admin.token_file, so its administration is switched off.",
                )));
            }
        };
        let mut lines = request.headers().get_all(AUTHORIZATION).iter();
        let presented = match (lines.next(), lines.next()) {
            (Some(line), None) => line.as_bytes().split_at_checked(7),
            _ => None,
        };
        match presented {
            Some((scheme, presented))
                if scheme.eq_ignore_ascii_case(b"bearer ") && blake3::hash(presented) == *token =>
            {
                Ok(())
            }
            Some(_) | None => {
                let mut answer = problem(
                    StatusCode::UNAUTHORIZED,
                    "unauthenticated",
                    "This path needs the bearer token of admin.token_file.",
                );
                let challenge = HeaderValue::from_static("Bearer realm=\"portcullis-admin\"");
                answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                Err(Box::new(answer))
            }
        }
    }

    fn live(&self) -> Answer {
        if self.gateway.status().alive {
            return json_answer(StatusCode::OK, &json!({ "live": true }));
        }
        json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "live": false }))
    }

    fn ready(&self) -> Answer {
        let status = self.gateway.status();
        let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json_answer(code, &json!({ "ready": status.ready, "failing": status.failing }))
    }

    fn metrics(&self) -> Answer {
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        if let Err(error) = encoder.encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics cannot be written");
            return problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "See the log.");
        }
        answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    }

    fn status(&self) -> Answer {
        let InForce { configuration, last_reload } = self.in_force.borrow().clone();
        let status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "configuration": configuration,
            "last_reload": last_reload,
            "gateway": self.gateway.status(),
        });
        json_answer(StatusCode::OK, &status)
    }

    fn drain(&self) -> Answer {
        tracing::info!("the admin listener was asked to drain");
        self.orders.drain.cancel();
        json_answer(StatusCode::ACCEPTED, &json!({ "draining": true }))
    }

    fn reload(&self) -> Answer {
        self.orders.reload.notify_one();
        json_answer(StatusCode::ACCEPTED, &json!({ "reloading": true }))
    }

    async fn explain(&self, request: Request<Incoming>) -> Answer {
        let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
        let body = match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => {
                return problem(
                    StatusCode::BAD_REQUEST,
                    "malformed_request",
                    "The body is incomplete, late, or longer than 64 KiB.",
                );
            }
        };
        match serde_json::from_slice::<Question>(&body) {
            Ok(question) => {
                let explanation = self.gateway.explain(&question);
                json_answer(StatusCode::OK, &json!(explanation))
            }
            Err(error) => problem(
                StatusCode::UNPROCESSABLE_ENTITY,
                "validation_failed",
                &format!(
                    "{error}; allowed: {{\"key_id\", \"method\", \"host\", \"path\", \"source\"}}"
                ),
            ),
        }
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Answer {
    let body = json!({
        "type": format!("urn:portcullis:problem:{code}"),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    });
    answer(status, "application/problem+json", body.to_string().into_bytes())
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    answer(status, "application/json", body.to_string().into_bytes())
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
