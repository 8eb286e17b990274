//! The typed client against a running control plane: what it sends is taken, what comes back fits
//! its types, and a refusal is a value with its problem.

use portcullis::client::{Client, Failure, KeyPatch, NewAccount, NewKey, Rotation};

use crate::support::portcullis::Home;

#[test]
fn the_typed_client_and_the_admin_api_understand_each_other() {
    let home = Home::new();
    let args = ["control", "--data", "DATA", "--control", "127.0.0.1:0"];
    let portcullis = home.start(&args);
    let server = format!("http://{}", portcullis.control());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let http = reqwest::Client::new();
        let client = Client::new(http.clone(), &server, Some(home.token("admin-token").into()));
        let whoami = client.whoami().await.expect("the owner is known");
        assert_eq!(whoami.principal.kind, "user");
        let org = format!("/v1/organizations/{}", whoami.org_id.expect("an organization"));

        let new = NewAccount {
            username: "ci".to_owned(),
            role_id: Some("viewer".to_owned()),
            create_key: Some(NewKey { name: "main".to_owned(), ..NewKey::default() }),
            ..NewAccount::default()
        };
        let made = client.create_account(&org, &new).await;
        let made = made.map_err(|failure| failure.to_string()).expect("an account");
        let account = made.object.service_account;
        assert_eq!((account.username.as_str(), account.state.as_str()), ("ci", "active"));
        let first = made.object.key.expect("a first key");
        let value = made.value.expect("its value, once");
        let own = Client::new(http, &server, Some(value));
        assert_eq!(own.whoami().await.expect("it works").key_id, first.id);

        let owner = format!("{org}/service-accounts/{}", account.id);
        for count in 2..=60 {
            let new = NewKey { name: format!("key {count}"), ..NewKey::default() };
            assert!(client.create_key(&owner, &new).await.is_ok());
        }
        assert_eq!(client.list_keys(&owner).await.expect("two pages").len(), 60);

        let patch = KeyPatch { name: Some("renamed".to_owned()), ..KeyPatch::default() };
        assert!(client.update_key(&owner, &first.id, &patch).await.is_ok());
        let how = Rotation { retain_minutes: 5, ..Rotation::default() };
        assert!(client.rotate_key(&owner, &first.id, &how).await.is_ok());
        let key = client.read_key(&owner, &first.id).await.expect("a key");
        assert_eq!((key.name.as_str(), key.generation, key.usable), ("renamed", 2, true));
        assert!(client.deactivate_key(&owner, &first.id).await.is_ok());
        assert!(client.activate_key(&owner, &first.id).await.is_ok());
        assert!(client.revoke_key(&owner, &first.id).await.is_ok());
        assert!(client.delete_key(&owner, &first.id).await.is_ok());
        assert!(client.deactivate_account(&org, &account.id).await.is_ok());
        assert!(client.activate_account(&org, &account.id).await.is_ok());
        assert!(client.revoke_account(&org, &account.id).await.is_ok());
        let read = client.read_account(&org, &account.id).await.expect("an account");
        assert_eq!(read.state, "revoked");

        let again = NewAccount { username: "CI".to_owned(), ..NewAccount::default() };
        match client.create_account(&org, &again).await {
            Err(Failure::Refused(problem)) => {
                assert_eq!((problem.status, problem.code.as_str()), (409, "username_taken"));
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("the name is taken"),
        }
        let nameless = NewKey::default();
        match client.create_key(&owner, &nameless).await {
            Err(Failure::Refused(problem)) => {
                let fields: Vec<&str> =
                    problem.errors.iter().map(|fault| fault.field.as_str()).collect();
                assert_eq!((problem.status, fields), (422, vec!["name"]));
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a key has a name"),
        }
        assert!(client.delete_account(&org, &account.id).await.is_ok());
        assert!(client.list_accounts(&org).await.expect("a list").is_empty());
    });
}
