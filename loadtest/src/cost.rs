//! What processes have used, as the kernel counts it in `/proc`. Never by sampling.

use std::fs;

use anyhow::{Context, Result};

/// A process and all its descendants.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(id) = all.get(next).copied() {
        next += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

/// CPU time, in microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) user_us: u64,
    pub(crate) kernel_us: u64,
}

impl Cpu {
    /// What the processes have used so far.
    pub(crate) fn of(processes: &[u32]) -> Result<Self> {
        let (mut user, mut kernel) = (0, 0);
        for id in processes {
            let stat = fs::read_to_string(format!("/proc/{id}/stat"))
                .with_context(|| format!("process {id} is gone"))?;
            // The second field, the name, may hold spaces; it ends at the last parenthesis.
            let (_, fields) = stat.rsplit_once(')').context("unreadable /proc/*/stat")?;
            let mut fields = fields.split_whitespace().skip(11);
            for (sum, name) in [(&mut user, "utime"), (&mut kernel, "stime")] {
                let field = fields.next().with_context(|| format!("no {name} in /proc/*/stat"))?;
                *sum += field.parse::<u64>()?;
            }
        }
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second();
        Ok(Self { user_us: user * tick_us, kernel_us: kernel * tick_us })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(before.user_us),
            kernel_us: self.kernel_us.saturating_sub(before.kernel_us),
        }
    }
}

/// Proportional resident memory: pages shared between a master and its worker count once.
pub(crate) fn memory_bytes(processes: &[u32]) -> Result<u64> {
    let mut kib = 0;
    for id in processes {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))
            .with_context(|| format!("process {id} is gone"))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        kib += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(kib * 1024)
}

/// Time a core was busy with anything, in microseconds, and the part the hypervisor took.
pub(crate) fn core_busy_us(core: usize) -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{core} ");
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix(&name))
        .with_context(|| format!("no core {core} in /proc/stat"))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|field| ticks.get(*field)).sum();
    Ok(busy * 1_000_000 / rustix::param::clock_ticks_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_used_memory_and_is_the_root_of_its_tree() {
        let own = std::process::id();
        assert_eq!(tree(own)[0], own);
        assert!(memory_bytes(&[own]).expect("we are running") > 0);
        Cpu::of(&[own]).expect("we are running");
    }
}
