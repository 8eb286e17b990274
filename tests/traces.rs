//! W3C Trace Context: a caller's trace goes on to the upstream and into the record, and a broken one
//! does neither.

use serde_json::Value;

use crate::support::http::Request;
use crate::support::snapshot::Snapshot;
use crate::support::stage::{OPEN_ROUTE, file_home, records};
use crate::support::upstream::Upstream;

const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn a_trace_goes_through_and_is_sampled_on_a_trusted_proxy_s_word_only() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let upstream = Upstream::uvicorn();
    let listener = |name: &str, trusted: &str| {
        format!(
            "[[listeners]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [{trusted}]\n"
        )
    };
    for (trusted, flags) in [("", "00"), ("\"127.0.0.0/8\"", "01")] {
        let home = file_home(&upstream, &format!("{OPEN_ROUTE}{}", listener("public", trusted)));
        snapshot.write_to(&home);
        let program =
            home.start(&["gateway", "--config", "CONFIG", "--admin", "127.0.0.1:0"]).ready();
        let parent = format!("00-{ID}-00f067aa0ba902b7-01");
        let ask = |parent: &str, key: &str| {
            let request = Request::get("/").bearer(key).header("traceparent", parent);
            request.header("tracestate", "b=2").header("tracestate", "a=1").send(program.gateway())
        };
        let line = |seen: &Value, name: &str| {
            let lines = seen["headers"].as_array().unwrap().iter();
            let values = lines.filter(|line| line[0] == name).map(|line| line[1].as_str().unwrap());
            values.map(str::to_owned).collect::<Vec<_>>().join("; ")
        };

        let seen = ask(&parent, key.expose()).expect_status(200).json();
        let told = line(&seen, "traceparent");
        assert!(
            told.starts_with(&format!("00-{ID}-")) && told.ends_with(&format!("-{flags}")),
            "{told}"
        );
        assert_ne!(told[36..52], parent[36..52], "the span is the gateway's own");
        assert_eq!(line(&seen, "tracestate"), "b=2,a=1");

        let seen = ask("00-no-trace-01", key.expose()).expect_status(200).json();
        let (told, id) = (line(&seen, "traceparent"), line(&seen, "portcullis-request-id"));
        assert_eq!(told, format!("00-{id}-{}-00", &id[16..]));
        assert_eq!(line(&seen, "tracestate"), "");

        ask(&parent, "nonsense").expect_status(401);
        let traces: Vec<_> = records(&home, 3)
            .iter()
            .map(|record| record["trace_id"].as_str().unwrap().to_owned())
            .collect();
        let mut wanted = [ID.to_owned(), id, ID.to_owned()];
        // Several workers write the file.
        wanted.sort();
        let mut traces = traces;
        traces.sort();
        assert_eq!(traces, wanted);
    }
}
