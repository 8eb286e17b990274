//! The table of figures.

use std::time::Duration;

use crate::plant::Plant;

/// What a median is held to.
#[derive(Copy, Clone)]
pub(crate) enum Bar {
    AtMost(Duration),
    None,
}

pub(crate) const fn ms(ms: u64) -> Bar {
    Bar::AtMost(Duration::from_millis(ms))
}

pub(crate) fn heading(plant: &Plant) {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {}, {cores} cores", model.trim_start_matches([' ', '\t', ':']));
    println!(
        "data: {} accounts, {} keys each",
        plant.populated["accounts"], plant.populated["keys_each"]
    );
    println!("opened in {:.1} s", plant.opened_in.as_secs_f64());
    println!("{:<58} {:>5} {:>10} {:>10} {:>8}", "", "n", "median ms", "p99 ms", "bar ms");
}

/// One line of the table.
pub(crate) fn line(name: &str, samples: &mut [Duration], bar: Bar) {
    samples.sort_unstable();
    let at = |share: f64| {
        let index = (samples.len() as f64 * share) as usize;
        samples.get(index.min(samples.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let (median, p99) = (at(0.5), at(0.99));
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let verdict = match bar {
        Bar::AtMost(limit) if median <= limit => format!("{:>8.0}  met", ms(limit)),
        Bar::AtMost(limit) => {
            format!("{:>8.0}  MISSED, factor {:.1}", ms(limit), ms(median) / ms(limit))
        }
        Bar::None => String::new(),
    };
    println!("{name:<58} {:>5} {:>10.2} {:>10.2} {verdict}", samples.len(), ms(median), ms(p99));
}
