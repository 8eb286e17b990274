//! Every tampering is found: changed, dropped, doubled and swapped events, chains written anew, ends
//! cut off, checkpoints taken out or forged.

use proptest::prelude::*;

use super::*;
use crate::api::views::audit_event;

fn signer() -> FeedSigner {
    FeedSigner::from_seed(&[9; 32])
}

fn trusted() -> Vec<String> {
    vec![signer().public_key()]
}

fn row(seq: i64, prev_hash: &str) -> AuditRow {
    let mut row = AuditRow {
        org_id: "o1".to_owned(),
        seq,
        id: format!("e{seq}"),
        at_ms: 1_795_305_600_000 + seq,
        actor_kind: "user".to_owned(),
        actor_id: "u1".to_owned(),
        actor_name: "admin".to_owned(),
        actor_key_id: (seq % 3 == 0).then(|| "063UfDVRKBz".to_owned()),
        actor_state: "active".to_owned(),
        action: "api_key.rotate".to_owned(),
        target_kind: "api_key".to_owned(),
        target_id: "063UfDVRKBz".to_owned(),
        target_name: "main".to_owned(),
        resource_id: None,
        outcome: "ok".to_owned(),
        reason: None,
        ip: Some("192.0.2.1".to_owned()),
        user_agent: None,
        request_id: None,
        before_json: Some("{\"a\":1,\"b\":[\"\u{e9}\"]}".to_owned()),
        after_json: None,
        prev_hash: prev_hash.to_owned(),
        hash: String::new(),
    };
    row.hash = row.computed_hash();
    row
}

/// An export of so many events, as lines: with the checkpoints that a store makes, and one of the
/// last event.
fn export(count: i64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut hash = GENESIS.to_owned();
    for seq in 1..=count {
        let row = row(seq, &hash);
        hash = row.hash.clone();
        lines.push(audit_event(&row).to_string());
        if is_sealed_at_once(seq) || seq == count {
            let sealed = Checkpoint::sign("o1", (seq, &hash), WallMs(7), &signer());
            lines.push(sealed.to_line().to_string());
        }
    }
    lines
}

fn walk(lines: &[String]) -> ChainVerdict {
    let mut walk = ExportWalk::new(trusted());
    lines.iter().for_each(|line| walk.line(line.as_bytes()));
    walk.finish()
}

fn is_event(line: &str) -> bool {
    !line.contains(LINE)
}

/// Places of events among the lines.
fn events(lines: &[String]) -> Vec<usize> {
    (0..lines.len()).filter(|at| is_event(&lines[*at])).collect()
}

#[test]
fn a_sound_export_is_sound() {
    for count in [0, 1, 2, 99, 100, 101, 230] {
        let verdict = walk(&export(count));
        let some = (count > 0).then_some(count);
        assert!(verdict.ok, "{count} {verdict:?}");
        assert_eq!((verdict.last_seq, verdict.sealed_seq), (some, some));
    }
}

#[test]
fn whoever_writes_the_chain_anew_lacks_the_signature() {
    let mut lines = export(120);
    let mut hash = GENESIS.to_owned();
    for at in events(&lines) {
        let mut row = row_of_export(&serde_json::from_str(&lines[at]).unwrap()).unwrap();
        if row.seq == 50 {
            row.actor_name = "mallory".to_owned();
        }
        row.prev_hash = hash;
        row.hash = row.computed_hash();
        hash = row.hash.clone();
        lines[at] = audit_event(&row).to_string();
    }
    let verdict = walk(&lines);
    assert_eq!(
        (verdict.first_bad_seq, verdict.fault),
        (Some(100), Some(ChainFault::Rewritten)),
        "{verdict:?}"
    );
    // Without the checkpoints that betray it, or with ones under another key.
    let bare: Vec<String> = lines.iter().filter(|line| is_event(line)).cloned().collect();
    assert_eq!(walk(&bare).fault, Some(ChainFault::Unsealed));
    let mut forged = ExportWalk::new(trusted());
    let other = FeedSigner::from_seed(&[1; 32]);
    for at in events(&lines) {
        forged.line(lines[at].as_bytes());
        let row = row_of_export(&serde_json::from_str(&lines[at]).unwrap()).unwrap();
        let sealed = Checkpoint::sign("o1", (row.seq, &row.hash), WallMs(7), &other);
        forged.line(sealed.to_line().to_string().as_bytes());
    }
    assert_eq!(forged.finish().fault, Some(ChainFault::Signature));
}

#[test]
fn a_checkpoint_kept_elsewhere_shows_that_the_end_is_cut_off() {
    let whole = export(130);
    let kept = whole.last().unwrap().clone();
    let cut = export(110);
    assert!(walk(&cut).ok, "nothing in it shows what is gone");
    let mut walk = ExportWalk::new(trusted());
    assert!(walk.expect(kept.as_bytes()));
    assert!(!walk.expect(whole[0].as_bytes()));
    cut.iter().for_each(|line| walk.line(line.as_bytes()));
    let verdict = walk.finish();
    assert_eq!((verdict.first_bad_seq, verdict.fault), (Some(111), Some(ChainFault::Truncated)));
}

#[test]
fn an_instant_with_digits_that_are_cut_off_in_reading_is_a_change() {
    let lines = export(1);
    let changed = lines[0].replace("00.001000Z", "00.001001Z");
    assert_ne!(changed, lines[0]);
    let verdict = walk(&[changed, lines[1].clone()]);
    assert_eq!((verdict.ok, verdict.fault), (false, Some(ChainFault::Malformed)));
}

#[test]
fn a_checkpoint_that_was_taken_out_is_missed() {
    let whole = export(150);
    for gone in ["\"seq\":1,", "\"seq\":100,"] {
        let lines: Vec<String> =
            whole.iter().filter(|line| is_event(line) || !line.contains(gone)).cloned().collect();
        assert_eq!(lines.len() + 1, whole.len());
        assert_eq!(walk(&lines).fault, Some(ChainFault::Unsealed), "{gone}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_changed_byte_of_an_event_is_found(
        count in 1_i64..40,
        place in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let mut lines = export(count);
        let event = events(&lines)[place.index(count as usize)];
        let mut bytes = lines[event].clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let before: Value = serde_json::from_str(&lines[event]).unwrap();
        // Bytes that mean the same are no change: spaces, or a letter as an escape.
        if serde_json::from_slice::<Value>(&bytes).ok().is_none_or(|after| after != before) {
            let mut walk = ExportWalk::new(trusted());
            for (number, line) in lines.iter_mut().enumerate() {
                walk.line(if number == event { &bytes } else { line.as_bytes() });
            }
            prop_assert!(!walk.finish().ok);
        }
    }

    #[test]
    fn any_dropped_doubled_or_swapped_event_is_found(
        count in 2_i64..230,
        one in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        how in 0..3,
    ) {
        let mut lines = export(count);
        let places = events(&lines);
        let (one, other) =
            (places[one.index(places.len())], places[other.index(places.len())]);
        match how {
            0 => {
                lines.remove(one);
            }
            1 => lines.insert(other, lines[one].clone()),
            _ => {
                prop_assume!(one != other);
                lines.swap(one, other);
            }
        }
        let verdict = walk(&lines);
        prop_assert!(!verdict.ok, "{:?}", verdict);
    }

    #[test]
    fn any_cut_off_end_is_found(count in 2_i64..230, kept in any::<prop::sample::Index>()) {
        let lines = export(count);
        let kept = 1 + kept.index(count as usize - 1);
        let mut walk = ExportWalk::new(trusted());
        // The events end, the checkpoints are those of the whole.
        let mut seen = 0;
        for line in &lines {
            seen += usize::from(is_event(line));
            if seen <= kept || !is_event(line) {
                walk.line(line.as_bytes());
            }
        }
        let verdict = walk.finish();
        prop_assert!(!verdict.ok);
        prop_assert_eq!(verdict.last_seq, Some(kept as i64));
    }

    #[test]
    fn any_change_of_a_checkpoint_is_found(
        count in 1_i64..230,
        place in any::<prop::sample::Index>(),
        member in prop::sample::select(vec!["org_id", "seq", "at_ms", "hash", "signature"]),
    ) {
        let mut lines = export(count);
        let places: Vec<usize> = (0..lines.len()).filter(|at| !is_event(&lines[*at])).collect();
        let at = places[place.index(places.len())];
        let mut line: Value = serde_json::from_str(&lines[at]).unwrap();
        line[member] = match &line[member] {
            Value::String(text) => {
                let last = if text.ends_with('0') { '1' } else { '0' };
                json!(format!("{}{last}", &text[..text.len() - 1]))
            }
            number => json!(number.as_i64().unwrap() + 1),
        };
        lines[at] = line.to_string();
        prop_assert!(!walk(&lines).ok);
    }
}
