//! A bare pingora-proxy: one thread, keep-alive upstreams, one hash lookup of the bearer key.
//!
//! It shows what the proxy framework itself costs. It must do no more than the other contenders'
//! key maps do: no stripping, no identity, no metrics.
//!
//! `bare-pingora LISTEN UPSTREAM KEYS-FILE`

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bare-pingora LISTEN UPSTREAM KEYS-FILE";
    let listen = arguments.next().context(usage)?;
    let upstream = arguments.next().context(usage)?;
    let keys = std::fs::read_to_string(arguments.next().context(usage)?).context("reading keys")?;

    let conf = ServerConf {
        threads: 1,
        // One thread has nobody to steal from: the cheaper of the framework's two runtimes.
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let gate = Gate { upstream, keys: keys.lines().map(str::to_owned).collect() };
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), gate);
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever()
}

struct Gate {
    upstream: String,
    keys: HashSet<String>,
}

impl Gate {
    fn admits(&self, session: &Session) -> bool {
        session
            .req_header()
            .headers
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|key| self.keys.contains(key))
    }
}

#[async_trait]
impl ProxyHttp for Gate {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(
        &self,
        session: &mut Session,
        (): &mut (),
    ) -> pingora_core::Result<bool> {
        if self.admits(session) {
            return Ok(false);
        }
        session.respond_error(401).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        (): &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(&self.upstream, false, String::new())))
    }
}
