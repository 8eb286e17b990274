use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn canonical_form_is_rfc_8785_for_what_the_feed_allows() {
    let value = json!({"b": [1, -2, true, null], "a": "\u{8}\t\n\u{c}\r\"\\/\u{1f}\u{7f}é"});
    assert_eq!(
        canonical(&value),
        "{\"a\":\"\\b\\t\\n\\f\\r\\\"\\\\/\\u001f\u{7f}é\",\"b\":[1,-2,true,null]}"
    );
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for text in [
        r#"{"a":1,"a":1}"#,
        r#"{"x":{"a":1,"b":{"c":1,"c":2}}}"#,
        r#"{"a":1.5}"#,
        r#"{"a":1e3}"#,
        r#"{"a":9007199254740992}"#,
        r#"{"a":-9007199254740992}"#,
        r#"{"é":1}"#,
        r#"{"a":1} x"#,
        r#"{"a":1"#,
        "",
    ] {
        assert!(parse_strict(text.as_bytes()).is_err(), "{text}");
    }
    assert!(parse_distinct(br#"{"a":{"b":1,"b":1}}"#).is_err());
    assert!(parse_distinct(r#"{"ä":1.5,"b":18446744073709551615}"#.as_bytes()).is_ok());
    assert!(parse_strict(br#"{"a":9007199254740991,"b":-9007199254740991}"#).is_ok());
}

#[test]
fn the_lines_of_the_specification_are_read_and_written_back() {
    for text in [
        r#"{"at_ms":1795305600000,"cluster":"c7f3","epoch":7,"format":1,"line":"header","seq":18234}"#,
        r#"{"at_ms":5,"changes":[{"id":"063UfDVRKBz","kind":"key","op":"revoke"}],"epoch":7,"line":"txn","seq":18235}"#,
        r#"{"at_ms":5,"changes":[{"id":"o1","kind":"org","op":"put","record":{"state":"suspended"}},{"id":"x","kind":"role","op":"delete"},{"expires_at_ms":9,"id":"k","kind":"key","op":"revoke"}],"epoch":7,"line":"txn","seq":18236,"sig":"AA"}"#,
        r#"{"at_ms":6,"digest":"000000000000000000000000000000ff","epoch":7,"gateways":2,"line":"heartbeat","seq":18236}"#,
        r#"{"count":4,"digest":"000000000000000000000000000000ff","epoch":7,"line":"end","seq":1,"sha256":"ab"}"#,
    ] {
        let line = parse_line(text.as_bytes()).expect("a line of the specification");
        assert_eq!(line.to_json(), text);
    }
    for text in [
        r#"{"at_ms":5,"changes":[{"id":"m","kind":"moon","op":"put","record":{"a":1}},{"id":"m","kind":"moon","op":"delete"},{"id":"o1","kind":"org","op":"merge"}],"epoch":7,"line":"txn","seq":18235}"#,
        r#"{"id":"m","kind":"moon","record":{"a":1}}"#,
    ] {
        let line = parse_line(text.as_bytes()).expect("a line of a later build");
        assert_eq!(line.to_json(), text);
    }
    let record = br#"{"kind":"org","id":"o\"1","record":{"state":"active"}}"#;
    let line = parse_line(record).expect("a record line");
    assert_eq!(line.to_json().as_bytes(), record);
}

#[test]
fn a_line_that_cannot_be_read_names_the_member() {
    for (text, message) in [
        ("[]", "not a feed line: a line is a JSON object"),
        (r#"{"line":"dance"}"#, "line: header, end, heartbeat or txn; absent on a record"),
        (r#"{"line":7}"#, "line: header, end, heartbeat or txn; absent on a record"),
        (r#"{"kind":"org","record":{}}"#, "id: a string"),
        (r#"{"kind":"org","id":"o","record":[]}"#, "record: an object"),
        (
            r#"{"line":"txn","epoch":1,"seq":-1,"at_ms":0,"changes":[]}"#,
            "seq: an integer from 0 to 2^53-1",
        ),
        (r#"{"line":"txn","epoch":1,"seq":1,"at_ms":0}"#, "changes: an array of changes"),
        (
            r#"{"line":"txn","epoch":1,"seq":1,"at_ms":0,"changes":[{"kind":"org","id":"o"}]}"#,
            "op: a string",
        ),
    ] {
        let error = parse_line(text.as_bytes()).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
}

#[test]
fn an_unknown_critical_member_or_word_refuses_the_record() {
    let critical = json!({"parent": "org", "crit": ["frozen"]});
    assert!(read::<ResourceRecord>(&critical, &["archived"]).is_err());
    let understood = json!({"parent": "org", "archived": true, "crit": ["archived"], "new": 1});
    assert!(read::<ResourceRecord>(&understood, &["archived"]).expect("understood").archived);
    assert!(read::<OrgRecord>(&json!({"state": "asleep"}), &[]).is_err());
}

#[test]
fn a_digest_is_a_sum_that_forgets_order() {
    let record = |number: u64| json!({"permissions": [format!("a:{number}")]});
    let sums: Vec<_> =
        (0..5).map(|number| RecordSum::of(Kind::Role, "r", &record(number))).collect();
    let (mut forward, mut backward) = (StateDigest::default(), StateDigest::default());
    sums.iter().for_each(|sum| forward.add(*sum));
    sums.iter().rev().for_each(|sum| backward.add(*sum));
    assert_eq!(forward, backward);
    sums.iter().for_each(|sum| forward.remove(*sum));
    assert_eq!(forward, StateDigest::default());
    assert_eq!(backward.to_string().parse(), Ok(backward));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_line(&bytes);
    }

    #[test]
    fn strict_parsing_agrees_with_the_ordinary_parser(text in "[\\[\\]{}:,\"a-c0-9 ]{0,24}") {
        if let Ok(strict) = parse_strict(text.as_bytes()) {
            prop_assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(strict));
        }
    }
}
