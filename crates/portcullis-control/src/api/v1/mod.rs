//! Version 1 of the admin API: the table of routes. One operation per file below; a path that ends
//! in `:verb` shares its route with the object and is told apart here.

mod access;
mod audit_events;
mod gateways;
mod keys;
mod organizations;
mod policy;
mod resources;
mod role_bindings;
mod roles;
mod service_accounts;
mod users;
mod whoami;

use axum::Router;
use axum::routing::{delete, get, patch, post};

use super::App;
use super::call::Call;
use super::problem::Problem;
use super::reply::Reply;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/whoami", get(whoami::run))
        .route("/v1/organizations", get(organizations::list::run).post(organizations::create::run))
        .route(
            "/v1/organizations/{org}",
            get(organizations::read::run)
                .patch(organizations::update::run)
                .post(organization_verbs),
        )
        .nest("/v1/organizations/{org}", organization_routes())
        .route("/v1/gateways", get(gateways::list::run))
        .route("/v1/gateways/{gateway}", get(gateways::read::run).delete(gateways::remove::run))
        .route("/v1/propagation/{seq}", get(gateways::propagation::run))
}

fn organization_routes() -> Router<App> {
    Router::new()
        .route("/policy", get(policy::read::run).patch(policy::update::run))
        .route("/resources", get(resources::list::run).post(resources::create::run))
        .route(
            "/resources/{resource}",
            get(resources::read::run)
                .patch(resources::update::run)
                .delete(resources::remove::run)
                .post(resource_verbs),
        )
        .route(
            "/service-accounts",
            get(service_accounts::list::run).post(service_accounts::create::run),
        )
        .route(
            "/service-accounts/{sa}",
            get(service_accounts::read::run)
                .patch(service_accounts::update::run)
                .delete(service_accounts::remove::run)
                .post(account_verbs),
        )
        .route("/service-accounts/{sa}/access", get(access::list::run))
        .route("/service-accounts/{sa}/access:grant", post(access::grant::run))
        .route(
            "/service-accounts/{sa}/access/{resource}",
            patch(access::update::run).merge(delete(access::remove::run)),
        )
        .route("/service-accounts/{sa}/keys", get(keys::list::run).post(keys::create::run))
        .route(
            "/service-accounts/{sa}/keys/{key}",
            get(keys::read::run).patch(keys::update::run).delete(keys::remove::run).post(key_verbs),
        )
        .route("/users", get(users::list::run).post(users::create::run))
        .route("/users/{user}", get(users::read::run).delete(users::remove::run))
        .route("/users/{user}/keys", get(keys::list::run).post(keys::create::run))
        .route(
            "/users/{user}/keys/{key}",
            get(keys::read::run).patch(keys::update::run).delete(keys::remove::run).post(key_verbs),
        )
        .route("/keys", get(keys::list_all::run))
        .route("/roles", get(roles::list::run))
        .route("/roles/{role}", get(roles::read::run))
        .route("/role-bindings", get(role_bindings::list::run).post(role_bindings::create::run))
        .route(
            "/role-bindings/{binding}",
            get(role_bindings::read::run)
                .patch(role_bindings::update::run)
                .delete(role_bindings::remove::run),
        )
        .route("/audit-events", get(audit_events::list::run))
        .route("/audit-events:verify", get(audit_events::verify::run))
        .route("/audit-events/{event}", get(audit_events::read::run))
}

async fn organization_verbs(call: Call) -> Reply {
    match call.verb() {
        Some("diagnose") => organizations::diagnose::run(call).await,
        Some("explain") => organizations::explain::run(call).await,
        Some("resume") => organizations::resume::run(call).await,
        Some("suspend") => organizations::suspend::run(call).await,
        Some(_) => Err(Problem::not_found()),
        None => Err(Problem::method_not_allowed("GET, HEAD, PATCH")),
    }
}

async fn resource_verbs(call: Call) -> Reply {
    match call.verb() {
        Some("archive") => resources::archive::run(call).await,
        Some("unarchive") => resources::unarchive::run(call).await,
        Some(_) => Err(Problem::not_found()),
        None => Err(Problem::method_not_allowed("GET, HEAD, PATCH, DELETE")),
    }
}

async fn account_verbs(call: Call) -> Reply {
    match call.verb() {
        Some("activate") => service_accounts::activate::run(call).await,
        Some("deactivate") => service_accounts::deactivate::run(call).await,
        Some("revoke") => service_accounts::revoke::run(call).await,
        Some(_) => Err(Problem::not_found()),
        None => Err(Problem::method_not_allowed("GET, HEAD, PATCH, DELETE")),
    }
}

async fn key_verbs(call: Call) -> Reply {
    match call.verb() {
        Some("activate") => keys::activate::run(call).await,
        Some("deactivate") => keys::deactivate::run(call).await,
        Some("revoke") => keys::revoke::run(call).await,
        Some("rotate") => keys::rotate::run(call).await,
        Some(_) => Err(Problem::not_found()),
        None => Err(Problem::method_not_allowed("GET, HEAD, PATCH, DELETE")),
    }
}
