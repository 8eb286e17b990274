use proptest::prelude::*;

use super::*;
use crate::entropy::{Entropy, EntropyFailure};

const EXAMPLE: &str = "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr";

struct Fixed([u8; 40]);

impl Entropy for Fixed {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        let from = if out.len() == 8 { 0 } else { 8 };
        out.copy_from_slice(&self.0[from..from + out.len()]);
        Ok(())
    }
}

struct Broken;

impl Entropy for Broken {
    fn fill(&self, _: &mut [u8]) -> Result<(), EntropyFailure> {
        Err(EntropyFailure)
    }
}

fn example_bytes() -> Fixed {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_be_bytes());
    for (number, byte) in (0u8..).zip(&mut bytes[8..]) {
        *byte = number;
    }
    Fixed(bytes)
}

fn counting_pepper() -> Pepper {
    Pepper::new(1, std::array::from_fn(|place| place as u8))
}

#[test]
fn the_example_of_the_specification_is_minted_and_read_back() {
    let key = mint(&Prefix::default(), &example_bytes()).expect("entropy is fixed");
    assert_eq!(key.expose(), EXAMPLE);
    assert_eq!(key.tail().len(), 49);
    assert_eq!(key.last4(), "0BAr");
    let parsed = parse(EXAMPLE.as_bytes()).expect("the example is well-formed");
    assert_eq!(parsed.id().to_string(), "063UfDVRKBz");
    assert_eq!(parsed.prefix().as_str(), "ptc");
    let digest = parsed.digest(&counting_pepper()).to_hex();
    assert_eq!(&digest[..32], "f122b54ccf64789144eef3693bff7d50");
}

#[test]
fn a_failing_generator_fails_the_mint() {
    assert_eq!(mint(&Prefix::default(), &Broken).err(), Some(EntropyFailure));
}

#[test]
fn every_kind_of_malformed_text_is_named() {
    let with = |from: &str, to: &str| EXAMPLE.replacen(from, to, 1);
    let crc_over = format!("{}zzzzzz", &EXAMPLE[..EXAMPLE.len() - 6]);
    let cases = [
        (String::new(), Malformed::Length),
        (EXAMPLE[1..].replace("tc_", "c_").to_string(), Malformed::Length),
        (format!("aaaaaaaaaaaaaa{EXAMPLE}"), Malformed::Length),
        (with("ptc_", "ptcx"), Malformed::Shape),
        (with("Bz_0", "Bzx0"), Malformed::Shape),
        (with("ptc_", "p-c_"), Malformed::Prefix),
        (with("063U", "06-U"), Malformed::Alphabet),
        (with("003a", "00\u{7f}a"), Malformed::Alphabet),
        (with("063UfDVRKBz", "LygHa16AHYG"), Malformed::Width),
        (with("003aUl", "zzzaUl"), Malformed::Width),
        (crc_over, Malformed::Width),
        (with("BAr", "BAs"), Malformed::Checksum),
        (with("063U", "073U"), Malformed::Checksum),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text.as_bytes()).err(), Some(expected), "{text}");
    }
}

#[test]
fn secrets_are_not_in_debug_output() {
    let key = mint(&Prefix::default(), &example_bytes()).expect("entropy is fixed");
    let pepper = counting_pepper();
    let shown =
        format!("{key:?} {:?} {:?} {:?}", key.parsed(), pepper, key.parsed().digest(&pepper));
    assert_eq!(shown, "PlainKey ParsedKey(063UfDVRKBz) Pepper(1) Digest");
}

#[test]
fn a_ring_has_one_to_four_distinct_peppers() {
    let ring = |versions: &[u32]| {
        PepperRing::new(versions.iter().map(|&version| Pepper::new(version, [0; 32])).collect())
    };
    assert_eq!(ring(&[]).err(), Some(PepperRingError::Count(0)));
    assert_eq!(ring(&[1, 2, 3, 4, 5]).err(), Some(PepperRingError::Count(5)));
    assert_eq!(ring(&[1, 2, 1]).err(), Some(PepperRingError::Repeated(1)));
    let ring = ring(&[7, 3]).expect("two distinct peppers");
    assert_eq!(ring.current().version(), 7);
    assert!(ring.find(3).is_some());
    assert!(ring.find(4).is_none());
}

proptest! {
    #[test]
    fn every_minted_key_reads_back(id: u64, secret: [u8; 32], prefix in "[A-Za-z0-9]{2,16}") {
        let prefix: Prefix = prefix.parse().expect("drawn from the alphabet");
        let key = mint::render(KeyId::from_u64(id), &prefix, &secret);
        let parsed = parse(key.expose().as_bytes()).expect("minted");
        prop_assert_eq!(parsed.id().as_u64(), id);
        prop_assert_eq!(parsed.prefix(), prefix);
        prop_assert_eq!(KeyId::from_u64(id).to_string().parse::<KeyId>(), Ok(KeyId::from_u64(id)));
    }

    #[test]
    fn one_changed_byte_is_never_accepted(secret: [u8; 32], place in 0usize..65, byte: u8) {
        let key = mint::render(KeyId::from_u64(1), &Prefix::default(), &secret);
        let mut text = key.expose().as_bytes().to_vec();
        prop_assume!(text[place] != byte);
        text[place] = byte;
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&text);
    }
}
