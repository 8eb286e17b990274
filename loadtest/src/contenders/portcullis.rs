//! Portcullis: the gateway alone, one worker, its directory from a snapshot file.
//!
//! Everything but the number of workers and the records is at its default, and the route asks for a
//! permission on a resource: the whole decision is measured, not just the lookup of a key.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;

use super::{Contender, Launch};
use crate::keys::{KeySet, PEPPER, PEPPER_VERSION};
use crate::site::{Place, Site};

pub(super) fn launch(
    contender: Contender,
    site: &Site,
    place: &Place,
    keys: &KeySet,
) -> Result<Launch> {
    place.write("snapshot", keys.snapshot())?;
    let pepper = place.write("pepper", PEPPER.to_vec())?;
    // The gateway refuses a pepper that others may read.
    std::fs::set_permissions(pepper, std::fs::Permissions::from_mode(0o600))?;
    let log = (contender == Contender::PortcullisRecords).then(|| place.folder.join("records"));
    let records =
        log.as_ref().map_or_else(|| "off".to_owned(), |path| format!("file:{}", path.display()));
    let configuration = format!(
        r#"[gateway]
id = "compare"
workers = 1
[[listeners]]
name = "public"
address = "{listen}"
[feed]
mode = "file"
file = "snapshot"
[keys]
peppers = [{{ id = {PEPPER_VERSION}, file = "pepper" }}]
[admin]
address = "127.0.0.1:0"
[log]
level = "warn"
records = "{records}"
[[upstreams]]
name = "api"
addresses = [{{ host = "{upstream}" }}]
[[routes]]
name = "nodes"
path = "/v1/clusters/{{cluster}}/nodes"
methods = ["GET"]
upstream = "api"
require = {{ permission = "cluster:read", resource = "cluster/{{cluster}}" }}
"#,
        listen = place.listen,
        upstream = site.upstream,
    );
    let file = place.write("portcullis.toml", configuration.into_bytes())?;
    let mut command = site.on_proxy_core(&site.tools.portcullis);
    command.args(["gateway", "--config"]).arg(file);
    let mut launch = Launch::new(contender, command, place);
    launch.log = log;
    Ok(launch)
}
