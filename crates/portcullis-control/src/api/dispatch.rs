//! From a request to its operation: finds the row of the table, admits the caller as the row says,
//! and runs it. It never looks into a body.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;

use super::App;
use super::call::Call;
use super::idempotency;
use super::operation::{Answer, Operation, Verb};
use super::problem::Problem;
use super::reply::Reply;

/// The router of a table.
pub(crate) fn routes(table: &'static [Operation]) -> Router<App> {
    let mut router = Router::new();
    let mut routed: Vec<&'static str> = Vec::new();
    for operation in table {
        let route = operation.route();
        if !routed.contains(&route) {
            routed.push(route);
            let here: Vec<&'static Operation> =
                table.iter().filter(|other| other.route() == route).collect();
            router = router.route(route, any(async move |call: Call| dispatch(&here, call).await));
        }
    }
    router
}

/// Runs the one of the operations on this path that the method and verb ask for.
async fn dispatch(here: &[&'static Operation], call: Call) -> Response {
    match find(here, &call) {
        Ok(operation) => run(operation, call).await.into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn find(here: &[&'static Operation], call: &Call) -> Result<&'static Operation, Problem> {
    let mut with_verb: Vec<&'static Operation> =
        here.iter().copied().filter(|operation| operation.verb() == call.verb()).collect();
    if with_verb.is_empty() && call.verb().is_some() {
        return Err(Problem::not_found());
    }
    let asked = Verb::of(&call.method);
    if let Some(found) = with_verb.iter().find(|operation| asked == Some(operation.method)) {
        return Ok(found);
    }
    with_verb.sort_by_key(|operation| operation.method);
    let allow: Vec<&str> = with_verb.iter().map(|operation| operation.method.allowed()).collect();
    Err(Problem::method_not_allowed(allow.join(", ")))
}

async fn run(operation: &'static Operation, call: Call) -> Reply {
    let admitted = call.identify().await?.admit(operation.need).await?;
    let app = admitted.app().clone();
    let running = async move {
        match operation.method {
            Verb::Post => idempotency::run(operation, admitted).await,
            Verb::Get | Verb::Patch | Verb::Delete | Verb::Put => (operation.run)(admitted).await,
        }
    };
    match operation.answer {
        Answer::Mutation(_) => app.store.run_change(running).await?,
        Answer::Lines | Answer::Object(_) | Answer::Page(_) | Answer::Plain(_) => running.await,
    }
}
