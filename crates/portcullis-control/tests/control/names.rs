//! When two names are the same, for everything that has a unique name: names are compared composed
//! (NFC), and all but those of keys without case and outer space. Compatibility forms are other
//! names (service-accounts.md, K-13 and K-14).

use reqwest::Method;
use serde_json::json;

use crate::pair::{Noun, Pair};

const FIRST: &str = "Ko\u{308}ln Stra\u{df}e \u{3a3}";
/// The same in another case, form or place.
const SAME: [&str; 5] = [
    "Ko\u{308}ln Stra\u{df}e \u{3a3}",
    "K\u{f6}ln Stra\u{df}e \u{3a3}",
    "K\u{d6}LN STRASSE \u{3c3}",
    "kO\u{308}ln straSSe \u{3c2}",
    "\u{3000}k\u{f6}ln stra\u{df}e \u{3c3}\t",
];
/// Names that only look similar.
const OTHERS: [&str; 3] = [
    "Koln Stra\u{df}e \u{3a3}",
    "K\u{f6}ln-Stra\u{df}e \u{3a3}",
    "\u{ff2b}\u{f6}ln Stra\u{df}e \u{3a3}",
];

/// The nouns whose names are unique in an organization; the member, and whether it can be changed.
const FOLDED: [(Noun, &str, bool); 5] = [
    (Noun::Account, "username", true),
    (Noun::Group, "name", true),
    (Noun::Policy, "name", true),
    (Noun::Role, "name", true),
    (Noun::User, "username", false),
];

/// Creates with a taken name, and renames to it: 409 and nothing is changed.
async fn assert_taken(pair: &Pair, noun: Noun, member: &str, other: Option<&str>, name: &str) {
    let seq = pair.seq().await;
    let code = if member == "username" { "username_taken" } else { "name_taken" };
    pair.create(0, noun, name).await.assert_problem(409, code);
    if let Some(other) = other {
        let path = format!("{}/{other}", pair.folder(0, noun));
        let body = json!({member: name});
        pair.send(0, Method::PATCH, &path, Some(body)).await.assert_problem(409, code);
    }
    assert_eq!(pair.seq().await, seq, "{noun:?} {name}: nothing is changed");
}

#[tokio::test]
async fn a_name_is_taken_in_every_case_and_form_of_it() {
    let pair = Pair::new().await;
    for (noun, member, changes) in FOLDED {
        let made = pair.create(0, noun, FIRST).await;
        assert_eq!(made.status, 201, "{noun:?}: {}", made.text);
        let other = pair.own(0, noun);
        for same in SAME {
            assert_taken(&pair, noun, member, changes.then_some(other), same).await;
        }
        for name in OTHERS {
            let made = pair.create(0, noun, name).await;
            assert_eq!(made.status, 201, "{noun:?} {name}: {}", made.text);
        }
        // In the other organization it is free.
        assert_eq!(pair.create(1, noun, FIRST).await.status, 201, "{noun:?}");
        // Its own name in another form is not taken.
        if changes {
            let other = format!("{}/{other}", pair.folder(0, noun));
            for name in ["Name", "NAME"] {
                let renamed =
                    pair.send(0, Method::PATCH, &other, Some(json!({member: name}))).await;
                assert_eq!(renamed.status, 200, "{noun:?}: {}", renamed.text);
            }
        }
    }
}

#[tokio::test]
async fn the_name_of_a_key_is_taken_in_every_form_of_it_and_its_case_counts() {
    let pair = Pair::new().await;
    for noun in [Noun::AccountKey, Noun::UserKey] {
        assert_eq!(pair.create(0, noun, "Ko\u{308}ln").await.status, 201);
        let other = pair.own(0, noun);
        for same in ["Ko\u{308}ln", "K\u{f6}ln"] {
            assert_taken(&pair, noun, "name", Some(other), same).await;
        }
        for name in ["k\u{f6}ln", "KO\u{308}LN", "Koln", "\u{ff2b}\u{f6}ln"] {
            let made = pair.create(0, noun, name).await;
            assert_eq!(made.status, 201, "{noun:?} {name}: {}", made.text);
        }
    }
}

/// Names of resources and organizations are labels: ids tell them apart.
#[tokio::test]
async fn resources_and_organizations_may_share_a_name() {
    let pair = Pair::new().await;
    for _ in 0..2 {
        assert_eq!(pair.create(0, Noun::Resource, "twin").await.status, 201);
        let body = json!({"name": "twin", "owner": {"username": "root"}});
        let ask = pair.plant.ask(Method::POST, "/v1/organizations").token(&pair.plant.operator);
        assert_eq!(ask.json(body).send().await.status, 201);
    }
}
