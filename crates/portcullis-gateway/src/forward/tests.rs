use super::*;

fn rules() -> HeaderRules {
    HeaderRules::new(
        "x-auth-",
        Underscore::Keep,
        vec![HeaderName::from_static("x-middleware-subrequest")],
        vec![HeaderName::from_static("x-api-key")],
    )
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_static(value));
    }
    headers
}

/// Names that are left after the removal.
fn left(lines: &[(&'static str, &'static str)]) -> Result<Vec<String>, DenyReason> {
    let mut headers = headers(lines);
    let mut removal = Removal::default();
    rules().examine(&headers, &mut removal)?;
    removal.apply(&mut headers);
    Ok(headers.keys().map(|name| name.as_str().to_owned()).collect())
}

#[test]
fn reserved_names_go_under_any_spelling() {
    for name in [
        "X-Auth-Org",
        "x_auth_org",
        "X-Auth.Org",
        "x-auth!org",
        "x~auth-org",
        "X-AUTH-ANYTHING",
        "portcullis-request-id",
        "Portcullis_Seq",
        "x-forwarded-for",
        "X_Forwarded_For",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-prefix",
        "x-forwarded-uri",
        "forwarded",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-method-override",
        "x-http-method",
        "ratelimit",
        "ratelimit-policy",
        "x-middleware-subrequest",
    ] {
        let line = [(name, "1"), ("x-keep", "1")];
        assert_eq!(left(&line).unwrap(), ["x-keep"], "{name}");
    }
    let kept = ["x-author", "x-authentic", "x-forward", "portcullis", "forwarded-by", "x_other"];
    for name in kept {
        assert_eq!(left(&[(name, "1")]).unwrap(), [name]);
    }
}

#[test]
fn what_concerns_one_hop_goes() {
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "te",
        "trailer",
        "proxy-authorization",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "content-length",
    ] {
        assert!(left(&[(name, "x")]).unwrap().is_empty(), "{name}");
    }
    assert!(left(&[("expect", "100-Continue")]).unwrap().is_empty());
}

#[test]
fn nominated_fields_go_and_some_must_not_be_nominated() {
    let lines = [
        ("connection", "X-A, close"),
        ("connection", "x-b"),
        ("x-a", "1"),
        ("x-b", "1"),
        ("x-c", "1"),
    ];
    assert_eq!(left(&lines).unwrap(), ["x-c"]);
    for name in [
        "host",
        "content-length",
        "Transfer-Encoding",
        "authorization",
        "Cookie",
        "x-api-key",
        "x-forwarded-for",
        "forwarded",
        "X-Auth-Org",
        "x_auth_org",
        "portcullis-x",
        "x-request-id",
        "a b",
        "a,b,c,d,e,f,g,h,i,j,k",
    ] {
        assert_eq!(left(&[("connection", name)]), Err(DenyReason::BadRequest), "{name}");
    }
    assert!(left(&[("connection", "a,b,c,d,e,f,g,h,i,j,, close")]).is_ok());
}

#[test]
fn underscores_follow_the_policy() {
    let headers = headers(&[("x_other", "1")]);
    let mut rules = rules();
    for (policy, removed) in [
        (Underscore::Reject, Err(DenyReason::BadRequest)),
        (Underscore::Drop, Ok(1)),
        (Underscore::Keep, Ok(0)),
    ] {
        rules.underscore = policy;
        let mut removal = Removal::default();
        let examined = rules.examine(&headers, &mut removal).map(|_| removal.0.len());
        assert_eq!(examined, removed, "{policy:?}");
    }
}

#[test]
fn only_a_plain_request_id_passes() {
    assert_eq!(left(&[("x-request-id", "a-B_9.c")]).unwrap(), ["x-request-id"]);
    for id in ["", "a b", "a/b"] {
        assert!(left(&[("x-request-id", id)]).unwrap().is_empty(), "{id}");
    }
}

#[test]
fn a_response_loses_hop_and_reserved_fields_and_gains_a_via() {
    let mut headers = headers(&[
        ("connection", "x-hop, content-length"),
        ("x-hop", "1"),
        ("content-length", "2"),
        ("x-auth-org", "1"),
        ("portcullis-x", "1"),
        ("via", "1.0 other"),
        ("x-fine", "1"),
        ("upgrade", "h2c"),
    ]);
    rules().clean_response(&mut headers).unwrap();
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "via", "x-fine"]);
    assert_eq!(headers.get_all(VIA).iter().count(), 2);
}

#[test]
fn a_response_s_reserved_fields_go_under_any_spelling() {
    for name in ["x_auth_org", "x-auth.org", "X_Auth-Subject", "portcullis_seq", "portcullis.x"] {
        let mut headers = headers(&[(name, "1")]);
        rules().clean_response(&mut headers).unwrap();
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["via"], "{name}");
    }
    for name in ["x-author", "x_other", "ratelimit", "forwarded", "portcullis"] {
        let mut headers = headers(&[(name, "1")]);
        rules().clean_response(&mut headers).unwrap();
        assert!(headers.contains_key(name), "{name}");
    }
}

#[test]
fn a_response_may_nominate_ten_fields_and_no_more() {
    let clean = |value: &'static str| {
        let mut headers = headers(&[("connection", value), ("connection", "keep-alive, close")]);
        rules().clean_response(&mut headers)
    };
    assert_eq!(clean("a,b,c,d,e,f,g,h,i,j,, close"), Ok(()));
    assert_eq!(clean("a,b,c,d,e,f,g,h,i,j,k"), Err(DenyReason::UpstreamProtocol));
}

#[test]
fn a_response_framed_in_two_ways_is_a_protocol_failure() {
    for lines in [
        vec![("content-length", "2"), ("transfer-encoding", "chunked")],
        vec![("transfer-encoding", "gzip, chunked")],
        vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
    ] {
        let refused = rules().clean_response(&mut headers(&lines));
        assert_eq!(refused, Err(DenyReason::UpstreamProtocol), "{lines:?}");
    }
    let mut twice = headers(&[("content-length", "2"), ("content-length", "2")]);
    rules().clean_response(&mut twice).unwrap();
    assert_eq!(twice.get_all(CONTENT_LENGTH).iter().count(), 1);
}
