//! A control plane on port 0 and the people who call it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_control::{FeedSigner, Sealer, SessionSigner, Settings, Started};
use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::feed::SignerAlg;
use portcullis_core::key::{Pepper, PepperRing, Prefix};
use portcullis_core::time::{Clock, MonoNs, Now, WallMs};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::document;

/// 2026-11-22T00:00:00Z.
pub(crate) const START_MS: u64 = 1_795_305_600_000;

/// What the control plane calls itself in session tokens.
pub(crate) const ISSUER: &str = "https://control.example.com";

/// Stands still until it is advanced.
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let ms = self.0.load(Ordering::SeqCst);
        Now { wall: WallMs(ms), mono: MonoNs((ms - START_MS + 1) * 1_000_000) }
    }
}

/// Random enough to be distinct, the same in every run.
struct TestEntropy(AtomicU64);

impl Entropy for TestEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        for chunk in out.chunks_mut(8) {
            let mut word = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            for (to, from) in chunk.iter_mut().zip(word.to_le_bytes()) {
                *to = from;
            }
        }
        Ok(())
    }
}

/// A running control plane.
pub(crate) struct Plant {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) admin: String,
    pub(crate) operator: String,
    pub(crate) gateway_token: String,
    pub(crate) org: String,
    pub(crate) root: String,
    pub(crate) base: String,
    pub(crate) client: Client,
    /// A test has changed the database by itself, so that what always holds may not.
    pub(crate) tampered: bool,
    dir: TempDir,
    entropy_seed: u64,
    change_log_length: u64,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Plant {
    pub(crate) async fn start() -> Plant {
        Plant::with_log_length(Settings::CHANGE_LOG_LENGTH).await
    }

    pub(crate) async fn with_log_length(change_log_length: u64) -> Plant {
        let mut plant = Plant {
            clock: Arc::new(TestClock(AtomicU64::new(START_MS))),
            admin: String::new(),
            operator: String::new(),
            gateway_token: String::new(),
            org: String::new(),
            root: String::new(),
            base: String::new(),
            client: Client::new(),
            tampered: false,
            dir: tempfile::tempdir().unwrap(),
            entropy_seed: 1,
            change_log_length,
            running: None,
        };
        let mut tokens = (String::new(), String::new(), String::new());
        plant
            .run(|first| {
                tokens = (
                    first.admin.expose().to_owned(),
                    first.operator.expose().to_owned(),
                    first.gateway.expose().to_owned(),
                );
                Ok(())
            })
            .await;
        (plant.admin, plant.operator, plant.gateway_token) = tokens;
        let orgs = plant.get("/v1/organizations").await;
        plant.org = orgs.text("/items/0/id");
        plant.root = orgs.text("/items/0/root_resource_id");
        plant
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.path().join("portcullis.db")
    }

    /// Stops and goes to a directory without a database.
    pub(crate) async fn move_to_a_new_directory(&mut self) {
        self.stop().await;
        self.dir = tempfile::tempdir().unwrap();
    }

    /// Randomness of its own for whoever opens the database besides.
    pub(crate) fn entropy(&self, seed: u64) -> Arc<dyn Entropy> {
        Arc::new(TestEntropy(AtomicU64::new(seed << 40)))
    }

    pub(crate) fn settings(database: &Path, change_log_length: u64) -> Settings {
        Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            database: database.to_owned(),
            peppers: Arc::new(PepperRing::new(vec![Pepper::new(1, [7; 32])]).unwrap()),
            prefix: Prefix::default(),
            sealer: Sealer::new(&[5; 32]),
            signer: FeedSigner::from_seed(&[9; 32]),
            session_signers: vec![SessionSigner::from_seed(SignerAlg::EdDsa, &[8; 32]).unwrap()],
            public_url: Some(ISSUER.to_owned()),
            change_log_length,
            integrity_check_bytes: Settings::INTEGRITY_CHECK_BYTES,
        }
    }

    async fn run(
        &mut self,
        deliver: impl FnOnce(&portcullis_control::FirstTokens) -> std::io::Result<()> + Send,
    ) -> Started {
        self.entropy_seed += 1;
        let settings = Plant::settings(&self.database(), self.change_log_length);
        let entropy = Arc::new(TestEntropy(AtomicU64::new(self.entropy_seed << 40)));
        let control =
            portcullis_control::open(settings, self.clock.clone(), entropy).await.unwrap();
        let started = control.bootstrap(deliver).await.unwrap();
        let bound = control.bind().await.unwrap();
        self.base = format!("http://{}", bound.address());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(bound.run(shutdown.clone()));
        self.running = Some((shutdown, task));
        started
    }

    /// Stops and starts again on the same database.
    pub(crate) async fn restart(&mut self) -> Started {
        self.stop().await;
        self.run(|_| panic!("a filled database needs no tokens")).await
    }

    pub(crate) async fn stop(&mut self) {
        if let Some((shutdown, task)) = self.running.take() {
            shutdown.cancel();
            task.await.unwrap();
        }
    }

    /// Replaces one text by another in the default organization's stored policy.
    pub(crate) async fn change_policy(&mut self, from: &str, to: &str) {
        self.stop().await;
        let url = format!("sqlite://{}", self.database().display());
        let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let statement = "UPDATE organizations SET policy = replace(policy, $1, $2)
             WHERE id = $3 AND instr(policy, $1) > 0";
        let done = sqlx::query(statement).bind(from).bind(to).bind(&self.org);
        assert_eq!(done.execute(&mut conn).await.unwrap().rows_affected(), 1);
        conn.close().await.unwrap();
        self.restart().await;
    }

    /// The path of something in the default organization.
    pub(crate) fn o(&self, rest: &str) -> String {
        format!("/v1/organizations/{}{rest}", self.org)
    }

    /// The path of something of a service account.
    pub(crate) fn s(&self, account: &str, rest: &str) -> String {
        self.o(&format!("/service-accounts/{account}{rest}"))
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", self.admin);
        headers.insert("authorization", bearer.parse().unwrap());
        Ask { plant: self, method, path: path.to_owned(), headers, body: None }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path).json(body).send().await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PATCH, path).json(body).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path).send().await
    }

    /// A new account; its id.
    pub(crate) async fn account(&self, body: Value) -> String {
        let made = self.post(&self.o("/service-accounts"), body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.text("/service_account/id")
    }

    /// A new account with a role on the root and a key; account id, key id, value.
    pub(crate) async fn agent(&self, name: &str, role: Option<&str>) -> (String, String, String) {
        let body = json!({"username": name, "role_id": role, "create_key": {"name": "main"}});
        let made = self.post(&self.o("/service-accounts"), body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        (made.text("/service_account/id"), made.text("/key/id"), made.text("/value"))
    }

    /// A new resource below the root; its id.
    pub(crate) async fn resource(&self, kind: &str, name: &str) -> String {
        let body = json!({"kind": kind, "name": name});
        let made = self.post(&self.o("/resources"), body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        made.text("/resource/id")
    }

    /// The status of `whoami` with this credential.
    pub(crate) async fn accepts(&self, value: &str) -> StatusCode {
        self.ask(Method::GET, "/v1/whoami").token(value).send().await.status
    }

    /// The newest event of the audit log.
    pub(crate) async fn last_event(&self) -> Value {
        let list = self.get(&self.o("/audit-events?order_by=-created_at&page_size=1")).await;
        list.body["items"][0].clone()
    }
}

/// Rows that are wrong: totals that are kept, and are not those of the rows that are there, or the
/// other way round; audit logs whose last number is not that of their events.
const UNCOUNTED: &str = "WITH counted (of_table, org_id, state, total) AS (
         SELECT 'service_accounts', org_id, state, COUNT(*) FROM service_accounts GROUP BY 2, 3
         UNION ALL SELECT 'api_keys', org_id, state, COUNT(*) FROM api_keys GROUP BY 2, 3
         UNION ALL SELECT 'role_bindings', org_id, '', COUNT(*) FROM role_bindings GROUP BY 2
     ), kept AS (SELECT of_table, org_id, state, total FROM totals WHERE total <> 0)
     SELECT (SELECT COUNT(*) FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept))
          + (SELECT COUNT(*) FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted))
          + (SELECT COUNT(*) FROM (SELECT 1 FROM audit_events GROUP BY org_id
                                   HAVING MAX(seq) <> COUNT(*)))";

/// Whatever a test did: every change that was committed has exactly one audit event, and the
/// other way round; and what is counted as it comes and goes is counted right.
impl Drop for Plant {
    fn drop(&mut self) {
        if self.tampered || std::thread::panicking() || self.admin.is_empty() {
            return;
        }
        let url = format!("sqlite://{}?mode=ro", self.database().display());
        let counted = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
                let statement = "SELECT (SELECT seq FROM feed_state),
                     (SELECT COUNT(*) FROM audit_events WHERE outcome = 'ok')";
                let changes: (i64, i64) =
                    sqlx::query_as(statement).fetch_one(&mut conn).await.unwrap();
                let uncounted: i64 =
                    sqlx::query_scalar(UNCOUNTED).fetch_one(&mut conn).await.unwrap();
                (changes, uncounted)
            })
        });
        let ((changes, events), uncounted) = counted.join().unwrap();
        assert_eq!(changes, events, "changes and their audit events");
        assert_eq!(uncounted, 0, "totals that differ from what is there");
    }
}

/// A request being put together.
pub(crate) struct Ask<'p> {
    plant: &'p Plant,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl Ask<'_> {
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.headers.remove("authorization");
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn second_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn json(self, body: Value) -> Self {
        self.raw(body.to_string()).header("content-type", "application/json")
    }

    pub(crate) fn raw(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let url = format!("{}{}", self.plant.base, self.path);
        let method = self.method.clone();
        let mut request = self.plant.client.request(self.method, url).headers(self.headers);
        if let Some(body) = self.body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        assert!(headers.contains_key("x-request-id"), "every response has a request id");
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let kind = headers.get("content-type").map_or("", |value| value.to_str().unwrap());
        document::check(method.as_str(), &self.path, status.as_u16(), kind, &body);
        Answer { status, headers, body, text }
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// A string in the body, by JSON pointer.
    pub(crate) fn text(&self, pointer: &str) -> String {
        let found = self.body.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_else(|| panic!("no {pointer} in {}", self.body)).to_owned()
    }

    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let found = self.body.pointer(pointer).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("no {pointer} in {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and problem code.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.text
        );
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["type"], format!("urn:portcullis:problem:{code}"));
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["request_id"], self.header("x-request-id"));
    }

    /// A 422 with these fields and codes.
    #[track_caller]
    pub(crate) fn assert_faults(&self, faults: &[(&str, &str)]) {
        self.assert_problem(422, "validation_failed");
        let found: Vec<(&str, &str)> = self.body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| (fault["field"].as_str().unwrap(), fault["code"].as_str().unwrap()))
            .collect();
        assert_eq!(found, faults, "{}", self.text);
    }
}
