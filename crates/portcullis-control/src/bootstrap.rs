//! The first start: fills an empty database. It never touches one which is filled.

use portcullis_core::account::{KeyName, Username};
use portcullis_core::entropy::EntropyFailure;
use portcullis_core::key::{self, PlainKey};

use crate::api::App;
use crate::api::problem::Problem;
use crate::api::views;
use crate::domain::organizations::{self, CreatedOrganization, NewOrganization};
use crate::domain::secrets::digest_of;
use crate::domain::{Author, records, sessions};
use crate::policy::Profile;
use crate::store::audit::{Actor, Event, INSTALLATION, Origin, Outcome, Target};
use crate::store::installation::{self, Purpose};
use crate::store::{StoreError, Unit};

/// The three keys that exist after the first start. Each is shown here and nowhere else.
pub struct FirstTokens {
    /// Key of the owner of the organization `default`.
    pub admin: PlainKey,
    /// The installation operator's key.
    pub operator: PlainKey,
    /// What gateways present at the feed.
    pub gateway: PlainKey,
}

/// The two keys that an import makes: those of the installation itself.
pub struct FreshTokens {
    /// A key of the installation's operator.
    pub operator: PlainKey,
    /// What gateways may present at the feed.
    pub gateway: PlainKey,
}

/// What [`crate::Control::bootstrap`] found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The database was filled before.
    Existing,
    /// The database was empty and is filled now.
    New,
}

/// Why a new database could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The caller could not store the tokens; nothing was committed.
    #[error("the first tokens could not be stored: {0}")]
    Deliver(#[source] std::io::Error),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyFailure),
    /// The database refused.
    #[error("the new database could not be filled: {0}")]
    Store(String),
}

/// A release that changed built-in roles, or brought groups, tells gateways so at its first start.
async fn follow_release(app: &App, unit: Unit) -> Result<(), BootstrapError> {
    if !unit.has_changes() {
        return Ok(());
    }
    let event = Event {
        org_id: INSTALLATION.to_owned(),
        actor: Actor::installation(),
        action: "installation.update".to_owned(),
        target: Target { kind: "installation", id: String::new(), name: String::new() },
        resource_id: None,
        outcome: Outcome::Ok,
        origin: Origin::default(),
        before: None,
        after: None,
    };
    unit.commit(event, app.entropy.as_ref()).await?;
    Ok(())
}

impl From<StoreError> for BootstrapError {
    fn from(error: StoreError) -> BootstrapError {
        BootstrapError::Store(error.to_string())
    }
}

/// Fills the database if nothing was ever committed to it.
pub(crate) async fn run(
    app: &App,
    deliver: impl FnOnce(&FirstTokens) -> std::io::Result<()> + Send,
) -> Result<Started, BootstrapError> {
    let now = app.now();
    let mut unit = Unit::begin(&app.store, app.ledger.clone(), now).await?;
    records::publish_roles(&mut unit).await?;
    if app.sessions.is_settled() {
        sessions::put_signers(app, &mut unit).await?;
    }
    if unit.position().seq > 0 {
        organizations::furnish_old(app, &mut unit).await.map_err(|it| problem_text(&it))?;
        follow_release(app, unit).await?;
        return Ok(Started::Existing);
    }
    let wanted = NewOrganization {
        name: "default".to_owned(),
        profile: Profile::Default,
        policy: Profile::Default.policy(),
        owner: Username::parse("admin").expect("`admin` is a username"),
        email: None,
        key_name: KeyName::parse("admin-token").expect("`admin-token` is a key name"),
    };
    let created = organizations::create(app, &mut unit, wanted, &Author::system()).await;
    let CreatedOrganization { org, plain, .. } =
        created.map_err(|problem| problem_text(&problem))?;
    let operator = key::mint(&app.prefix, app.entropy.as_ref())?;
    let gateway = key::mint(&app.prefix, app.entropy.as_ref())?;
    for (purpose, plain) in [(Purpose::Operator, &operator), (Purpose::Gateway, &gateway)] {
        let secret = digest_of(app, plain, now);
        installation::insert_key(unit.conn(), plain.id(), purpose, &secret, now).await?;
    }
    let event = Event {
        org_id: org.id.clone(),
        actor: Actor::installation(),
        action: "organization.create".to_owned(),
        target: Target { kind: "organization", id: org.id.clone(), name: org.name.clone() },
        resource_id: Some(org.root_resource_id.clone()),
        outcome: Outcome::Ok,
        origin: Origin::default(),
        before: None,
        after: Some(views::organization(&org)),
    };
    let tokens = FirstTokens { admin: plain, operator, gateway };
    // Before the commit: tokens without a database are rubbish, a database without tokens is lost.
    deliver(&tokens).map_err(BootstrapError::Deliver)?;
    unit.commit(event, app.entropy.as_ref()).await?;
    Ok(Started::New)
}

fn problem_text(problem: &Problem) -> BootstrapError {
    BootstrapError::Store(problem.internal.as_deref().unwrap_or(&problem.detail).to_owned())
}
