//! `S/usage`, `S/keys/{key}/usage` and `O/usage`: what was used, day by day in UTC.

pub(super) mod account;
pub(super) mod key;
pub(super) mod organization;

use jiff::civil::Date;
use serde_json::{Value, json};

use crate::api::fields;
use crate::api::problem::FieldCode;
use crate::api::query::Query;
use crate::instant::{Stamp, column};
use crate::store::usage::{DAY_MS, DayRow};

/// Days shown unless others are asked for.
const SHOWN_DAYS: i64 = 90;
/// Most days of one answer, which is how long they are kept.
const MOST_DAYS: i64 = 400;

/// The days asked for, both included: those of `from` and `to`, by default the last ninety.
fn days(query: &mut Query, now_ms: i64) -> (i64, i64) {
    let from = query.read("from", fields::instant).map(column);
    let to = query.read("to", fields::instant).map(column);
    let last = to.unwrap_or(now_ms) / DAY_MS;
    let first = from.map_or(last - SHOWN_DAYS + 1, |from_ms| from_ms / DAY_MS);
    if first > last {
        query.fault("from", FieldCode::OutOfRange, "it must not lie after `to`");
    }
    if last - first >= MOST_DAYS {
        let allowed = format!("at most {MOST_DAYS} days are shown at once");
        query.fault("from", FieldCode::OutOfRange, allowed);
    }
    (first, last)
}

/// The parameters, for the document.
fn describe(query: &mut Query) {
    days(query, 0);
}

/// What holds for the whole life of a key or an account.
struct Totals<'a> {
    calls: i64,
    denied: i64,
    last_used_ms: Option<i64>,
    last_used_ip: Option<&'a str>,
}

fn shown(totals: &Totals<'_>, days: &[DayRow]) -> Value {
    let Totals { calls, denied, last_used_ms, last_used_ip } = totals;
    let days: Vec<Value> = days
        .iter()
        .map(|DayRow { day, calls, denied, last_ip }| {
            json!({"day": date(*day), "calls": calls, "denied": denied, "last_ip": last_ip})
        })
        .collect();
    json!({
        "total_calls": calls,
        "total_denied": denied,
        "last_used_at": last_used_ms.map(Stamp::of_column),
        "last_used_ip": last_used_ip,
        "days": days,
    })
}

/// A day since 1970 as a date.
fn date(day: i64) -> String {
    let stamp = Stamp::of_column(day.saturating_mul(DAY_MS)).to_string();
    let date = stamp.split('T').next().and_then(|text| text.parse::<Date>().ok());
    date.unwrap_or(Date::MIN).to_string()
}
