//! I-16: references across organizations are impossible. Every place of every operation that takes
//! an id is found in the document; there, an id of another organization is answered like one that
//! nothing has, and changes nothing in either organization.

use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::document::{Described, operations};
use crate::harness::Answer;
use crate::pair::{MADE, Noun, Pair};

/// Members of a body of which one excludes the others.
const EXCLUSIVE: [&str; 6] = ["all", "ids", "key_id", "service_account_id", "user_id", "value"];

/// Where an id stands.
#[derive(Clone, Debug)]
enum Place {
    /// The names on the way; `[]` is the first item of a list.
    Body(Vec<&'static str>),
    Path(&'static str),
    Query(&'static str),
}

/// A place that takes an id, and of what.
#[derive(Clone)]
struct Slot {
    described: Described,
    place: Place,
    noun: Noun,
    /// What stands beside it as `kind`.
    kind: Option<&'static str>,
}

impl Slot {
    fn what(&self) -> String {
        format!("{} {:?} {:?}", self.described.id(), self.place, self.noun)
    }
}

/// All places of all operations of organizations.
fn slots() -> Vec<Slot> {
    let mut found = Vec::new();
    for described in operations() {
        if described.operation.get("security").is_some() || !described.path.contains("/v1/") {
            continue;
        }
        let mut add = |place: Place, name: &str| {
            for noun in Noun::of(described.path, name) {
                found.push(Slot { described, place: place.clone(), noun, kind: None });
            }
        };
        for name in described.path.split('{').skip(1) {
            let name = name.split('}').next().unwrap();
            if !["org", "gateway", "seq"].contains(&name) {
                assert!(!Noun::of(described.path, name).is_empty(), "of what is {{{name}}}?");
                add(Place::Path(name), name);
            }
        }
        for parameter in described.operation["parameters"].as_array().into_iter().flatten() {
            if let (Some(name), "query") =
                (parameter["name"].as_str(), parameter["in"].as_str().unwrap_or_default())
            {
                add(Place::Query(name), name);
            }
        }
        if let Some((schema, _)) = described.body() {
            in_body(described, schema, &[], &mut found);
        }
    }
    found
}

fn in_body(
    described: Described,
    schema: &'static Value,
    way: &[&'static str],
    found: &mut Vec<Slot>,
) {
    if let Some(items) = schema.get("items") {
        in_body(described, items, &[way, &["[]"]].concat(), found);
        return;
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let here = [way, &[name.as_str()]].concat();
        let is_list = member["items"]["type"] == "string";
        let leaf = if is_list { &member["items"] } else { member };
        // This is how the reader of ids describes itself.
        let is_id = leaf["pattern"] == "^[!-~]*$" && leaf["maxLength"] == 64;
        if !is_id {
            in_body(described, member, &here, found);
            continue;
        }
        let place = Place::Body(if is_list { [&here[..], &["[]"]].concat() } else { here });
        let kinds = schema["properties"]["kind"]["enum"].as_array().filter(|_| name == "id");
        let nouns: Vec<(Noun, Option<&'static str>)> = match kinds {
            Some(kinds) => kinds
                .iter()
                .filter_map(Value::as_str)
                .map(|kind| (Noun::of_kind(kind), Some(kind)))
                .collect(),
            None => Noun::of(described.path, name).into_iter().map(|noun| (noun, None)).collect(),
        };
        assert!(!nouns.is_empty(), "{}: of what is {name}?", described.id());
        found.extend(nouns.into_iter().map(|(noun, kind)| Slot {
            described,
            place: place.clone(),
            noun,
            kind,
        }));
    }
}

/// Asks with an id of the other organization and with one of nobody: the same answer, and
/// nothing is changed.
async fn probe(pair: &Pair, slot: &Slot, which: usize, index: usize) -> Answer {
    let ids = &pair.sides[1 - which].ids[&slot.noun];
    let foreign = &ids[index % ids.len()];
    let seq = pair.seq().await;
    let theirs = call(pair, slot, which, foreign).await;
    assert_eq!(pair.seq().await, seq, "{} changed something: {}", slot.what(), theirs.text);
    let nobodys = call(pair, slot, which, slot.noun.missing()).await;
    assert_eq!(pair.seq().await, seq, "{} changed something: {}", slot.what(), nobodys.text);
    assert_eq!(
        comparable(&theirs, foreign),
        comparable(&nobodys, slot.noun.missing()),
        "{}",
        slot.what()
    );
    theirs
}

async fn call(pair: &Pair, slot: &Slot, which: usize, id: &str) -> Answer {
    let Slot { described, place, .. } = slot;
    let mut path = match place {
        Place::Path(name) => pair.path(which, described, name, id),
        Place::Body(_) | Place::Query(_) => pair.path(which, described, "", ""),
    };
    if let Place::Query(name) = place {
        path = format!("{path}?{name}={id}");
    }
    let ask = pair.ask(which, described, &path);
    let Some(mut body) = pair.body(which, described) else { return ask.send().await };
    if let Place::Body(way) = place {
        put(pair, slot, which, way, &mut body, id);
    }
    ask.json(body).send().await
}

/// Puts an id at its place in a body, with what must stand around it.
fn put(pair: &Pair, slot: &Slot, which: usize, way: &[&str], body: &mut Value, id: &str) {
    let (mut under, _) = slot.described.body().unwrap();
    if EXCLUSIVE.contains(&way[0]) {
        body.as_object_mut().unwrap().retain(|name, _| !EXCLUSIVE.contains(&name.as_str()));
    }
    let mut at = body;
    for (depth, name) in way.iter().enumerate() {
        if let (Some(kind), true) = (slot.kind, depth + 1 == way.len()) {
            at["kind"] = json!(kind);
        }
        if *name == "[]" {
            under = &under["items"];
            if at[0].is_null() {
                *at = json!([pair.sample(which, &slot.described, under, "")]);
            }
            at = &mut at[0];
        } else {
            under = &under["properties"][*name];
            if at[*name].is_null() {
                at[*name] = pair.sample(which, &slot.described, under, name);
            }
            at = &mut at[*name];
        }
    }
    *at = json!(id);
}

/// Everything of an answer but the request's id and the id that was asked about.
fn comparable(answer: &Answer, id: &str) -> (u16, Vec<(String, String)>, String) {
    let mut body = answer.body.clone();
    if let Some(members) = body.as_object_mut() {
        members.remove("request_id");
    }
    let mut headers: Vec<(String, String)> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["x-request-id", "content-length", "date"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().replace(id, "<id>")))
        .collect();
    headers.sort();
    (answer.status.as_u16(), headers, body.to_string().replace(id, "<id>"))
}

/// Every row of an organization, without what asking itself leaves behind: events and usage.
async fn exported(pair: &Pair, which: usize) -> Vec<String> {
    let text = pair.send(which, Method::GET, "/export", None).await.text;
    let mut rows = Vec::new();
    for line in text.lines() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let table = line["table"].as_str().unwrap_or_default().to_owned();
        if table.is_empty() || table == "audit_events" || table.contains("usage") {
            continue;
        }
        let row = line["row"].as_object_mut().unwrap();
        row.retain(|name, _| !name.contains("used") && !name.ends_with("_count"));
        rows.push(format!("{table} {}", line["row"]));
    }
    rows
}

#[tokio::test]
async fn i_16_every_place_that_takes_an_id_takes_those_of_its_organization_only() {
    let pair = Pair::new().await;
    let before = [exported(&pair, 0).await, exported(&pair, 1).await];
    let mut faults = Vec::new();
    let slots = slots();
    for slot in &slots {
        let answer = probe(&pair, slot, 0, 0).await;
        let fault = &answer.body["errors"][0]["code"];
        let results = answer.body["results"].as_array();
        let missing = results.is_some_and(|results| results.iter().all(|one| one["status"] == 404));
        let fits = match answer.status.as_u16() {
            404 => true,
            // Nobody has a permission on a resource that is not there.
            403 => slot.noun == Noun::Resource && answer.body["code"] == "permission_denied",
            422 => fault == "unknown_reference",
            // A filter finds nothing, and what is asked about does not exist.
            200 => missing || answer.body["items"] == json!([]) || answer.body["usable"] == false,
            _ => false,
        };
        if !fits {
            faults.push(format!("{}: {} {}", slot.what(), answer.status, answer.text));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(slots.len() > 150, "{}", slots.len());
    for (which, before) in before.iter().enumerate() {
        assert!(before.len() > 10);
        let after = exported(&pair, which).await;
        let changed: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
        assert!(changed.is_empty() && after.len() == before.len(), "{changed:?}");
    }
}

/// Something that happens. Numbers pick a place, or a thing among those there are.
#[derive(Clone, Debug)]
enum Step {
    End { which: bool, noun: usize, index: usize },
    Make { which: bool, noun: usize },
    Probe { which: bool, slot: usize, index: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let noun = || 0..MADE.len();
    prop_oneof![
        1 => (any::<bool>(), noun(), any::<usize>())
            .prop_map(|(which, noun, index)| Step::End { which, noun, index }),
        2 => (any::<bool>(), noun()).prop_map(|(which, noun)| Step::Make { which, noun }),
        6 => (any::<bool>(), any::<usize>(), any::<usize>())
            .prop_map(|(which, slot, index)| Step::Probe { which, slot, index }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// I-16, whatever either organization has done before.
    #[test]
    fn i_16_ids_of_another_organization_look_missing_after_any_sequence_of_operations(
        steps in proptest::collection::vec(step(), 1..96)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let slots = slots();
            let mut pair = Pair::new().await;
            for step in &steps {
                match *step {
                    Step::End { which, noun, index } => {
                        pair.end(usize::from(which), MADE[noun], index).await;
                    }
                    Step::Make { which, noun } => {
                        pair.make(usize::from(which), MADE[noun]).await;
                    }
                    Step::Probe { which, slot, index } => {
                        let slot = &slots[slot % slots.len()];
                        probe(&pair, slot, usize::from(which), index).await;
                    }
                }
            }
            pair.plant.stop().await;
        });
    }
}
