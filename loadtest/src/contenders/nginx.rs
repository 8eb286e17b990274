//! nginx: one worker, a `map` from the whole `Authorization` value to yes or no.
//!
//! nginx lower-cases both sides of a map, so this check takes keys in any case: weaker than the
//! product's, and what people run.

use anyhow::Result;

use super::{Contender, Launch};
use crate::keys::KeySet;
use crate::site::{Place, Site};

pub(super) fn launch(
    contender: Contender,
    site: &Site,
    place: &Place,
    keys: &KeySet,
) -> Result<Launch> {
    place.write("keys.map", keys.lines(|key| format!("\"Bearer {key}\" 1;\n")))?;
    let log = (contender == Contender::NginxLog).then(|| place.folder.join("access.log"));
    // Buffered, which is the cheapest way nginx writes an access log.
    let access_log = log.as_ref().map_or_else(
        || "off".to_owned(),
        |path| format!("{} combined buffer=64k flush=1s", path.display()),
    );
    let configuration = format!(
        r#"daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log {access_log};
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    map_hash_max_size 1048576;
    map_hash_bucket_size 128;
    map $http_authorization $known {{
        default 0;
        include keys.map;
    }}
    upstream api {{
        server {upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen};
        location / {{
            if ($known = 0) {{ return 401; }}
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"#,
        upstream = site.upstream,
        listen = place.listen,
    );
    let file = place.write("nginx.conf", configuration.into_bytes())?;
    let mut command = site.on_proxy_core(&site.tools.nginx);
    command.arg("-p").arg(&place.folder).arg("-c").arg(file).args(["-e", "stderr"]);
    let mut launch = Launch::new(contender, command, place);
    launch.log = log;
    Ok(launch)
}
