//! The bytes of a request's body, within a size and a time. Read only after the credential was
//! accepted; what they say is not looked at here.

use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use zeroize::Zeroizing;

use super::problem::{Code, Problem};

/// The largest body.
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// A body that takes longer is given up: it holds one of the listener's connections.
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole body. It can hold a key, so it is wiped after use.
pub(crate) async fn read_whole(body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    match tokio::time::timeout(PATIENCE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(Zeroizing::new(collected.to_bytes().to_vec())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Code::MalformedRequest, "The body was cut off.")),
        Err(_) => {
            let detail = format!("The body did not arrive within {} s.", PATIENCE.as_secs());
            Err(Problem::new(Code::MalformedRequest, detail))
        }
    }
}

pub(super) fn too_large() -> Problem {
    Problem::new(Code::BodyTooLarge, format!("At most {MAX_BODY} bytes are allowed."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let body = Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>());
        let given_up = tokio::time::timeout(PATIENCE * 2, read_whole(body)).await;
        let problem = given_up.expect("it waits for ever").expect_err("there was no body");
        assert_eq!(problem.code.label(), "malformed_request");
    }
}
