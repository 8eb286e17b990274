//! `GET /v1/export`: the whole installation, for its operator.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;
use crate::store::audit::Target;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/export",
    "Export the whole installation",
    Need::operator("installation.export"),
    |admitted| Box::pin(run(admitted)),
)
.notes("Lines of JSON with the digests of all keys, and no secret; `portcullis import` takes them.")
.answers(Answer::Lines);

async fn run(admitted: Admitted) -> Reply {
    let target = Target { kind: "installation", id: String::new(), name: String::new() };
    super::send(&admitted, target).await
}
