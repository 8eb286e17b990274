//! Lists: paging, order and the cursor that is bound to both (service-accounts.md 9.2).

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::call::Call;
use super::fields;
use super::problem::{Code, Problem};
use super::query::Query;
use super::readers::Reader;
use crate::store::page::{Found, Order, Slice};

const DEFAULT_PAGE: u64 = 50;
const MAX_PAGE: u64 = 200;

/// A list as it was asked for; filters are read by the operation.
pub(crate) struct List {
    pub(crate) slice: Slice,
    page_size: usize,
    scope: String,
    cursor: Option<String>,
}

/// The parameters that all lists share.
pub(crate) struct Paging {
    cursor: Option<String>,
    page_size: u64,
    order: Order,
    count: bool,
}

impl Paging {
    pub(crate) fn read(query: &mut Query) -> Paging {
        let cursor = query.read("cursor", cursor());
        let page_size = query.read("page_size", fields::integer(1..=MAX_PAGE));
        let order = query.read("order_by", fields::one_of(&["created_at", "-created_at"]));
        Paging {
            cursor,
            page_size: page_size.unwrap_or(DEFAULT_PAGE),
            order: match order {
                Some("-created_at") => Order::NewestFirst,
                Some(_) | None => Order::OldestFirst,
            },
            count: query.read("count", fields::boolean).unwrap_or(false),
        }
    }
}

/// Any text: what is none of our cursors is told so, and not that it is malformed.
fn cursor() -> impl Reader<Value = String> {
    fields::custom(
        json!({"type": "string", "description": "`next_cursor` of the page before."}),
        |value| {
            Ok(match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        },
    )
}

impl List {
    /// Takes the parameters that all lists share out of the query.
    pub(crate) fn read(call: &Call, query: &mut Query) -> List {
        let Paging { cursor, page_size, order, count } = Paging::read(query);
        let scope = format!("{} {order:?} {}", call.path(), query.unread());
        let limit = i64::try_from(page_size).unwrap_or(i64::MAX).saturating_add(1);
        List {
            slice: Slice { order, after: None, limit, count },
            page_size: usize::try_from(page_size).unwrap_or(usize::MAX),
            scope,
            cursor,
        }
    }

    /// Opens the cursor. Done last, after the query was found right.
    pub(crate) fn resume(&mut self, call: &Call) -> Result<(), Problem> {
        if let Some(cursor) = &self.cursor {
            let place = call.app.cursors.open(&self.scope, cursor).ok_or_else(|| {
                Problem::new(Code::InvalidCursor, "Start again without a cursor.")
            })?;
            self.slice.after = Some(place);
        }
        Ok(())
    }

    /// The page of the rows found, which may be one more than the page, and their total; `place` says where a row stands.
    pub(crate) fn page<T>(
        &self,
        call: &Call,
        found: impl Into<Found<T>>,
        place: impl Fn(&T) -> (i64, &str),
        show: impl Fn(&T) -> Result<Value, Problem>,
    ) -> Result<Response, Problem> {
        self.sparse_page(call, found, place, |row| show(row).map(Some))
    }

    /// The same, where some rows are not shown: their places count towards the page.
    pub(crate) fn sparse_page<T>(
        &self,
        call: &Call,
        found: impl Into<Found<T>>,
        place: impl Fn(&T) -> (i64, &str),
        show: impl Fn(&T) -> Result<Option<Value>, Problem>,
    ) -> Result<Response, Problem> {
        let Found { mut rows, total, horizon } = found.into();
        let more = rows.len() > self.page_size;
        rows.truncate(self.page_size);
        let (last, horizon) = (rows.last().map(place), horizon.as_ref());
        let continues_after = match last {
            Some(last) if more => Some(last),
            Some(_) | None => horizon.map(|(created_ms, id)| (*created_ms, id.as_str())),
        };
        let next_cursor = continues_after
            .map(|(created_ms, id)| call.app.cursors.seal(&self.scope, created_ms, id));
        let shown = rows.iter().map(show).collect::<Result<Vec<Option<Value>>, Problem>>()?;
        let items = shown.into_iter().flatten().collect();
        let mut body = Map::new();
        body.insert("items".to_owned(), Value::Array(items));
        body.insert("next_cursor".to_owned(), json!(next_cursor));
        if let Some(total) = total {
            body.insert("total".to_owned(), json!(total));
        }
        Ok(Json(Value::Object(body)).into_response())
    }
}
