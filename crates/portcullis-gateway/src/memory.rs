//! How much memory the process has, and how much it may have. Beyond the limit the gateway sheds
//! load instead of being ended by the kernel. Measures on the steward's thread; workers read one
//! atomic.

use std::sync::atomic::{AtomicU8, Ordering};

/// What is done about the memory in use.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// Nothing.
    None,
    /// 90 % of the limit: no new connections.
    High,
    /// The limit: requests are refused, too.
    Full,
}

/// The pressure of the last measurement.
#[derive(Default)]
pub(crate) struct Gauge(AtomicU8);

impl Gauge {
    pub(crate) fn read(&self) -> Pressure {
        match self.0.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::High,
            _ => Pressure::Full,
        }
    }

    /// Measures against `limit` in bytes. What cannot be measured is no pressure: the kernel's
    /// own limit stands behind this one.
    pub(crate) fn measure(&self, limit: u64) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let pressure = pressure(resident(&status).unwrap_or(0), limit);
        if self.0.swap(pressure as u8, Ordering::Relaxed) != pressure as u8 {
            tracing::warn!(?pressure, limit, "the memory in use crossed a threshold");
        }
    }
}

fn pressure(used: u64, limit: u64) -> Pressure {
    if used >= limit {
        Pressure::Full
    } else if used >= limit / 10 * 9 {
        Pressure::High
    } else {
        Pressure::None
    }
}

/// Resident bytes, from the text of `/proc/self/status`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The configured limit in bytes, or 80 % of what the process may have: its control group's limit,
/// or the machine's memory.
pub(crate) fn limit(configured: u64) -> u64 {
    if configured > 0 {
        return configured;
    }
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let of_group = [own, "/"].iter().find_map(|group| {
        let path = format!("/sys/fs/cgroup{group}/memory.max");
        std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
    });
    let machine = || {
        let found = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = found.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    of_group.or_else(machine).map_or(u64::MAX, |all| all / 10 * 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_rises_at_nine_tenths_and_at_the_limit() {
        assert_eq!(pressure(899, 1000), Pressure::None);
        assert_eq!(pressure(900, 1000), Pressure::High);
        assert_eq!(pressure(999, 1000), Pressure::High);
        assert_eq!(pressure(1000, 1000), Pressure::Full);
    }

    #[test]
    fn the_kernel_s_text_is_read() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12 * 1024));
        assert_eq!(resident("Name:\tx\n"), None);
        assert!(limit(0) > 1 << 20 && limit(7) == 7);
        let gauge = Gauge::default();
        gauge.measure(1);
        assert_eq!(gauge.read(), Pressure::Full);
        gauge.measure(u64::MAX);
        assert_eq!(gauge.read(), Pressure::None);
    }
}
