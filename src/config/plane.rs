//! From the configuration to what each plane is started with. Values were checked when they were
//! read, so this is a translation word for word; every section is taken apart field by field, so
//! that a new key that nobody passes on does not compile.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use portcullis_core::key::{Pepper, PepperRing};
use portcullis_core::route;
use portcullis_gateway as gateway;

use super::choices::{
    Ambiguous, Auth, EncodedSlash, ErrorTemplate, OddSegments, OnStale, Rendering, Underscore,
    UnknownResource,
};
use super::domain::{MetadataUrl, RecordSink};
use super::fault::{Fault, Place};
use super::sections::{self, Config};

/// What the gateway is started with.
///
/// # Errors
///
/// Only if a value is out of the bounds its kind promises.
pub fn gateway_settings(
    config: &Config,
    gateway_id: String,
    feed: gateway::Feed,
    peppers: PepperRing,
) -> anyhow::Result<gateway::Settings> {
    let sections::Keys { peppers: _, prefixes, imported, sessions, renderings } = &config.keys;
    let prefixes = prefixes.iter().map(|prefix| prefix.0.parse()).collect::<Result<_, _>>();
    let sections::Identity { prefix, realm, resource_metadata } = &config.identity;
    let sections::Headers { underscore, remove } = &config.headers;
    let sections::Log { level: _, records, sample_allowed } = &config.log;
    let settings = gateway::Settings {
        gateway_id,
        workers: usize::try_from(config.gateway.workers.0)?,
        listeners: config.listeners.iter().map(listener).collect(),
        feed,
        keys: gateway::Keys {
            peppers,
            prefixes: prefixes.context("keys.prefixes")?,
            spellings: gateway::Spellings {
                imported: *imported,
                zen: renderings.contains(&Rendering::Zen),
                zenpro: renderings.contains(&Rendering::Zenpro),
            },
            sessions: *sessions,
        },
        identity: gateway::Identity {
            prefix: prefix.0.clone(),
            realm: realm.0.clone(),
            resource_metadata: url(resource_metadata),
        },
        headers: gateway::Headers {
            underscore: match underscore {
                Underscore::Drop => gateway::Underscore::Drop,
                Underscore::Keep => gateway::Underscore::Keep,
                Underscore::Reject => gateway::Underscore::Reject,
            },
            remove: remove.iter().map(|name| name.0.clone()).collect(),
        },
        paths: paths(&config.paths),
        limits: limits(&config.limits)?,
        timeouts: timeouts(&config.timeouts),
        failures: failures(&config.failures),
        upstreams: config.upstreams.iter().map(upstream).collect::<anyhow::Result<_>>()?,
        routes: config.routes.iter().map(route).collect::<anyhow::Result<_>>()?,
        log: gateway::Log {
            records: match records {
                RecordSink::File(path) => gateway::Records::File(path.clone()),
                RecordSink::Off => gateway::Records::Off,
                RecordSink::Stdout => gateway::Records::Stdout,
            },
            sample_allowed: sample_allowed.0,
        },
    };
    Ok(settings)
}

/// What a running gateway is given: its name and its feed stay those of its start, so nothing is
/// said about them here.
///
/// # Errors
///
/// Only if a value is out of the bounds its kind promises.
pub fn reload_settings(config: &Config, peppers: PepperRing) -> anyhow::Result<gateway::Settings> {
    let feed = gateway::Feed::File { path: PathBuf::from("unused"), verify_key: None };
    gateway_settings(config, "unused".to_owned(), feed, peppers)
}

/// What the gateway finds wrong with its part. No file is opened for it: neither the feed's source
/// nor a pepper changes what else is wrong.
pub(super) fn gateway_faults(config: &Config) -> Vec<Fault> {
    let fault = |key: String, what: String| Fault { key, what, place: Place::BuiltIn };
    let settings = PepperRing::new(vec![Pepper::new(1, [0; 32])])
        .map_err(anyhow::Error::from)
        .and_then(|peppers| reload_settings(config, peppers));
    match settings {
        Ok(settings) => {
            gateway::check(settings).into_iter().map(|found| fault(found.key, found.what)).collect()
        }
        Err(error) => vec![fault(String::new(), format!("{error:#}"))],
    }
}

/// What the control plane is trusted with; read from files of its own.
pub struct ControlSecrets {
    /// What digests of keys are keyed with.
    pub peppers: PepperRing,
    /// Signs the feed.
    pub signer: portcullis_control::FeedSigner,
    /// Seals the secrets of idempotent calls.
    pub sealer: portcullis_control::Sealer,
    /// Sign session tokens.
    pub session_signers: Vec<portcullis_control::SessionSigner>,
}

/// What the control plane is started with.
///
/// # Errors
///
/// Only if a value is out of the bounds its kind promises.
pub fn control_settings(
    config: &Config,
    database: PathBuf,
    secrets: ControlSecrets,
) -> anyhow::Result<portcullis_control::Settings> {
    let sections::Control {
        listen,
        data_dir: _,
        database: _,
        key_prefix,
        public_url,
        session_keys: _,
        session_alg: _,
        change_log_length,
        integrity_check_mib,
        log: _,
    } = &config.control;
    let ControlSecrets { peppers, signer, sealer, session_signers } = secrets;
    Ok(portcullis_control::Settings {
        listen: *listen,
        database,
        peppers: Arc::new(peppers),
        prefix: key_prefix.0.parse().context("control.key_prefix")?,
        signer,
        sealer,
        session_signers,
        public_url: Some(public_url.0.clone()).filter(|url| !url.is_empty()),
        change_log_length: change_log_length.0,
        integrity_check_bytes: integrity_check_mib.0 << 20,
    })
}

fn listener(listener: &sections::Listener) -> gateway::Listener {
    let sections::Listener { name, address, trusted_proxies, require_tls } = listener;
    let cidr = |network: &super::kinds::Network| format!("{}/{}", network.address, network.bits);
    gateway::Listener {
        name: name.0.clone(),
        address: *address,
        trusted_proxies: trusted_proxies.iter().map(cidr).collect(),
        require_tls: *require_tls,
    }
}

fn paths(paths: &sections::Paths) -> route::PathPolicy {
    let sections::Paths { ambiguous, odd_segments } = paths;
    route::PathPolicy {
        ambiguous: match ambiguous {
            Ambiguous::Canonicalise => route::Ambiguous::Canonicalise,
            Ambiguous::Redirect => route::Ambiguous::Redirect,
            Ambiguous::Reject => route::Ambiguous::Reject,
        },
        odd_segments: match odd_segments {
            OddSegments::Keep => route::Odd::Keep,
            OddSegments::Reject => route::Odd::Reject,
        },
    }
}

fn limits(limits: &sections::Limits) -> anyhow::Result<gateway::Limits> {
    let sections::Limits {
        head_bytes,
        header_count,
        target_bytes,
        connections,
        connections_per_source,
        requests_per_connection,
        in_flight_per_worker,
        memory_bytes,
    } = limits;
    Ok(gateway::Limits {
        head_bytes: usize::try_from(head_bytes.0)?,
        header_count: usize::try_from(header_count.0)?,
        target_bytes: usize::try_from(target_bytes.0)?,
        connections: usize::try_from(connections.0)?,
        connections_per_source: usize::try_from(connections_per_source.0)?,
        requests_per_connection: u32::try_from(requests_per_connection.0)?,
        in_flight_per_worker: usize::try_from(in_flight_per_worker.0)?,
        memory_bytes: memory_bytes.0,
    })
}

fn timeouts(timeouts: &sections::Timeouts) -> gateway::Timeouts {
    let sections::Timeouts {
        first_byte,
        head,
        idle,
        min_rate,
        rate_grace,
        request,
        upstream_connect,
        upstream_head,
        upstream_read,
        stream_idle,
        linger,
        drain,
    } = timeouts;
    gateway::Timeouts {
        first_byte: first_byte.0,
        head: head.0,
        idle: idle.0,
        min_rate: min_rate.0,
        rate_grace: rate_grace.0,
        request: request.0,
        upstream_connect: upstream_connect.0,
        upstream_head: upstream_head.0,
        upstream_read: upstream_read.0,
        stream_idle: stream_idle.0,
        linger: linger.0,
        drain: drain.0,
    }
}

fn failures(failures: &sections::Failures) -> gateway::Failures {
    let sections::Failures { rate, period } = failures;
    gateway::Failures { rate: rate.0, period: period.0 }
}

fn upstream(upstream: &sections::Upstream) -> anyhow::Result<gateway::Upstream> {
    let sections::Upstream {
        name,
        addresses,
        retries,
        idle,
        idle_time,
        connections,
        requests_per_connection,
        response_head_bytes,
        allow_link_local,
    } = upstream;
    let address = |address: &sections::UpstreamAddress| {
        let sections::UpstreamAddress { host, weight } = address;
        anyhow::Ok(gateway::UpstreamAddress {
            host: host.0.clone(),
            weight: u32::try_from(weight.0)?,
        })
    };
    Ok(gateway::Upstream {
        name: name.0.clone(),
        addresses: addresses.iter().map(address).collect::<anyhow::Result<_>>()?,
        retries: u32::try_from(retries.0)?,
        idle: usize::try_from(idle.0)?,
        idle_time: idle_time.0,
        connections: usize::try_from(connections.0)?,
        requests_per_connection: u32::try_from(requests_per_connection.0)?,
        response_head_bytes: usize::try_from(response_head_bytes.0)?,
        allow_link_local: *allow_link_local,
    })
}

fn route(route: &sections::Route) -> anyhow::Result<gateway::Route> {
    let sections::Route {
        name,
        hosts,
        path,
        methods,
        upstream,
        auth,
        authenticated_only: _,
        require: sections::Require { permission, resource },
        credentials,
        forward_credential,
        strip_prefix,
        encoded_slash,
        unknown_resource,
        orgs,
        body_bytes,
        timeout,
        max_staleness,
        on_stale,
        streaming,
        resource_metadata,
        error_template,
        errors,
    } = route;
    let credential = |credential: &super::domain::Credential| credential.0.parse();
    Ok(gateway::Route {
        name: name.0.clone(),
        hosts: hosts.iter().map(|host| host.0.clone()).collect(),
        path: path.0.clone(),
        methods: methods.iter().map(|method| method.0.clone()).collect(),
        upstream: upstream.0.clone(),
        // `check` made sure that a route with a key and without a permission said so.
        access: match auth {
            Auth::None => gateway::Access::Public,
            Auth::Key if permission.0.is_empty() => gateway::Access::AuthenticatedOnly,
            Auth::Key => gateway::Access::Require {
                permission: permission.0.clone(),
                resource: Some(resource.clone()).filter(|resource| !resource.is_empty()),
            },
        },
        credentials: credentials.iter().map(credential).collect::<Result<_, _>>()?,
        forward_credential: *forward_credential,
        strip_prefix: Some(strip_prefix.0.clone()).filter(|prefix| !prefix.is_empty()),
        encoded_slash_keep: *encoded_slash == EncodedSlash::Keep,
        unknown_resource: match unknown_resource {
            UnknownResource::Deny => gateway::UnknownResource::Deny,
            UnknownResource::Root => gateway::UnknownResource::Root,
        },
        orgs: orgs.clone(),
        body_bytes: body_bytes.0,
        timeout: timeout.0,
        max_staleness: max_staleness.0,
        on_stale: match on_stale {
            OnStale::FailClosed => gateway::OnStale::FailClosed,
            OnStale::SafeMethods => gateway::OnStale::SafeMethods,
            OnStale::ServeRecorded => gateway::OnStale::ServeRecorded,
        },
        streaming: *streaming,
        resource_metadata: url(resource_metadata),
        error_template: match error_template {
            ErrorTemplate::Aihub => gateway::ErrorTemplate::Aihub,
            ErrorTemplate::Castai => gateway::ErrorTemplate::Castai,
            ErrorTemplate::Grpc => gateway::ErrorTemplate::Grpc,
            ErrorTemplate::Kitaru => gateway::ErrorTemplate::Kitaru,
            ErrorTemplate::Oauth => gateway::ErrorTemplate::Oauth,
            ErrorTemplate::Openai => gateway::ErrorTemplate::Openai,
            ErrorTemplate::Problem => gateway::ErrorTemplate::Problem,
            ErrorTemplate::Unkey => gateway::ErrorTemplate::Unkey,
            ErrorTemplate::Zenml => gateway::ErrorTemplate::Zenml,
        },
        errors: errors.0.iter().map(error_body).collect(),
    })
}

fn url(text: &MetadataUrl) -> Option<String> {
    Some(text.0.clone()).filter(|url| !url.is_empty())
}

fn error_body((code, error): (&String, &sections::RouteError)) -> gateway::ErrorBody {
    let sections::RouteError { content_type, body } = error;
    gateway::ErrorBody {
        code: code.clone(),
        content_type: content_type.clone(),
        body: body.clone(),
    }
}
