//! What a running process takes of a changed configuration: everything but what it opened at its
//! start. It looks at values only and decides nothing about when.

use super::fault::Faults;
use super::sections::{Config, Listener};
use super::setting::Setting as _;

/// A configuration that a running process may take.
pub struct Reloaded {
    /// What is in force from now on.
    pub config: Config,
    /// The keys whose new value takes a restart, in the order of the file.
    pub needs_restart: Vec<String>,
}

/// `wanted`, with `started` where only a restart changes anything: the control plane, the gateway's
/// identity and threads, its feed, the operator's listener, and which listeners there are where.
///
/// # Errors
///
/// Every contradiction between what stays and what is new.
pub fn reloaded(started: &Config, wanted: Config) -> Result<Reloaded, Faults> {
    let mut needs_restart = Vec::new();
    let mut config = wanted;
    differing(&mut needs_restart, "control", &started.control.write(), &config.control.write());
    config.control = started.control.clone();
    differing(&mut needs_restart, "gateway", &started.gateway.write(), &config.gateway.write());
    config.gateway = started.gateway.clone();
    config.listeners = listeners(&started.listeners, &config.listeners, &mut needs_restart);
    differing(&mut needs_restart, "feed", &started.feed.write(), &config.feed.write());
    config.feed = started.feed.clone();
    differing(&mut needs_restart, "admin", &started.admin.write(), &config.admin.write());
    config.admin = started.admin.clone();
    let config = super::finish(config)?;
    Ok(Reloaded { config, needs_restart })
}

impl Reloaded {
    /// The same with the peppers of the start: a process whose control plane issues keys with them
    /// changes them in both halves or not at all.
    #[must_use]
    pub fn with_peppers_of(mut self, started: &Config) -> Self {
        if self.config.keys.peppers != started.keys.peppers {
            self.needs_restart.push("keys.peppers".to_owned());
            self.config.keys.peppers.clone_from(&started.keys.peppers);
        }
        self
    }
}

/// The listeners of the start, in their order, with what is new about them apart from their
/// addresses.
fn listeners(
    started: &[Listener],
    wanted: &[Listener],
    needs_restart: &mut Vec<String>,
) -> Vec<Listener> {
    let named = |listener: &&Listener, other: &Listener| listener.name == other.name;
    let kept = started.iter().map(|open| {
        let Some(changed) = wanted.iter().find(|listener| named(listener, open)) else {
            needs_restart.push(format!("listeners.{}", open.name.0));
            return open.clone();
        };
        if changed.address != open.address {
            needs_restart.push(format!("listeners.{}.address", open.name.0));
        }
        Listener { address: open.address, ..changed.clone() }
    });
    let kept = kept.collect();
    let added = wanted.iter().filter(|new| !started.iter().any(|open| named(&open, new)));
    needs_restart.extend(added.map(|new| format!("listeners.{}", new.name.0)));
    kept
}

/// Adds the keys of a section that differ.
fn differing(keys: &mut Vec<String>, section: &str, before: &toml::Value, now: &toml::Value) {
    let (Some(before), Some(now)) = (before.as_table(), now.as_table()) else { return };
    let changed = now.iter().filter(|(key, value)| before.get(*key) != Some(value));
    keys.extend(changed.map(|(key, _)| format!("{section}.{key}")));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        super::super::parse(text, Path::new("/etc"), &BTreeMap::new()).unwrap()
    }

    const STARTED: &str = "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n\
                           [[listeners]]\nname = \"b\"\naddress = \"127.0.0.1:2\"\n";

    #[test]
    fn what_needs_a_restart_keeps_its_value_and_is_named_and_the_rest_applies() {
        let wanted = config(
            "[control]\nlisten = \"127.0.0.1:9\"\nkey_prefix = \"new\"\n[gateway]\nworkers = 3\n\
             [feed]\nurl = \"http://127.0.0.1:8\"\n[admin]\naddress = \"127.0.0.1:7\"\n\
             [limits]\nheader_count = 7\n\
             [[listeners]]\nname = \"c\"\naddress = \"127.0.0.1:3\"\n\
             [[listeners]]\nname = \"b\"\naddress = \"127.0.0.1:4\"\n\
             trusted_proxies = [\"10.0.0.0/8\"]\n",
        );
        let started = config(STARTED);
        let reloaded = reloaded(&started, wanted).unwrap();
        assert_eq!(
            reloaded.needs_restart,
            [
                "control.key_prefix",
                "control.listen",
                "gateway.workers",
                "listeners.a",
                "listeners.b.address",
                "listeners.c",
                "feed.url",
                "admin.address"
            ]
        );
        let config = reloaded.config;
        assert_eq!(config.limits.header_count.0, 7);
        let names: Vec<_> = config.listeners.iter().map(|listener| &*listener.name.0).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(config.listeners[1].address, started.listeners[1].address);
        assert_eq!(config.listeners[1].trusted_proxies.len(), 1);
        assert_eq!((config.control, config.feed), (started.control, started.feed));
    }

    #[test]
    fn an_unchanged_configuration_needs_nothing() {
        let reloaded = reloaded(&config(STARTED), config(STARTED)).unwrap();
        assert!(reloaded.needs_restart.is_empty());
        assert_eq!(reloaded.config, config(STARTED));
    }

    #[test]
    fn new_settings_may_not_contradict_what_stays() {
        let wanted = "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:5\"\n\
                      [[upstreams]]\nname = \"u\"\naddresses = [{ host = \"127.0.0.1:1\" }]\n";
        let refused = reloaded(&config(STARTED), config(wanted)).err().unwrap();
        assert_eq!(refused.faults[0].key, "upstreams.u.addresses");
    }

    #[test]
    fn peppers_stay_where_both_halves_use_them() {
        let wanted = config(&format!(
            "{STARTED}[keys]\npeppers = [{{ id = 2, file = \"p2\" }}]\nprefixes = [\"abc\"]\n"
        ));
        let started = config(STARTED);
        let alone = reloaded(&started, wanted.clone()).unwrap();
        assert_eq!(alone.config.keys.peppers.len(), 1);
        let both = reloaded(&started, wanted).unwrap().with_peppers_of(&started);
        assert_eq!(both.needs_restart, ["keys.peppers"]);
        assert!(both.config.keys.peppers.is_empty());
        assert_eq!(both.config.keys.prefixes.len(), 1);
    }
}
