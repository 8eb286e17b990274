//! Versions and final states, for every operation that the document says has them: 412, 428, 409,
//! and 404 for what is deleted.

use reqwest::Method;
use serde_json::json;

use crate::document::{Described, operations};
use crate::harness::Answer;
use crate::pair::{MADE, Noun, Pair};

/// The operations that take `If-Match`.
fn versioned() -> Vec<Described> {
    operations().into_iter().filter(|described| described.has_parameter("If-Match")).collect()
}

/// Asks for what the document's example asks for, at the first of everything there is.
async fn asked(pair: &Pair, described: &Described, path: &str, if_match: Option<&str>) -> Answer {
    let mut ask = pair.ask(0, described, path);
    if let Some(body) = pair.body(0, described) {
        ask = ask.json(body);
    }
    match if_match {
        Some(tag) => ask.header("if-match", tag).send().await,
        None => ask.send().await,
    }
}

#[tokio::test]
async fn a_version_that_is_not_the_object_s_is_412_everywhere_and_changes_nothing() {
    let pair = Pair::new().await;
    let seq = pair.seq().await;
    let all = versioned();
    for described in &all {
        let path = pair.path(0, described, "", "");
        for stale in ["\"999\"", "\"0\"", "W/\"1\"", "\"999\", \"998\"", "1"] {
            let answer = asked(&pair, described, &path, Some(stale)).await;
            let found = (answer.status.as_u16(), answer.body["code"].as_str());
            let what = format!("{} with {stale}: {}", described.id(), answer.text);
            assert_eq!(found, (412, Some("precondition_failed")), "{what}");
        }
    }
    assert!(all.len() > 30, "{}", all.len());
    assert_eq!(pair.seq().await, seq, "nothing was changed");
}

#[tokio::test]
async fn the_version_that_was_read_is_taken_once() {
    let pair = Pair::new().await;
    let mut all = versioned();
    // What ends something comes last, from the inside out; an organization is suspended at the end.
    let last = |described: &Described| {
        let ends = ["delete", "revoke", "suspend"].iter().any(|end| described.id().ends_with(end));
        (ends, std::cmp::Reverse(described.path.matches('/').count()))
    };
    all.sort_by_key(last);
    for described in &all {
        let path = pair.path(0, described, "", "");
        let object = match path.rsplit_once('/') {
            Some((above, name)) if name.contains(':') => {
                format!("{above}/{}", name.split(':').next().unwrap())
            }
            _ => path.clone(),
        };
        let read = pair.plant.get(&object).await;
        if read.status == 404 || read.status == 401 {
            continue;
        }
        let tag = read.header("etag").to_owned();
        assert!(tag.starts_with('"'), "{}: {}", described.id(), read.text);
        let answer = asked(&pair, described, &path, Some(&tag)).await;
        let what = format!("{} with {tag}: {}", described.id(), answer.text);
        assert_ne!(answer.status, 412, "{what}");
        // What has changed the object is not taken again.
        let changed = answer.status.is_success() && answer.header("etag") != tag;
        if changed && described.method != "delete" {
            let again = asked(&pair, described, &path, Some(&tag)).await;
            assert!([401, 412].contains(&again.status.as_u16()), "{what}, again {}", again.text);
        }
    }
}

#[tokio::test]
async fn where_versions_are_required_a_change_without_one_is_428() {
    let pair = Pair::new().await;
    let policy = json!({"require_if_match": true});
    assert_eq!(pair.send(0, Method::PATCH, "/policy", Some(policy)).await.status, 200);
    let seq = pair.seq().await;
    let mut required = 0;
    for described in operations() {
        let takes = described.has_parameter("If-Match");
        let wanted = takes && ["patch", "delete"].contains(&described.method);
        assert_eq!(described.answers(428), wanted, "{}", described.id());
        if wanted {
            let path = pair.path(0, &described, "", "");
            let answer = asked(&pair, &described, &path, None).await;
            let found = (answer.status.as_u16(), answer.body["code"].as_str());
            let what = format!("{}: {}", described.id(), answer.text);
            assert_eq!(found, (428, Some("precondition_required")), "{what}");
            required += 1;
        }
    }
    assert!(required > 14, "{required}");
    assert_eq!(pair.seq().await, seq, "nothing was changed");
}

/// What may still be done to a revoked account: it can be deleted, revoked again, and loses what it
/// was given.
const AFTER_THE_END: [&str; 8] = [
    "access.delete",
    "account_group.delete",
    "api_key.batch",
    "api_key.delete",
    "api_key.revoke",
    "service_account.batch",
    "service_account.delete",
    "service_account.revoke",
];

#[tokio::test]
async fn what_is_revoked_refuses_every_change_but_its_deletion() {
    let pair = Pair::new().await;
    let path = format!("/service-accounts/{}:revoke", pair.own(0, Noun::Account));
    let revoked = pair.send(0, Method::POST, &path, None).await;
    assert_eq!(revoked.status, 200);
    let seq = pair.seq().await;
    let mut faults = Vec::new();
    for described in operations() {
        let of_account = described.path.contains("{sa}") && described.method != "get";
        if !of_account || AFTER_THE_END.contains(&described.id()) {
            continue;
        }
        let path = pair.path(0, &described, "", "");
        let answer = asked(&pair, &described, &path, None).await;
        let found = (answer.status.as_u16(), answer.body["code"].as_str());
        if found != (409, Some("state_terminal")) {
            faults.push(format!("{}: {}", described.id(), answer.text));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(pair.seq().await, seq, "nothing was changed");
}

#[tokio::test]
async fn what_is_deleted_is_missing_for_every_operation_on_it() {
    let mut pair = Pair::new().await;
    let mut faults = Vec::new();
    for noun in MADE {
        if noun == Noun::Binding {
            // The same binding cannot be made twice.
            pair.make(0, Noun::Role).await;
        }
        pair.make(0, noun).await;
        pair.end(0, noun, 0).await;
        let id = pair.sides[0].ids[&noun][1].clone();
        let seq = pair.seq().await;
        for described in operations() {
            for name in described.path.split('{').skip(1) {
                let name = name.split('}').next().unwrap();
                if Noun::of(described.path, name).first() != Some(&noun) {
                    continue;
                }
                let path = pair.path(0, &described, name, &id);
                let answer = asked(&pair, &described, &path, None).await;
                if answer.status != 404 {
                    faults.push(format!("{} {name}: {}", described.id(), answer.text));
                }
            }
        }
        assert_eq!(pair.seq().await, seq, "nothing was changed");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
