//! Control planes that begin an answer and do not end it.

use std::io::Write as _;
use std::time::Duration;

use portcullis_core::feed::Position;

use super::{OK, Script, Stage, snapshot};
use crate::{Feed, FeedToken};

/// Nobody takes this body, nor does it come.
const UNENDING: &str = "HTTP/1.1 409 Conflict\r\ncontent-length: 10\r\n\r\n{";

/// A control plane with an empty snapshot that refuses everything else, and a gateway that follows
/// it.
fn refused() -> (Script, Stage) {
    let state = snapshot(Position { epoch: 1, seq: 1 }, Vec::new());
    let state = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{state}", state.len());
    let control = Script::run(move |head, socket| {
        let answer = if head.contains("/snapshot ") { &state } else { UNENDING };
        socket.write_all(answer.as_bytes()).is_ok()
    });
    let stage = Stage::set_empty(Script::fixed(OK).address, |settings| {
        settings.feed = Feed::Control {
            url: format!("http://{}", control.address),
            token: FeedToken::new("token".to_owned()),
            cluster: None,
            verify_key: None,
            usage_interval: Duration::from_secs(5),
        };
    });
    (control, stage)
}

#[test]
fn a_refusal_without_an_end_does_not_hold_up_the_feed() {
    let (control, _stage) = refused();
    for _ in 0..2 {
        while !control.head().contains("/feed/v1/changes?") {}
    }
}

#[test]
fn a_refusal_without_an_end_does_not_hold_up_acknowledgements() {
    let (control, _stage) = refused();
    for _ in 0..2 {
        while !control.head().contains("/feed/v1/acks ") {}
    }
}
