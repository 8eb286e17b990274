//! HAProxy: one thread, the bearer key looked up in a map file.

use anyhow::Result;

use super::{Contender, Launch};
use crate::keys::KeySet;
use crate::site::{Place, Site};

pub(super) fn launch(site: &Site, place: &Place, keys: &KeySet) -> Result<Launch> {
    let map = place.write("keys.map", keys.lines(|key| format!("{key} 1\n")))?;
    let configuration = format!(
        r#"global
    nbthread 1
    maxconn 2048
defaults
    mode http
    no log
    option http-keep-alive
    http-reuse always
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend in
    bind {listen}
    http-request deny deny_status 401 unless {{ http_auth_bearer,map_str({map}) -m found }}
    default_backend api
backend api
    server upstream {upstream}
"#,
        listen = place.listen,
        map = map.display(),
        upstream = site.upstream,
    );
    let file = place.write("haproxy.cfg", configuration.into_bytes())?;
    let mut command = site.on_proxy_core(&site.tools.haproxy);
    command.args(["-db", "-q", "-f"]).arg(file);
    Ok(Launch::new(Contender::Haproxy, command, place))
}
