//! What a caller may do follows every change at once, whatever was resolved for it before.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Plant;

/// Somebody with one right, and ways to take it and give it back.
struct Caller {
    plant: Plant,
    value: String,
}

impl Caller {
    /// The status of a read, and of a write that is refused for its body if it is let in.
    async fn statuses(&self) -> (u16, u16) {
        let accounts = self.plant.o("/service-accounts");
        let read = self.plant.ask(Method::GET, &accounts).token(&self.value).send().await;
        let write = self.plant.ask(Method::POST, &accounts).token(&self.value).json(json!({}));
        (read.status.as_u16(), write.send().await.status.as_u16())
    }

    async fn change(&self, method: Method, path: &str, body: Value, allowed: bool) {
        // Twice before, so that it is remembered.
        let before = if allowed { (403, 403) } else { (200, 422) };
        let after = if allowed { (200, 422) } else { (403, 403) };
        for _ in 0..2 {
            assert_eq!(self.statuses().await, before, "before {method} {path}");
        }
        let done = self.plant.ask(method.clone(), &self.plant.o(path)).json(body).send().await;
        assert!(done.status.is_success(), "{method} {path}: {}", done.text);
        assert_eq!(self.statuses().await, after, "after {method} {path}");
    }
}

#[tokio::test]
async fn the_next_call_follows_bindings_roles_groups_and_policies() {
    let plant = Plant::start().await;
    let (account, _, value) = plant.agent("ci", None).await;
    let root = plant.root.clone();
    let (on, off) = (true, false);
    let rights = ["service_account:read", "service_account:create", "api_key:read"];
    let role = plant.post(&plant.o("/roles"), json!({"name": "r", "permissions": rights})).await;
    let role = role.text("/role/id");
    let group = plant.post(&plant.o("/groups"), json!({"name": "g"})).await.text("/group/id");
    let caller = Caller { plant, value };
    let bind = |kind: &str, id: &str| json!({"role_id": role, "resource_id": root, "subject": {"kind": kind, "id": id}});

    let own = bind("service_account", &account);
    caller.change(Method::POST, "/role-bindings", own, on).await;
    let path = format!("/roles/{role}");
    caller.change(Method::PATCH, &path, json!({"permissions": ["api_key:read"]}), off).await;
    caller.change(Method::PATCH, &path, json!({"permissions": rights}), on).await;
    let list =
        caller.plant.get(&caller.plant.o(&format!("/role-bindings?subject_id={account}"))).await;
    let binding = format!("/role-bindings/{}", list.text("/items/0/id"));
    caller.change(Method::DELETE, &binding, json!({}), off).await;

    let of_group = bind("group", &group);
    let made = caller.plant.post(&caller.plant.o("/role-bindings"), of_group).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let members = format!("/groups/{group}/members");
    let member = json!({"principal": {"kind": "service_account", "id": account}});
    caller.change(Method::POST, &members, member, on).await;
    caller.change(Method::DELETE, &format!("{members}/{account}"), json!({}), off).await;

    let bundle = json!({"name": "p", "bindings": [bind("service_account", &account)]});
    let made = caller.plant.post(&caller.plant.o("/security-policies"), bundle).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = format!("/security-policies/{}", made.text("/security_policy/id"));
    caller.change(Method::PATCH, &path, json!({"enabled": false}), off).await;
    caller.change(Method::PATCH, &path, json!({"enabled": true}), on).await;
}
