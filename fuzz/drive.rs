//! Runs the body of a fuzz target as an ordinary test: over its seeds, and over a bounded number of
//! mutations of them. Every input follows from the target's name and a number, so a failure can be
//! repeated from what it prints.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Longest mutated input.
const MAX: usize = 4096;
/// Bytes and texts that mean something to at least one of the parsers.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b"%",
    b"%2F",
    b"%2e",
    b"%25",
    b"%C3%A4",
    b"/",
    b"//",
    b"/../",
    b"?",
    b"#",
    b"{x}",
    b"{*x}",
    b"*.",
    b"_",
    b",",
    b";",
    b"=",
    b"&",
    b"\"",
    b"\\",
    b"[",
    b"]",
    b"{",
    b"}",
    b":",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"9007199254740993",
    b"1e400",
    b"\xff",
    b"\xed\xa0\x80",
];

/// Runs `body` over every file of `seeds`/`target` and over `rounds` mutations of them. Panics with
/// what to repeat at the first input that `body` does not bear.
pub(crate) fn drive(target: &str, seeds: &Path, rounds: u64, body: fn(&[u8])) {
    let folder = seeds.join(target);
    let listed = std::fs::read_dir(&folder);
    let mut files: Vec<_> = listed
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a seed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no seed", folder.display());
    let seeds: Vec<Vec<u8>> =
        files.iter().map(|file| std::fs::read(file).expect("a seed is read")).collect();
    for (file, seed) in files.iter().zip(&seeds) {
        check(&file.display().to_string(), seed, body);
    }
    for round in 0..rounds {
        let mut random = Random::new(target, round);
        let input = mutate(&seeds, &mut random);
        check(&format!("target {target}, round {round}"), &input, body);
    }
}

fn check(what: &str, input: &[u8], body: fn(&[u8])) {
    if catch_unwind(AssertUnwindSafe(|| body(input))).is_err() {
        panic!("{what}: the input is b\"{}\"", input.escape_ascii());
    }
}

fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let length = random.below(input.len() - at + 1).min(64);
        match random.below(8) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = u8::try_from(random.below(256)).unwrap_or(0),
            2 => input.insert(at, u8::try_from(random.below(256)).unwrap_or(0)),
            3 => {
                input.drain(at..at + length);
            }
            4 => {
                let piece = input[at..at + length].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            5 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
        }
    }
    input.truncate(MAX);
    input
}

/// xorshift64*: good enough to stir bytes, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(target: &str, round: u64) -> Self {
        let name = target.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut random = Self((name ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end as u64)).unwrap_or(0)
    }
}
