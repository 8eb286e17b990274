//! Envoy: one worker thread, the `api_key_auth` filter with every key inline.
//!
//! The rest is at its defaults: like the product, it then counts requests, limits their time and
//! gives each an id. Switching all that off saved it a tenth.

use anyhow::Result;
use serde_json::json;

use super::{Contender, Launch};
use crate::keys::KeySet;
use crate::site::{Place, Site};

pub(super) fn launch(site: &Site, place: &Place, keys: &KeySet) -> Result<Launch> {
    let address = |address: std::net::SocketAddr| {
        json!({"socket_address": {
            "address": address.ip().to_string(), "port_value": address.port(),
        }})
    };
    let credentials: Vec<_> =
        keys.texts().map(|key| json!({"key": key, "client": "caller"})).collect();
    let key_filter = json!({
        "name": "api_key_auth",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
            "credentials": credentials,
            "key_sources": [{"header": "Authorization"}],
        },
    });
    let router = json!({
        "name": "router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        },
    });
    let http = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [key_filter, router],
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{
                "match": {"prefix": "/"},
                "route": {"cluster": "api"},
            }],
        }]},
    });
    let configuration = json!({"static_resources": {
        "listeners": [{
            "name": "in",
            "address": address(place.listen),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": http}]}],
        }],
        "clusters": [{
            "name": "api",
            "type": "STATIC",
            "connect_timeout": "2s",
            "load_assignment": {"cluster_name": "api", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(site.upstream)}},
            ]}]},
        }],
    }});
    let file = place.write("envoy.json", serde_json::to_vec(&configuration)?)?;
    let mut command = site.on_proxy_core(&site.tools.envoy);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
    command.arg("--config-path").arg(file);
    Ok(Launch::new(Contender::Envoy, command, place))
}
