//! The start line: where the application is, for people and for programs.

use std::io::IsTerminal;
use std::time::Duration;

use portcullis_gateway::GatewayHandle;
use serde_json::json;

use super::demo::{self, Demo, DemoUpstream};
use super::output::Output;
use crate::app::{ADMIN_TOKEN, Addresses, OPERATOR_TOKEN, Running};
use crate::config::{AdminAddress, Config};

/// How long the start line waits for the gateway half to have its first directory.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// Says where the application is, as soon as a request can be decided.
pub(super) async fn tell(
    config: &Config,
    running: &Running,
    first_start: bool,
    demo_upstream: Option<&DemoUpstream>,
    screen: Output,
) -> anyhow::Result<()> {
    let addresses = running.addresses();
    if let (Some(gateway), Some(_)) = (running.gateway(), addresses.control) {
        // A gateway on its own says its address at once: its control plane may be down.
        let ready = tokio::time::timeout(READY_PATIENCE, until_ready(&gateway)).await;
        if ready.is_err() {
            tracing::warn!(failing = ?gateway.status().failing, "the gateway is not ready yet");
        }
    }
    let demo = match demo_upstream {
        Some(_) => Some(demo::prepare(addresses, &config.control.data_dir).await?),
        None => None,
    };
    if screen.is_json() {
        return screen.json(&start_line(addresses, demo.as_ref()));
    }
    screen.line(&banner(config, addresses, first_start, demo.as_ref()))
}

async fn until_ready(gateway: &GatewayHandle) {
    while !gateway.status().ready {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The start line for programs.
fn start_line(addresses: &Addresses, demo: Option<&Demo>) -> serde_json::Value {
    let first = addresses.listeners.first().map(|(_, address)| address);
    let mut line = json!({
        "event": "started",
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "gateway": first,
        "control": addresses.control,
        "admin": addresses.admin,
        "listeners": addresses.listeners,
    });
    if let (Some(demo), Some(line)) = (demo, line.as_object_mut()) {
        line.insert("demo".to_owned(), demo.to_json());
    }
    line
}

/// The start lines for people.
fn banner(
    config: &Config,
    addresses: &Addresses,
    first_start: bool,
    demo: Option<&Demo>,
) -> String {
    let mut lines = vec![format!("Portcullis {} is up.", env!("CARGO_PKG_VERSION"))];
    for (name, address) in &addresses.listeners {
        lines.push(format!("  requests    http://{address}  (listener {name})"));
    }
    if let Some(address) = addresses.control {
        lines.push(format!("  admin API   http://{address}"));
    }
    let operations = match &addresses.admin {
        Some(AdminAddress::Tcp(address)) => Some(format!("http://{address}")),
        Some(AdminAddress::Socket(path)) => {
            Some(format!("curl --unix-socket {} http://localhost", path.display()))
        }
        None => None,
    };
    if let Some(server) = operations {
        lines.push(format!("  operations  {server}/readyz  /metrics  /admin/v1/status"));
    }
    if addresses.control.is_some() {
        let directory = config.control.data_dir.display();
        lines.push(format!("  data        {directory}"));
        if first_start {
            lines.push(format!(
                "First start: the owner's token is in {directory}/{ADMIN_TOKEN}, the installation \
                 operator's in {directory}/{OPERATOR_TOKEN}."
            ));
        }
    }
    match demo {
        Some(demo) => lines.push(demo.to_string()),
        None if !addresses.listeners.is_empty() && config.routes.is_empty() => lines.push(
            "No routes: every request is answered 404. Name a service with --upstream URL, or \
             write [[routes]] into a file for --config."
                .to_owned(),
        ),
        None => {}
    }
    lines.push("Ctrl-C ends it.".to_owned());
    lines.join("\n")
}

/// People get text on a terminal, programs JSON anywhere else.
pub(super) fn screen(json: bool) -> Output {
    Output::new(json || !std::io::stdout().is_terminal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_line_names_what_runs() {
        let addresses = Addresses {
            listeners: vec![("public".to_owned(), ([127, 0, 0, 1], 8080).into())],
            control: None,
            admin: Some(AdminAddress::Tcp(([127, 0, 0, 1], 9901).into())),
        };
        let line = start_line(&addresses, None);
        assert_eq!(line["event"], "started");
        assert_eq!(line["gateway"], "127.0.0.1:8080");
        assert_eq!(line["control"], serde_json::Value::Null);
        assert_eq!(line["admin"], "127.0.0.1:9901");
    }
}
