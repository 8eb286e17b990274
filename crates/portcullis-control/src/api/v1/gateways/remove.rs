//! `DELETE /v1/gateways/{gateway}`: a dead node is no longer waited for; its id is void.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::{Mutation, Reply};
use crate::api::work::Happening;
use crate::domain::Effect;
use crate::instant::column;
use crate::store::audit::{INSTALLATION, Target};
use crate::store::gateways;

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/gateways/{gateway}",
    "Forget a dead gateway: it is no longer waited for",
    Need::operator("gateway.delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("gateway", "Gateway").unversioned());

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let id = admitted.call.param("gateway").to_owned();
    let all = admitted.app().publisher.list().await;
    let found = all.iter().find(|status| status.row.id == id).ok_or_else(Problem::not_found)?;
    let shown = super::shown(&admitted, found).await?;
    let mut work = admitted.begin().await?;
    let now_ms = column(work.now);
    if !gateways::remove(work.unit.conn(), &id, now_ms).await? {
        return Err(Problem::not_found());
    }
    let happening = Happening {
        action: "gateway.delete",
        target: Target { kind: "gateway", id: id.clone(), name: id.clone() },
        resource_id: None,
        before: Some(shown.clone()),
        after: None,
    };
    let committed = work.commit(INSTALLATION, happening).await?;
    admitted.app().publisher.remove(&id, now_ms).await;
    Mutation::of(committed, Effect::Narrowing, "gateway", shown).send(&admitted, wait).await
}
