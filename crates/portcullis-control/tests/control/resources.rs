//! The resource tree.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Plant;

#[tokio::test]
async fn a_resource_is_created_renamed_moved_and_removed() {
    let plant = Plant::start().await;
    let w = plant.resource("workspace", "w").await;
    let body = json!({"kind": "cluster", "name": "k 1", "parent_id": w, "ref": "k1"});
    let made = plant.post(&plant.o("/resources"), body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let k = made.text("/resource/id");
    assert_eq!(made.body["resource"]["path"], json!([plant.root, w, k]));
    assert_eq!(made.text("/resource/ref"), "k1");
    let path = plant.o(&format!("/resources/{k}"));
    assert_eq!(plant.get(&path).await.body, made.body["resource"]);
    let body = json!({"name": "k one", "parent_id": plant.root});
    let moved = plant.patch(&path, body).await;
    assert_eq!(moved.body["resource"]["path"], json!([plant.root, k]));
    assert_eq!(moved.text("/resource/ref"), "k1");
    let list =
        plant.get(&plant.o(&format!("/resources?parent_id={}&kind=cluster", plant.root))).await;
    assert_eq!(list.body["items"], json!([moved.body["resource"]]));
    plant.patch(&path, json!({"ref": "x"})).await.assert_faults(&[("ref", "read_only")]);
    assert_eq!(plant.delete(&path).await.status, 200);
    plant.get(&path).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn the_tree_keeps_its_shape() {
    let plant = Plant::start().await;
    let mut parent = plant.root.clone();
    let mut chain = Vec::new();
    for depth in 2..=8 {
        let body = json!({"kind": "project", "name": format!("p{depth}"), "parent_id": parent});
        parent = plant.post(&plant.o("/resources"), body).await.text("/resource/id");
        chain.push(parent.clone());
    }
    let body = json!({"kind": "project", "name": "p9", "parent_id": parent});
    plant.post(&plant.o("/resources"), body).await.assert_problem(409, "depth_exceeded");
    let path = |id: &str| plant.o(&format!("/resources/{id}"));
    plant
        .patch(&path(&chain[0]), json!({"parent_id": chain[2]}))
        .await
        .assert_problem(409, "cycle");
    plant
        .patch(&path(&chain[0]), json!({"parent_id": chain[0]}))
        .await
        .assert_problem(409, "cycle");
    let other = plant.resource("project", "other").await;
    plant
        .patch(&path(&chain[0]), json!({"parent_id": other}))
        .await
        .assert_problem(409, "depth_exceeded");
    plant.delete(&path(&chain[0])).await.assert_problem(409, "resource_not_empty");
    plant.delete(&path(&plant.root)).await.assert_problem(409, "immutable_object");
    plant
        .post(&format!("{}:archive", path(&plant.root)), json!({}))
        .await
        .assert_problem(409, "immutable_object");
    plant
        .patch(&path(&plant.root), json!({"parent_id": other}))
        .await
        .assert_problem(409, "immutable_object");
    let body = json!({"kind": "organization", "name": "x", "parent_id": "nope", "ref": "a/b"});
    plant
        .post(&plant.o("/resources"), body)
        .await
        .assert_faults(&[("kind", "bad_format"), ("ref", "bad_format")]);
    let body = json!({"kind": "project", "name": "x", "parent_id": "nope"});
    plant
        .post(&plant.o("/resources"), body)
        .await
        .assert_faults(&[("parent_id", "unknown_reference")]);
}

#[tokio::test]
async fn a_ref_is_the_name_if_that_fits_and_is_free() {
    let plant = Plant::start().await;
    let reference = |answer: Value| answer["ref"].as_str().unwrap().to_owned();
    let first = plant.resource("cluster", "prod").await;
    let second = plant.resource("cluster", "prod").await;
    let spaced = plant.resource("cluster", "two words").await;
    let read = async |id: &str| plant.get(&plant.o(&format!("/resources/{id}"))).await.body;
    assert_eq!(reference(read(&first).await), "prod");
    assert_eq!(reference(read(&second).await), second);
    assert_eq!(reference(read(&spaced).await), spaced);
    let body = json!({"kind": "cluster", "name": "x", "ref": "prod"});
    plant.post(&plant.o("/resources"), body).await.assert_problem(409, "name_taken");
}

#[tokio::test]
async fn an_archived_resource_can_only_be_read() {
    let plant = Plant::start().await;
    let k = plant.resource("cluster", "k").await;
    let path = plant.o(&format!("/resources/{k}"));
    let archived = plant.post(&format!("{path}:archive"), json!({})).await;
    assert_eq!(archived.text("/resource/state"), "archived");
    let id = plant.account(json!({"username": "ci", "role_id": "member"})).await;
    assert_eq!(allowed(&plant, &id, &k, "cluster:read").await, json!(true));
    assert_eq!(allowed(&plant, &id, &k, "cluster:write").await, json!(false));
    let again = plant.post(&format!("{path}:archive"), json!({})).await;
    assert_eq!(again.body["resource"]["version"], archived.body["resource"]["version"]);
    plant.post(&format!("{path}:unarchive"), json!({})).await;
    assert_eq!(allowed(&plant, &id, &k, "cluster:write").await, json!(true));
}

async fn allowed(plant: &Plant, account: &str, resource: &str, permission: &str) -> Value {
    let body = json!({
        "service_account_id": account, "resource_id": resource, "permission": permission,
    });
    plant.post(&plant.o(":explain"), body).await.body["allowed"].clone()
}

#[tokio::test]
async fn moving_a_resource_cannot_hand_out_more_than_the_mover_has() {
    let plant = Plant::start().await;
    let (w, k) = (plant.resource("workspace", "w").await, plant.resource("cluster", "k").await);
    let (_, _, admin) = plant.agent("admin", Some("admin")).await;
    let body = json!({"username": "x", "bindings": [{"role_id": "owner", "resource_id": w}]});
    plant.account(body).await;
    let path = plant.o(&format!("/resources/{k}"));
    let ask = plant.ask(Method::PATCH, &path).token(&admin).json(json!({"parent_id": w}));
    ask.send().await.assert_problem(403, "privilege_escalation");
    assert_eq!(plant.patch(&path, json!({"parent_id": w})).await.status, 200);
}

#[tokio::test]
async fn removing_a_resource_takes_its_bindings_along() {
    let plant = Plant::start().await;
    let k = plant.resource("cluster", "k").await;
    let body = json!({"username": "x", "bindings": [{"role_id": "member", "resource_id": k}]});
    let id = plant.account(body).await;
    assert_eq!(plant.delete(&plant.o(&format!("/resources/{k}"))).await.status, 200);
    let left = plant.get(&plant.o(&format!("/role-bindings?subject_id={id}"))).await;
    assert_eq!(left.body["items"], json!([]));
}
