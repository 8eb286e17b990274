//! The table of operations, from which the router, the permissions that are checked and the OpenAPI
//! document are all made: there is one place that says what an operation is.
//!
//! An operation is one file `v1/<noun>/<verb>.rs`:
//!
//! ```ignore
//! pub(crate) const OPERATION: Operation = Operation::post(
//!     "/v1/organizations/{org}/service-accounts/{sa}/keys",
//!     "Create a key",
//!     Need::root("api_key.create", "api_key:create").entitled(),
//!     |admitted| Box::pin(run(admitted)),
//! )
//! .reads(|body| read_key(body).err(), r#"{"name": "deploy"}"#)
//! .answers(Answer::created("key", "Key").with_secret())
//! .may_refuse(&[Code::NameTaken, Code::KeyLimitReached]);
//!
//! async fn run(mut admitted: Admitted) -> Reply {
//!     let wait = admitted.wait()?;
//!     let wanted = read_key(admitted.call.body().await?)?;
//!     …
//! }
//! ```
//!
//! and one line in the table of `v1/mod.rs`. What remains to know:
//!
//! - **`need`** names the operation (its action in the audit log, its `operationId`), who may call
//!   it and the permission. The frame has checked all that when `run` begins.
//! - **`reads`** runs the operation's own reader, which thereby describes the body; readers that
//!   depend on something get the widest case. The example must be acceptable to that reader.
//! - **`filters`** runs the reader of the query's own parameters. Those of lists and of mutations
//!   (`page_size`, `wait`, …) follow from the answer.
//! - **`answers`** says what comes back; the names of objects are those of `schemas.rs`.
//! - **`also_as`** names other media types of the answer.
//! - **`may_refuse`** lists codes beyond those that every operation of its kind can answer.
//!
//! This module describes and never runs anything; the frame in `dispatch.rs` does.

use std::pin::Pin;

use axum::http::Method;

use super::admission::{Admitted, Need};
use super::fields::{Faults, Fields};
use super::problem::Code;
use super::query::Query;
use super::reply::Reply;

/// An operation at work.
pub(crate) type Running = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// One row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) method: Verb,
    /// With `{parameters}`; a verb follows its object after a colon.
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    /// What a caller must know besides; may be empty.
    pub(crate) notes: &'static str,
    pub(crate) need: Need,
    pub(crate) filters: Option<fn(&mut Query)>,
    pub(crate) body: Option<Body>,
    pub(crate) answer: Answer,
    pub(crate) codes: &'static [Code],
    /// Other forms that `Accept` can ask for.
    pub(crate) forms: &'static [&'static str],
    pub(crate) run: fn(Admitted) -> Running,
}

/// How a body is read, and one that is right.
#[derive(Clone, Copy)]
pub(crate) struct Body {
    pub(crate) read: fn(Fields) -> Option<Faults>,
    pub(crate) example: &'static str,
}

/// The methods that operations have. HEAD is answered like GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Get,
    Post,
    Patch,
    Delete,
    Put,
}

impl Verb {
    /// The verb that answers a method.
    pub(crate) fn of(method: &Method) -> Option<Verb> {
        match *method {
            Method::GET | Method::HEAD => Some(Verb::Get),
            Method::POST => Some(Verb::Post),
            Method::PATCH => Some(Verb::Patch),
            Method::DELETE => Some(Verb::Delete),
            Method::PUT => Some(Verb::Put),
            _ => None,
        }
    }

    /// As `Allow` lists it.
    pub(crate) fn allowed(self) -> &'static str {
        match self {
            Verb::Get => "GET, HEAD",
            Verb::Post => "POST",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
            Verb::Put => "PUT",
        }
    }
}

/// What an operation answers with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// One object with its version, or 304.
    Object(&'static str),
    /// A page of objects.
    Page(&'static str),
    /// Something without a version.
    Plain(&'static str),
    /// Lines of JSON, as many as there are.
    Lines,
    /// The envelope of a mutation.
    Mutation(Envelope),
}

/// What is in the envelope of a mutation besides what all of them have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    /// The member of the object, and the object's name.
    pub(crate) member: &'static str,
    pub(crate) object: &'static str,
    /// 201 with a `Location`.
    pub(crate) creates: bool,
    /// 202 while gateways are behind.
    pub(crate) narrows: bool,
    /// Whether the answer can hold the secret of a key.
    pub(crate) secret: bool,
    /// Whether the object has no version, and so neither ETag nor If-Match.
    pub(crate) unversioned: bool,
    /// Further members and their objects or schemas.
    pub(crate) more: &'static [(&'static str, &'static str)],
}

impl Answer {
    /// Something new, at an address of its own.
    pub(crate) const fn created(member: &'static str, object: &'static str) -> Answer {
        Answer::Mutation(Envelope { creates: true, ..Envelope::of(member, object) })
    }

    /// A change that takes effect at once or takes nothing away.
    pub(crate) const fn changed(member: &'static str, object: &'static str) -> Answer {
        Answer::Mutation(Envelope::of(member, object))
    }

    /// A change that takes something away: 202 until every gateway has applied it.
    pub(crate) const fn narrowed(member: &'static str, object: &'static str) -> Answer {
        Answer::Mutation(Envelope { narrows: true, ..Envelope::of(member, object) })
    }

    /// With the secret of a key, once.
    pub(crate) const fn with_secret(self) -> Answer {
        match self {
            Answer::Mutation(envelope) => Answer::Mutation(Envelope { secret: true, ..envelope }),
            other => other,
        }
    }

    /// About an object without a version.
    pub(crate) const fn unversioned(self) -> Answer {
        match self {
            Answer::Mutation(envelope) => {
                Answer::Mutation(Envelope { unversioned: true, ..envelope })
            }
            other => other,
        }
    }

    /// With further members of the envelope, which are objects of `schemas.rs`. A name that ends in
    /// `?` may be absent; an object's name that ends so may be null.
    pub(crate) const fn with(self, more: &'static [(&'static str, &'static str)]) -> Answer {
        match self {
            Answer::Mutation(envelope) => Answer::Mutation(Envelope { more, ..envelope }),
            other => other,
        }
    }
}

impl Envelope {
    const fn of(member: &'static str, object: &'static str) -> Envelope {
        Envelope {
            member,
            object,
            creates: false,
            narrows: false,
            secret: false,
            unversioned: false,
            more: &[],
        }
    }
}

impl Operation {
    pub(crate) const fn get(
        path: &'static str,
        summary: &'static str,
        need: Need,
        run: fn(Admitted) -> Running,
    ) -> Operation {
        Operation::new(Verb::Get, path, summary, need, run)
    }

    pub(crate) const fn post(
        path: &'static str,
        summary: &'static str,
        need: Need,
        run: fn(Admitted) -> Running,
    ) -> Operation {
        Operation::new(Verb::Post, path, summary, need, run)
    }

    pub(crate) const fn patch(
        path: &'static str,
        summary: &'static str,
        need: Need,
        run: fn(Admitted) -> Running,
    ) -> Operation {
        Operation::new(Verb::Patch, path, summary, need, run)
    }

    pub(crate) const fn delete(
        path: &'static str,
        summary: &'static str,
        need: Need,
        run: fn(Admitted) -> Running,
    ) -> Operation {
        Operation::new(Verb::Delete, path, summary, need, run)
    }

    const fn new(
        method: Verb,
        path: &'static str,
        summary: &'static str,
        need: Need,
        run: fn(Admitted) -> Running,
    ) -> Operation {
        Operation {
            method,
            path,
            summary,
            notes: "",
            need,
            filters: None,
            body: None,
            answer: Answer::Plain("Anything"),
            codes: &[],
            forms: &[],
            run,
        }
    }

    pub(crate) const fn notes(self, notes: &'static str) -> Operation {
        Operation { notes, ..self }
    }

    pub(crate) const fn filters(self, filters: fn(&mut Query)) -> Operation {
        Operation { filters: Some(filters), ..self }
    }

    pub(crate) const fn reads(
        self,
        read: fn(Fields) -> Option<Faults>,
        example: &'static str,
    ) -> Operation {
        Operation { body: Some(Body { read, example }), ..self }
    }

    pub(crate) const fn answers(self, answer: Answer) -> Operation {
        Operation { answer, ..self }
    }

    pub(crate) const fn may_refuse(self, codes: &'static [Code]) -> Operation {
        Operation { codes, ..self }
    }

    /// Answers in these media types as well, if `Accept` asks for them.
    pub(crate) const fn also_as(self, forms: &'static [&'static str]) -> Operation {
        Operation { forms, ..self }
    }

    /// The same operation on something of a user, who needs no permission for it.
    pub(crate) const fn of_user(self, path: &'static str) -> Operation {
        Operation { path, need: self.need.or_self(), ..self }
    }

    /// Its name in the document: the action, told apart where it stands on two paths.
    pub(crate) fn id(&self) -> String {
        let whose = if self.need.or_self { "user_" } else { "" };
        format!("{whose}{}", self.need.action)
    }

    /// The path as the router knows it: without the verb that follows a parameter.
    pub(crate) fn route(&self) -> &'static str {
        self.split().0
    }

    /// The verb that follows a parameter at the end of the path.
    pub(crate) fn verb(&self) -> Option<&'static str> {
        self.split().1
    }

    fn split(&self) -> (&'static str, Option<&'static str>) {
        match self.path.rsplit_once("}:") {
            Some((before, verb)) => (&self.path[..=before.len()], Some(verb)),
            None => (self.path, None),
        }
    }
}
