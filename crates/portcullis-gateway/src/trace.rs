//! W3C Trace Context: which trace a request belongs to, and what its upstream is told of it. A
//! caller's trace is carried on if it is named properly; whether it is recorded is a caller's
//! business only behind a trusted proxy. Exports nothing.

use arrayvec::ArrayVec;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::forward::Removal;
use crate::head::Fields;
use crate::request_id::RequestId;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of a `traceparent` of version 00.
const LEN: usize = 55;
/// Longest `tracestate` that is passed on.
const STATE_MAX: usize = 512;
/// The flag that says that the trace is recorded.
const SAMPLED: u8 = 1;

/// The trace of one request.
pub(crate) struct Trace {
    id: [u8; 32],
    /// The caller named it.
    is_callers: bool,
    /// The caller says that it is recorded.
    sampled: bool,
}

impl Trace {
    /// The trace that a head names; if it names none, or two, or a broken one, a new trace with the
    /// request's own id.
    pub(crate) fn read(headers: &HeaderMap, own: &RequestId) -> Self {
        // Read through, for a head has few fields and the map would hash the name.
        let lines = headers.iter().filter(|(name, _)| *name == TRACEPARENT);
        let mut lines = lines.map(|(_, line)| line);
        let named = match (lines.next(), lines.next()) {
            (Some(line), None) => parse(line.as_bytes()),
            (Some(_) | None, _) => None,
        };
        match named {
            Some((id, flags)) => Self { id, is_callers: true, sampled: flags & SAMPLED != 0 },
            None => Self { id: own.digits(), is_callers: false, sampled: false },
        }
    }

    pub(crate) fn id(&self) -> [u8; 32] {
        self.id
    }

    /// Writes what the upstream is told: the trace, with the request as the parent of what happens
    /// there, and the state that came with the trace. A caller's word on recording counts if it is
    /// `trusted`.
    pub(crate) fn write(
        &self,
        (headers, removal): (&HeaderMap, &Removal),
        request: &RequestId,
        trusted: bool,
        fields: &mut Fields,
    ) {
        let mut text: ArrayVec<u8, LEN> = ArrayVec::new();
        let flags: &[u8] = if self.sampled && trusted { b"01" } else { b"00" };
        for part in [b"00-", &self.id[..], b"-", request.half(), b"-", flags] {
            // The parts are as long as the whole.
            let _ = text.try_extend_from_slice(part);
        }
        fields.put(&TRACEPARENT, &text);
        if !self.is_callers || removal.has(&TRACESTATE) {
            return;
        }
        if fits(headers) {
            if let Some(state) = headers.get(TRACESTATE) {
                fields.pass(&TRACESTATE, state);
            }
        } else if let Some(state) = shortened(headers) {
            fields.pass(&TRACESTATE, &state);
        }
    }
}

/// Reads a `traceparent`: the trace's id and the flags. Of versions to come, that part is known.
fn parse(text: &[u8]) -> Option<([u8; 32], u8)> {
    let (known, more) = text.split_at_checked(LEN)?;
    let mut parts = known.split(|byte| *byte == b'-');
    let (version, id) = (parts.next()?, parts.next()?);
    let (parent, flags) = (parts.next()?, parts.next()?);
    let hex = |part: &[u8], len: usize| {
        part.len() == len && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let ends = match version {
        b"00" => more.is_empty(),
        b"ff" => false,
        _ => more.first().is_none_or(|byte| *byte == b'-'),
    };
    let shaped = hex(version, 2) && hex(id, 32) && hex(parent, 16) && hex(flags, 2);
    let zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    if !ends || !shaped || zero(id) || zero(parent) {
        return None;
    }
    let flags = std::str::from_utf8(flags).ok()?;
    Some((id.try_into().ok()?, u8::from_str_radix(flags, 16).ok()?))
}

/// Whether the `tracestate` can be passed on as it is.
fn fits(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TRACESTATE).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.len() <= STATE_MAX && line.to_str().is_ok(),
        (None, _) => true,
        (Some(_), Some(_)) => false,
    }
}

/// The lines of a `tracestate` as one, in their order, without the entries at its end that are too
/// many; `None` if nothing is left.
fn shortened(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut state = String::new();
    for line in headers.get_all(TRACESTATE) {
        for entry in line.to_str().ok()?.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let comma = usize::from(!state.is_empty());
            if state.len() + comma + entry.len() > STATE_MAX {
                return HeaderValue::try_from(state).ok().filter(|state| !state.is_empty());
            }
            if comma > 0 {
                state.push(',');
            }
            state.push_str(entry);
        }
    }
    HeaderValue::try_from(state).ok().filter(|state| !state.is_empty())
}

#[cfg(test)]
mod tests {
    use portcullis_core::entropy::{Entropy, EntropyFailure};

    use super::*;
    use crate::request_id::RequestIds;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
            out.fill(7);
            Ok(())
        }
    }

    fn own() -> RequestId {
        RequestIds::new(&Sevens).unwrap().next()
    }

    fn head(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    /// What the upstream of a request with these lines is told.
    fn told(lines: &[(&'static str, &str)], trusted: bool) -> (String, Option<String>) {
        let (headers, own) = (head(lines), own());
        let mut fields = Fields::default();
        let trace = Trace::read(&headers, &own);
        trace.write((&headers, &Removal::default()), &own, trusted, &mut fields);
        let text = |name| {
            let mut all = fields.all(name).into_iter().map(str::to_owned);
            (all.next(), all.next())
        };
        let (parent, None) = text("traceparent") else { panic!("two parents") };
        let (state, None) = text("tracestate") else { panic!("two states") };
        (parent.unwrap(), state)
    }

    fn own_trace() -> String {
        let own = own();
        format!("00-{}-{}-00", own.as_str(), std::str::from_utf8(own.half()).unwrap())
    }

    #[test]
    fn a_valid_trace_is_carried_on_under_the_request_s_own_span() {
        let span = std::str::from_utf8(own().half()).unwrap().to_owned();
        for (rest, trusted, flags) in [
            ("-00f067aa0ba902b7-01", true, "01"),
            ("-00f067aa0ba902b7-01", false, "00"),
            ("-00f067aa0ba902b7-00", true, "00"),
            ("-00f067aa0ba902b7-ff", true, "01"),
        ] {
            let (parent, _) = told(&[("traceparent", &format!("00-{ID}{rest}"))], trusted);
            assert_eq!(parent, format!("00-{ID}-{span}-{flags}"), "{rest}");
        }
        for later in ["cc", "01"] {
            for more in ["", "-what-comes-then"] {
                let line = format!("{later}-{ID}-00f067aa0ba902b7-01{more}");
                let (parent, _) = told(&[("traceparent", &line)], true);
                assert_eq!(parent, format!("00-{ID}-{span}-01"), "{line}");
            }
        }
    }

    #[test]
    fn what_is_no_trace_begins_a_new_one_and_its_state_is_dropped() {
        let upper = ID.to_uppercase();
        let zeros = "0".repeat(32);
        for line in [
            String::new(),
            format!("00-{ID}-00f067aa0ba902b7"),
            format!("00-{ID}-00f067aa0ba902b7-01-"),
            format!("00-{ID}-00f067aa0ba902b7-0x"),
            format!("01-{ID}-00f067aa0ba902b7-01x"),
            format!("ff-{ID}-00f067aa0ba902b7-01"),
            format!("0-{ID}0-00f067aa0ba902b7-01"),
            format!("00-{upper}-00f067aa0ba902b7-01"),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-{ID}-0000000000000000-01"),
            format!("00_{ID}_00f067aa0ba902b7_01"),
            format!(" 00-{ID}-00f067aa0ba902b7-01"),
        ] {
            let lines = [("traceparent", line.as_str()), ("tracestate", "a=1")];
            assert_eq!(told(&lines, true), (own_trace(), None), "{line:?}");
        }
        let line = format!("00-{ID}-00f067aa0ba902b7-01");
        let twice = [("traceparent", line.as_str()), ("traceparent", &line), ("tracestate", "a=1")];
        assert_eq!(told(&twice, true), (own_trace(), None));
        assert_eq!(told(&[("tracestate", "a=1")], true), (own_trace(), None));
    }

    #[test]
    fn a_state_keeps_its_order_and_at_most_512_characters() {
        let parent = format!("00-{ID}-00f067aa0ba902b7-01");
        let state = |lines: &[&str]| {
            let mut all = vec![("traceparent", parent.as_str())];
            all.extend(lines.iter().map(|line| ("tracestate", *line)));
            told(&all, false).1
        };
        assert_eq!(state(&["b=2,a=1"]).as_deref(), Some("b=2,a=1"));
        assert_eq!(state(&["b=2 ", "a=1,, c=3"]).as_deref(), Some("b=2,a=1,c=3"));
        let (long, most) = ("l=".to_owned() + &"x".repeat(254), "m=".to_owned() + &"y".repeat(253));
        let both = format!("{long},{most}");
        assert_eq!(both.len(), 512);
        assert_eq!(state(&[&both]).as_deref(), Some(both.as_str()));
        assert_eq!(state(&[&format!("{both},a=1")]).as_deref(), Some(both.as_str()));
        assert_eq!(state(&[&long, &most, "a=1"]).as_deref(), Some(both.as_str()));
        assert_eq!(state(&[&"x".repeat(513)]), None);
        assert_eq!(state(&["a=\u{e9}"]), None);
        assert_eq!(state(&[]), None);
    }
}
