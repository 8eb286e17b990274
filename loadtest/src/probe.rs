//! Single requests before the load: is the contender there, and does it really check keys? A
//! proxy that lets everything pass must never get as far as a measured round.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::keys::KeySet;
use crate::load::{AFTER_KEY, BEFORE_KEY, judge};
use crate::running::Running;

/// Envoy needs a while to read a hundred thousand inline keys.
const START_DEADLINE: Duration = Duration::from_secs(120);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Waits until the first and the last key are served.
pub(crate) fn await_ready(running: &mut Running, keys: &KeySet) -> Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    for key in [keys.texts().next(), keys.texts().last()] {
        let key = key.context("no keys")?;
        while let Err(error) = ask(running, key).and_then(|answer| judge(&answer)) {
            running.must_live()?;
            if Instant::now() > deadline {
                bail!(
                    "{} is not ready after {START_DEADLINE:?}: {error:#}\n{}",
                    running.contender.label(),
                    running.last_words()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Fails unless a well-formed key that nobody was given is refused with 401.
pub(crate) fn refuses_strangers(running: &Running, keys: &KeySet) -> Result<()> {
    let answer = ask(running, keys.stranger())?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 401 "),
        "{} does not refuse an unknown key: {}",
        running.contender.label(),
        String::from_utf8_lossy(&answer).escape_debug()
    );
    Ok(())
}

/// One request on a connection of its own; the answer as far as one read brings it.
fn ask(running: &Running, key: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(running.listen)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.write_all(format!("{BEFORE_KEY}{key}{AFTER_KEY}").as_bytes())?;
    let mut answer = vec![0; 16 * 1024];
    let read = stream.read(&mut answer)?;
    answer.truncate(read);
    Ok(answer)
}
