//! The way a request came: from where, through which trusted proxies, to which host; and what its
//! upstream is told of that (gateway.md 9). A word of anybody who is not trusted counts for nothing.

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, VIA};

use crate::forward::VIA_US;
use crate::head::Fields;
use crate::plan::ListenerPlan;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const HTTP: HeaderValue = HeaderValue::from_static("http");

/// The way of a request up to here.
pub(crate) struct Way {
    peer: IpAddr,
    /// What trusted proxies said of it.
    before: Forwarding,
}

impl Way {
    /// Of a request that came straight from this peer, as far as anybody is believed.
    pub(crate) fn from_peer(peer: IpAddr) -> Self {
        Self { peer, before: Forwarding::default() }
    }

    /// Of a request from this peer, which is trusted to say how it got there.
    pub(crate) fn through(peer: IpAddr, headers: &HeaderMap) -> Self {
        Self { peer, before: Forwarding::read(headers) }
    }

    /// Writes whom the request is for and how it came here.
    pub(crate) fn write(self, authority: &str, fields: &mut Fields) {
        let Forwarding { hops, proto, host, forwarded: earlier } = self.before;
        let peer = self.peer.to_canonical();
        let by = match peer {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        let quoted = if authority.contains([':', '[']) {
            format!("\"{authority}\"")
        } else {
            authority.to_owned()
        };
        let forwarded = format!("for={by};host={quoted};proto=http");
        fields.put(&HOST, authority.as_bytes());
        fields.put(&X_FORWARDED_FOR, &appended(hops, peer.to_string().as_bytes()));
        fields.pass(&X_FORWARDED_PROTO, &proto.unwrap_or(HTTP));
        match host {
            Some(host) => fields.pass(&X_FORWARDED_HOST, &host),
            None => fields.put(&X_FORWARDED_HOST, authority.as_bytes()),
        }
        fields.put(&FORWARDED, &appended(earlier, forwarded.as_bytes()));
        fields.pass(&VIA, &VIA_US);
    }
}

/// What trusted proxies said about the way so far.
#[derive(Default)]
struct Forwarding {
    hops: Option<Vec<u8>>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    forwarded: Option<Vec<u8>>,
}

impl Forwarding {
    fn read(headers: &HeaderMap) -> Self {
        Self {
            hops: joined(headers, &X_FORWARDED_FOR),
            proto: headers
                .get(X_FORWARDED_PROTO)
                .filter(|proto| **proto == "https" || **proto == "http")
                .cloned(),
            host: headers.get(X_FORWARDED_HOST).cloned(),
            forwarded: joined(headers, &FORWARDED),
        }
    }
}

/// Every line of a field as one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    lines.fold(None, |before, line| Some(appended(before, line)))
}

fn appended(before: Option<Vec<u8>>, last: &[u8]) -> Vec<u8> {
    let Some(mut whole) = before else { return last.to_vec() };
    whole.extend_from_slice(b", ");
    whole.extend_from_slice(last);
    whole
}

/// Where the request comes from: the socket's peer or, behind trusted proxies, the rightmost hop
/// that is none.
pub(crate) fn client_address(headers: &HeaderMap, listener: &ListenerPlan, peer: IpAddr) -> IpAddr {
    if !listener.trusts(peer) {
        return peer;
    }
    let mut client = peer;
    // From the right, for only what trusted proxies appended counts, however much stands before it.
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
        let parsed = std::str::from_utf8(hop).ok().and_then(|hop| hop.trim().parse().ok());
        // What cannot be read ends the chain of trust: the last hop known stands.
        let Some(address) = parsed else { return client };
        client = address;
        if !listener.trusts(address) {
            return client;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_is_written_as_rfc_7239_wants_it() {
        let value = |peer: &str, host: &str| {
            let mut fields = Fields::default();
            Way::from_peer(peer.parse().unwrap()).write(host, &mut fields);
            assert_eq!(fields.all("host"), [host]);
            fields.all("forwarded").concat()
        };
        assert_eq!(value("192.0.2.1", "api"), "for=192.0.2.1;host=api;proto=http");
        assert_eq!(
            value("2001:db8::1", "api:81"),
            "for=\"[2001:db8::1]\";host=\"api:81\";proto=http"
        );
        assert_eq!(value("::ffff:192.0.2.1", "api"), "for=192.0.2.1;host=api;proto=http");
    }
}
