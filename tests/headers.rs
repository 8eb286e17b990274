//! What the upstream sees, told by the upstream: uvicorn answers with the head as a Python
//! application got it.

use serde_json::{Value, json};

use crate::support::admin::Key;
use crate::support::http::{Connection, Request};
use crate::support::stage::{OPEN_ROUTE, Stage};
use crate::support::upstream::Upstream;

const ROUTES: &str = r#"
[headers]
underscore = "keep"
remove = ["x-middleware-subrequest", "x-internal"]
[[routes]]
name = "public"
path = "/public"
upstream = "app"
auth = "none"
[[routes]]
name = "permission"
path = "/clusters/{cluster}"
upstream = "app"
require = { permission = "cluster:read", resource = "cluster/{cluster}" }
[[routes]]
name = "all"
path = "/{*rest}"
upstream = "app"
authenticated_only = true
"#;

fn stage(config: &str) -> (Stage, Key) {
    let stage = Stage::with(Upstream::uvicorn(), config);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    (stage, key)
}

/// Values under a name as CGI, WSGI and Rack spell it.
fn seen(answer: &Value, name: &str) -> Vec<String> {
    let values = answer["environ"][name].as_array().cloned().unwrap_or_default();
    values.iter().map(|value| value.as_str().expect("text").to_owned()).collect()
}

/// Spellings that some server or framework folds into the same name.
fn spellings(name: &str) -> Vec<String> {
    let title = |c: char| {
        name.split('-')
            .map(|part| part[..1].to_uppercase() + &part[1..])
            .collect::<Vec<_>>()
            .join(&c.to_string())
    };
    vec![
        name.to_owned(),
        name.to_uppercase(),
        title('-'),
        name.replace('-', "_"),
        title('_'),
        name.replacen('-', "_", 1),
        name.replace('-', "."),
        name.replacen('-', "+", 1),
        name.replacen('-', "~", 1),
        name.replacen('-', "!", 1),
        name.replacen('-', "'", 1),
        name.replacen('-', "*", 1),
    ]
}

const IDENTITY: [&str; 9] = [
    "x-auth-subject",
    "x-auth-org",
    "x-auth-key-id",
    "x-auth-username",
    "x-auth-scopes",
    "x-auth-resource",
    "x-auth-method",
    "x-auth-seq",
    "portcullis-request-id",
];

#[test]
fn no_spelling_of_an_identity_header_gets_through_and_ours_arrive_once() {
    let (stage, key) = stage(ROUTES);
    let mut names: Vec<String> = IDENTITY.iter().flat_map(|name| spellings(name)).collect();
    names.extend([
        "x-auth-anything-else".to_owned(),
        "portcullis-anything".to_owned(),
        "X_Auth_Roles".to_owned(),
    ]);
    let mut connection = Connection::open(stage.program.gateway());
    for name in &names {
        for path in ["/private", "/public"] {
            let request = Request::get(path).header(name, "forged").bearer(&key.value);
            let answer = connection.exchange(&request).expect_status(200);
            assert!(!answer.text().contains("forged"), "{name} on {path}: {}", answer.text());
            let answer = answer.json();
            let once = usize::from(path == "/private");
            for identity in ["HTTP_X_AUTH_SUBJECT", "HTTP_X_AUTH_ORG", "HTTP_X_AUTH_KEY_ID"] {
                assert_eq!(seen(&answer, identity).len(), once, "{identity} with {name} on {path}");
            }
        }
    }
}

#[test]
fn the_upstream_learns_who_called_and_with_what_right() {
    let (stage, _) = stage(ROUTES);
    stage.owner.resource("cluster", "c1");
    let account = stage.owner.account_from(&json!({"username": "nightly build"}));
    stage.owner.bind(&account, "viewer", &stage.owner.root());
    let key = stage.owner.key(&account, "key");
    let answer = stage.send(&Request::get("/clusters/c1").bearer(&key.value)).expect_status(200);
    let request_id = answer.header("portcullis-request-id").map(str::to_owned);
    let answer = answer.json();
    let one = |name: &str| {
        let values = seen(&answer, name);
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values.into_iter().next().unwrap_or_default()
    };
    assert_eq!(one("HTTP_X_AUTH_SUBJECT"), account.id);
    assert_eq!(stage.owner.organization, format!("/v1/organizations/{}", one("HTTP_X_AUTH_ORG")));
    assert_eq!(one("HTTP_X_AUTH_KEY_ID"), key.id);
    assert_eq!(one("HTTP_X_AUTH_USERNAME"), "nightly%20build");
    assert_eq!(one("HTTP_X_AUTH_SCOPES"), "cluster:read");
    assert_eq!(one("HTTP_X_AUTH_RESOURCE"), "cluster/c1");
    assert_eq!(one("HTTP_X_AUTH_METHOD"), "key");
    let (epoch, seq) = one("HTTP_X_AUTH_SEQ")
        .split_once('.')
        .map(|(e, s)| (e.to_owned(), s.to_owned()))
        .expect("epoch.seq");
    assert!(epoch.parse::<u64>().is_ok() && seq.parse::<u64>().is_ok());
    assert_eq!(one("HTTP_PORTCULLIS_REQUEST_ID").len(), 32);
    if let Some(id) = request_id {
        assert_eq!(one("HTTP_PORTCULLIS_REQUEST_ID"), id, "one id for upstream and caller");
    }
    assert_eq!(one("HTTP_VIA"), "1.1 portcullis");
}

#[test]
fn the_credential_never_reaches_the_upstream() {
    let config = r#"
[[routes]]
name = "all"
path = "/{*rest}"
upstream = "app"
authenticated_only = true
credentials = ["bearer", "header:x-api-key", "basic", "query:api_key", "cookie:session"]
"#;
    let (stage, key) = stage(config);
    let (tail, value) = (&key.value[key.value.len() - 49..], &key.value);
    let basic = |text: String| {
        use base64::Engine as _;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    };
    let cases = [
        Request::get("/a").bearer(value),
        Request::get("/a").header("X-Api-Key", value),
        Request::get("/a").header("Authorization", &basic(format!("{}:{tail}", key.id))),
        Request::get("/a").header("Authorization", &basic(format!("anything:{value}"))),
        Request::get("/a").header("Authorization", &basic(format!("{value}:"))),
        Request::get(&format!("/a?api_key={value}")),
        Request::get(&format!("/a?x=1&api_key={value}&y=%20"))
            .header("Referer", &format!("http://x/?api_key={value}")),
        Request::get("/a").header("Cookie", &format!("a=1; session={value}; b=2")),
    ];
    for request in cases {
        let answer = stage.send(&request).expect_status(200);
        let (secret, basic_secret) =
            (answer.text().contains(&tail[..20]), answer.text().contains("Basic"));
        assert!(!secret && !basic_secret, "{}", answer.text());
    }
    let answer = stage.send(&Request::get(&format!("/a?x=1&api_key={value}&y=%20"))).json();
    assert_eq!(answer["query"], "x=1&y=%20", "the rest of the query stays byte for byte");
    let answer = stage
        .send(&Request::get("/a").header("Cookie", &format!("a=1; session={value}; b=2")))
        .json();
    assert_eq!(seen(&answer, "HTTP_COOKIE"), ["a=1; b=2"]);
    // Two sources at once are never "first wins".
    let both = Request::get("/a").bearer(value).header("X-Api-Key", value);
    assert_eq!(stage.send(&both).expect_status(400).code(), "invalid_request");
}

#[test]
fn hop_by_hop_and_override_headers_end_here() {
    let (stage, key) = stage(ROUTES);
    let dropped = [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("TE", "gzip"),
        ("Trailer", "X-Sum"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-HTTP-Method", "DELETE"),
        ("X-Method-Override", "DELETE"),
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X-Forwarded-Prefix", "/admin"),
        ("X-Middleware-Subrequest", "middleware"),
        ("X-Internal", "1"),
        ("X-Nominated", "1"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ];
    let mut request =
        Request::get("/a").bearer(&key.value).header("Connection", "keep-alive, x-nominated");
    for (name, value) in dropped {
        request = request.header(name, value);
    }
    let request = request.header("X-Kept", "yes").header("Accept", "a").header("Accept", "b");
    let answer = stage.send(&request).expect_status(200).json();
    for (name, _) in dropped {
        let folded = format!("HTTP_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(seen(&answer, &folded), Vec::<String>::new(), "{name}");
    }
    assert_eq!(seen(&answer, "HTTP_X_KEPT"), ["yes"]);
    assert_eq!(seen(&answer, "HTTP_ACCEPT"), ["a", "b"]);
    assert_eq!(answer["method"], "GET");
}

#[test]
fn nominating_a_field_that_protects_somebody_is_refused() {
    let (stage, key) = stage(ROUTES);
    for nominated in [
        "host",
        "content-length",
        "authorization",
        "cookie",
        "x-auth-org",
        "X-Auth-Org",
        "x_auth_org",
        "portcullis-request-id",
        "x-forwarded-for",
        "forwarded",
        "transfer-encoding",
    ] {
        let request = Request::get("/a").bearer(&key.value).header("Connection", nominated);
        assert_eq!(stage.send(&request).status, 400, "{nominated}");
    }
    let many: Vec<String> = (0..11).map(|n| format!("x-{n}")).collect();
    let request = Request::get("/a").bearer(&key.value).header("Connection", &many.join(", "));
    assert_eq!(stage.send(&request).status, 400, "more than ten names");
}

#[test]
fn forwarding_fields_say_what_the_socket_says() {
    let (stage, key) = stage(ROUTES);
    let request = Request::get("/a")
        .bearer(&key.value)
        .header("Host", "api.example.com")
        .header("X-Forwarded-For", "1.2.3.4")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.example")
        .header("Forwarded", "for=1.2.3.4");
    let answer = stage.send(&request).expect_status(200).json();
    assert_eq!(seen(&answer, "HTTP_X_FORWARDED_FOR"), ["127.0.0.1"]);
    assert_eq!(seen(&answer, "HTTP_X_FORWARDED_PROTO"), ["http"]);
    assert_eq!(seen(&answer, "HTTP_X_FORWARDED_HOST"), ["api.example.com"]);
    let forwarded = seen(&answer, "HTTP_FORWARDED");
    assert_eq!(forwarded.len(), 1);
    assert!(
        forwarded[0].contains("for=127.0.0.1") && !forwarded[0].contains("1.2.3.4"),
        "{forwarded:?}"
    );
}

#[test]
fn a_trusted_proxy_is_believed_up_to_the_rightmost_stranger() {
    let config = format!(
        "{OPEN_ROUTE}\n[[listeners]]\nname = \"edge\"\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n"
    );
    let (stage, key) = stage(&config);
    let request = Request::get("/a")
        .bearer(&key.value)
        .header("X-Forwarded-For", "6.6.6.6, 9.9.9.9, 10.1.1.1");
    let answer = stage.send(&request).expect_status(200).json();
    assert_eq!(seen(&answer, "HTTP_X_FORWARDED_FOR"), ["6.6.6.6, 9.9.9.9, 10.1.1.1, 127.0.0.1"]);
    assert_eq!(stage.records(1)[0]["client"], "9.9.9.9");
}

#[test]
fn an_upstream_cannot_speak_in_our_name() {
    let (stage, key) = stage(ROUTES);
    let answer = stage.send(&Request::get("/forge").bearer(&key.value)).expect_status(200);
    assert_eq!(answer.header("x-auth-subject"), None);
    assert_ne!(answer.header("portcullis-request-id"), Some("forged"));
    assert_eq!(answer.header("x-kept"), Some("yes"));
}

#[test]
fn a_request_id_of_the_caller_passes_if_it_is_harmless() {
    let (stage, key) = stage(ROUTES);
    let sent = |id: &str| {
        let request = Request::get("/a").bearer(&key.value).header("X-Request-Id", id);
        seen(&stage.send(&request).expect_status(200).json(), "HTTP_X_REQUEST_ID")
    };
    assert_eq!(sent("abc-123_X.y"), ["abc-123_X.y"]);
    assert!(!sent("no spaces").contains(&"no spaces".to_owned()));
    assert!(!sent(&"x".repeat(65)).contains(&"x".repeat(65)));
}

#[test]
fn bodies_arrive_whole_whatever_their_framing() {
    let (stage, key) = stage(ROUTES);
    let body = "x".repeat(100_000);
    let known = Request::new("POST", "/a").bearer(&key.value).body(body.clone());
    let answer = stage.send(&known).expect_status(200).json();
    assert_eq!(answer["body_length"], 100_000);
    assert_eq!(seen(&answer, "HTTP_CONTENT_LENGTH"), ["100000"]);
    let sum = answer["body_sha256"].clone();

    let mut chunked = String::new();
    for part in body.as_bytes().chunks(777) {
        chunked += &format!("{:x}\r\n{}\r\n", part.len(), "x".repeat(part.len()));
    }
    let chunked = Request::new("PUT", "/a")
        .bearer(&key.value)
        .header("Transfer-Encoding", "chunked")
        .body(chunked + "0\r\n\r\n");
    let answer = stage.send(&chunked).expect_status(200).json();
    assert_eq!((answer["body_length"].as_u64(), &answer["body_sha256"]), (Some(100_000), &sum));
    assert_eq!(answer["method"], "PUT");

    let expecting = Request::new("POST", "/a")
        .bearer(&key.value)
        .header("Expect", "100-continue")
        .body("hello");
    let answer = stage.send(&expecting).expect_status(200).json();
    assert_eq!(answer["body_length"], 5);
    assert_eq!(seen(&answer, "HTTP_EXPECT"), Vec::<String>::new());
}

#[test]
fn statuses_of_the_upstream_pass_as_they_are() {
    let (stage, key) = stage(ROUTES);
    for status in [200, 201, 204, 304, 401, 403, 404, 418, 429, 500, 503] {
        let answer = stage.send(&Request::get(&format!("/status/{status}")).bearer(&key.value));
        assert_eq!(answer.status, status);
    }
    let head = stage.send(&Request::new("HEAD", "/a").bearer(&key.value)).expect_status(200);
    assert!(head.body.is_empty());
}
