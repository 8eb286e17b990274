//! The credential of a client: id and secret, in the header or in the form, never in both.

use axum::http::{HeaderMap, header};

use super::answer::OauthError;
use super::form::Form;
use crate::api::{App, Framed, credential};
use crate::caller::{self, Caller, Credential, Member, Refused};
use crate::domain::imports;

/// A member whose key was accepted at an OAuth endpoint.
pub(super) async fn authenticate(
    app: &App,
    framed: &Framed,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Member, OauthError> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(OauthError::InvalidRequest("There is more than one credential."));
    }
    let posted = form.text("client_secret").is_some();
    let (named, presented) = match (line, posted) {
        (Some(_), true) => {
            return Err(OauthError::InvalidRequest("There is more than one credential."));
        }
        (Some(line), false) => {
            let text = line.to_str().map_err(|_| OauthError::InvalidClient)?;
            of_header(app, text)?
        }
        (None, true) => {
            let id = form.text("client_id").unwrap_or_default();
            let secret = form.text("client_secret").unwrap_or_default();
            let presented = credential::read_pair(&app.prefix, id, secret);
            (Some(id.to_owned()), presented.ok_or(OauthError::InvalidClient)?)
        }
        (None, false) => return Err(OauthError::InvalidClient),
    };
    let stated = form.text("client_id").map(str::to_owned).or(named);
    accept(app, framed, &presented, stated.as_deref()).await?.ok_or(OauthError::InvalidClient)
}

/// Basic, or a Bearer.
fn of_header(app: &App, line: &str) -> Result<(Option<String>, Credential), OauthError> {
    let (scheme, rest) = line.split_once(' ').ok_or(OauthError::InvalidClient)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        let presented = credential::read_bearer(&app.prefix, rest);
        return Ok((None, presented.ok_or(OauthError::InvalidClient)?));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(OauthError::InvalidClient);
    }
    let (id, presented) =
        credential::read_basic(&app.prefix, rest).ok_or(OauthError::InvalidClient)?;
    Ok((Some(id), presented))
}

/// The member behind the credential that a call is made with; `None` if it is not accepted, the
/// operator's included. A refusal is noted for the audit log. `stated` is the client id that came
/// with it: the id or the uid of that very key, or nothing.
pub(super) async fn accept(
    app: &App,
    framed: &Framed,
    presented: &Credential,
    stated: Option<&str>,
) -> Result<Option<Member>, OauthError> {
    let caller = match verify(app, framed, presented).await? {
        Ok(caller) => caller,
        Err(refused) => {
            framed.note_refusal(refused);
            return Ok(None);
        }
    };
    let actor = caller.actor();
    let Caller::Member(member) = caller else { return Ok(None) };
    let named = match stated {
        None | Some("") => true,
        Some(id) => id == member.key_id || id == member.key_uid,
    };
    if !named {
        let known = Some(Box::new((member.org.id, actor)));
        framed.note_refusal(Refused { reason: "client_id", known });
        return Ok(None);
    }
    framed.note_use(&member.key_id, Some(member.secret_generation));
    Ok(Some(*member))
}

/// The member behind a credential that a call is about: nobody used it, so nothing is noted.
pub(super) async fn look_up(
    app: &App,
    framed: &Framed,
    presented: &Credential,
) -> Result<Option<Member>, OauthError> {
    match verify(app, framed, presented).await? {
        Ok(Caller::Member(member)) => Ok(Some(*member)),
        Ok(Caller::Operator { .. }) | Err(_) => Ok(None),
    }
}

async fn verify(
    app: &App,
    framed: &Framed,
    presented: &Credential,
) -> Result<Result<Caller, Refused>, OauthError> {
    if let Credential::Foreign(foreign) = presented {
        imports::settle(app, foreign, &framed.origin).await?;
    }
    let mut view = app.store.view().await?;
    let as_of = view.as_of();
    Ok(caller::verify(view.conn(), presented, app, as_of, app.now()).await?)
}
