//! Every kind of damage, everywhere it can be done.

use std::collections::BTreeSet;

use chaperone_core::digest::Digest;
use expect_test::{Expect, expect};

use super::*;
use crate::export::{ExportWriter, Header};
use crate::sample::{Sample, head, recorded};
use crate::tree::leaf_hash;

const ENTRIES: u64 = 6;

fn sample() -> Sample {
    Sample::with_checkpoints(ENTRIES, &[0, 1, 2, 3, 4, 5, 6])
}

fn knowing(sample: &Sample) -> VerifyOptions {
    VerifyOptions {
        trusted_key: Some(sample.key.vkey()),
        outside: sample.checkpoints.last().cloned().into_iter().collect(),
    }
}

fn verify(bytes: &[u8], options: &VerifyOptions) -> Report {
    verify_export(bytes, options)
}

/// Kind and entry of each problem.
fn named(report: &Report) -> Vec<(ProblemKind, Option<u64>)> {
    let problems = report.problems.iter();
    problems
        .map(|problem| (problem.kind, problem.seq))
        .collect()
}

fn seqs(report: &Report) -> BTreeSet<u64> {
    report
        .problems
        .iter()
        .filter_map(|problem| problem.seq)
        .collect()
}

fn check(report: &Report, expected: Expect) {
    expected.assert_eq(&report.to_string());
}

/// The lines with a last line that fits them again, as somebody who knows the format would write.
fn resealed(lines: &[Vec<u8>]) -> Vec<u8> {
    let (_, body) = lines.split_last().unwrap();
    let entries = body
        .iter()
        .filter(|line| line.starts_with(b"{\"seq\""))
        .count();
    let mut bytes = body.concat();
    let sha256 = Digest::of_bytes(&bytes);
    let end = serde_json::json!({"end": {"entries": entries, "sha256": sha256}});
    bytes.extend_from_slice(format!("{end}\n").as_bytes());
    bytes
}

/// Which line holds which entry.
fn entry_of(line: &[u8]) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    value.get("seq")?.as_u64()
}

#[test]
fn a_whole_export_is_sound() {
    let sample = sample();
    let bytes = sample.export();
    let report = verify(&bytes, &knowing(&sample));
    assert!(report.is_sound());
    check(
        &report,
        expect![[r#"
        Ledger of clinic-1: 6 entries
          integrity:    holds
          completeness: holds
          newest checkpoint in the file: 6 entries, epoch 1, 2026-03-04T05:06:07Z, root ff4d736ad889f4cfd884ff9907cc9cc726e88e3835f0bf4f1ef45633c1e4a65d
          newest checkpoint outside: 6 entries, epoch 1, 2026-03-04T05:06:07Z, root ff4d736ad889f4cfd884ff9907cc9cc726e88e3835f0bf4f1ef45633c1e4a65d
    "#]],
    );

    let alone = verify(&bytes, &VerifyOptions::default());
    assert!(alone.is_sound());
    assert_eq!(alone.completeness, Verdict::Unproven);
    check(
        &alone,
        expect![[r#"
        Ledger of clinic-1: 6 entries
          integrity:    holds
          completeness: not proven
          newest checkpoint in the file: 6 entries, epoch 1, 2026-03-04T05:06:07Z, root ff4d736ad889f4cfd884ff9907cc9cc726e88e3835f0bf4f1ef45633c1e4a65d
        note: no outside checkpoint was given, so that a ledger cut back to an older checkpoint cannot be told from a whole one
        note: the key that signatures were checked with comes from the file itself; whoever could replace the whole file could replace it too, so compare it with the key you know
    "#]],
    );

    let empty = Sample::with_checkpoints(0, &[0]);
    assert!(verify(&empty.export(), &knowing(&empty)).is_sound());

    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[test]
fn every_flipped_byte_is_found_and_its_entry_named() {
    // Checkpoints that stand among the entries, so that every structure of a file is hit.
    let sample = Sample::with_checkpoints(ENTRIES, &[3, 6]);
    let bytes = sample.export();
    let cases = [
        (VerifyOptions::default(), [0x01, 0x02]),
        (knowing(&sample), [0x01, 0x20]),
    ];
    for (options, masks) in cases {
        let mut at = 0;
        for line in sample.lines() {
            let entry = entry_of(&line);
            for offset in 0..line.len() {
                for mask in masks {
                    let mut changed = bytes.clone();
                    changed[at] ^= mask;
                    let report = verify(&changed, &options);
                    assert!(!report.is_sound(), "byte {at} mask {mask}");
                    assert!(!report.problems.is_empty(), "byte {at} mask {mask}");
                    if let Some(seq) = entry.filter(|_| offset + 1 < line.len()) {
                        assert!(
                            seqs(&report).contains(&seq),
                            "byte {at} mask {mask}: {report}"
                        );
                    }
                }
                at += 1;
            }
        }
        assert_eq!(at, bytes.len());
    }
}

#[test]
fn a_changed_leaf_and_a_changed_hash_are_told_apart() {
    let sample = Sample::with_checkpoints(ENTRIES, &[3, 6]);
    let text = String::from_utf8(sample.export()).unwrap();
    let leaf = text.replacen("unknown-agent", "unknown-Agent", 1);
    check(
        &verify(leaf.as_bytes(), &knowing(&sample)),
        expect![[r#"
        Ledger of clinic-1: 6 entries
          integrity:    BROKEN
          completeness: holds
          newest checkpoint in the file: 6 entries, epoch 1, 2026-03-04T05:06:07Z, root ff4d736ad889f4cfd884ff9907cc9cc726e88e3835f0bf4f1ef45633c1e4a65d
          newest checkpoint outside: 6 entries, epoch 1, 2026-03-04T05:06:07Z, root ff4d736ad889f4cfd884ff9907cc9cc726e88e3835f0bf4f1ef45633c1e4a65d
        PROBLEM entry 0: the leaf does not have the hash that its line states; one of the two was changed (checkpoint over 3 entries: the hash is the signed one: the leaf was changed) (line 2)
        PROBLEM the bytes of the file are not those that were exported (line 10)
    "#]],
    );
    let hash = leaf_hash(&sample.leaves[4]).to_string();
    let hash = text.replacen(&hash, &Digest::of_bytes(b"x").to_string(), 1);
    check(
        &verify(hash.as_bytes(), &knowing(&sample)),
        expect![[r#"
        Ledger of clinic-1: 6 entries
          integrity:    BROKEN
          completeness: holds
          newest checkpoint in the file: 6 entries, epoch 1, 2026-03-04T05:06:07Z, root ff4d736ad889f4cfd884ff9907cc9cc726e88e3835f0bf4f1ef45633c1e4a65d
          newest checkpoint outside: 6 entries, epoch 1, 2026-03-04T05:06:07Z, root ff4d736ad889f4cfd884ff9907cc9cc726e88e3835f0bf4f1ef45633c1e4a65d
        PROBLEM entry 4: the leaf does not have the hash that its line states; one of the two was changed (checkpoint over 6 entries: the leaf is the signed one: its stated hash was changed) (line 7)
        PROBLEM the bytes of the file are not those that were exported (line 10)
    "#]],
    );
}

#[test]
fn an_entry_rewritten_with_its_hash_is_narrowed_down_by_the_checkpoints() {
    for seq in 0..ENTRIES {
        let sample = Sample::with_checkpoints(ENTRIES, &[2, 4, 6]);
        let mut lines = sample.lines();
        let index = lines
            .iter()
            .position(|line| entry_of(line) == Some(seq))
            .unwrap();
        let text = String::from_utf8(sample.leaves[seq as usize].clone()).unwrap();
        let leaf = text.replace("05:06:07", "05:06:08");
        let hash = leaf_hash(leaf.as_bytes());
        let line = serde_json::json!({"seq": seq, "hash": hash, "leaf": leaf});
        lines[index] = format!("{line}\n").into_bytes();
        let report = verify(&resealed(&lines), &VerifyOptions::default());
        assert_eq!(
            named(&report),
            [(ProblemKind::RootMismatch, Some(seq / 2 * 2))],
            "{report}"
        );
        assert_eq!(report.integrity, Verdict::Broken);

        let report = verify(&resealed(&lines), &knowing(&sample));
        assert!(named(&report).contains(&(ProblemKind::RootMismatch, Some(seq / 2 * 2))));
    }
}

#[test]
fn every_removed_entry_is_named() {
    let sample = sample();
    let lines = sample.lines();
    for (index, line) in lines.iter().enumerate() {
        let mut fewer = lines.clone();
        fewer.remove(index);
        for bytes in [fewer.concat(), resealed(&fewer)] {
            let report = verify(&bytes, &knowing(&sample));
            match entry_of(line) {
                Some(seq) => {
                    assert!(
                        named(&report).contains(&(ProblemKind::EntryMissing, Some(seq))),
                        "{report}"
                    );
                    assert_eq!(report.completeness, Verdict::Broken);
                }
                // A checkpoint that newer ones make superfluous may be missing once the digest fits.
                None if bytes != fewer.concat() && line.starts_with(b"{\"checkpoint\"") => {}
                None if index + 1 == lines.len() && bytes != fewer.concat() => {}
                None => assert!(!report.is_sound(), "line {index}"),
            }
        }
    }
}

#[test]
fn removing_an_entry_and_renumbering_the_rest_does_not_help() {
    let sample = Sample::with_checkpoints(ENTRIES, &[6]);
    for removed in 0..ENTRIES {
        let mut leaves: Vec<_> = (0..ENTRIES).map(|seq| recorded("clinic-1", seq)).collect();
        leaves.remove(removed as usize);
        let mut lines = vec![
            serde_json::to_vec(&Header {
                size: ENTRIES - 1,
                ..sample.header()
            })
            .unwrap(),
        ];
        for (seq, mut event) in (0..).zip(leaves) {
            event.seq = seq;
            let leaf = event.to_leaf().unwrap();
            let line = serde_json::json!({"seq": seq, "hash": leaf_hash(&leaf), "leaf": String::from_utf8(leaf).unwrap()});
            lines.push(line.to_string().into_bytes());
        }
        let note = &sample.checkpoints[0];
        lines.push(
            serde_json::json!({"checkpoint": note})
                .to_string()
                .into_bytes(),
        );
        lines.push(vec![]);
        lines.iter_mut().for_each(|line| line.push(b'\n'));
        let report = verify(&resealed(&lines), &knowing(&sample));
        assert!(!report.is_sound());
        assert_eq!(report.completeness, Verdict::Broken);
    }
}

#[test]
fn every_swapped_pair_and_every_duplicate_is_named() {
    let sample = sample();
    let lines = sample.lines();
    let at = |seq| {
        lines
            .iter()
            .position(|line| entry_of(line) == Some(seq))
            .unwrap()
    };
    for seq in 0..ENTRIES {
        let mut twice = lines.clone();
        twice.insert(at(seq), lines[at(seq)].clone());
        for bytes in [twice.concat(), resealed(&twice)] {
            let report = verify(&bytes, &knowing(&sample));
            assert!(
                named(&report).contains(&(ProblemKind::EntryDuplicated, Some(seq))),
                "{report}"
            );
            assert_eq!(report.integrity, Verdict::Broken);
        }
        for other in seq + 1..ENTRIES {
            let mut swapped = lines.clone();
            swapped.swap(at(seq), at(other));
            for bytes in [swapped.concat(), resealed(&swapped)] {
                let report = verify(&bytes, &knowing(&sample));
                assert!(
                    named(&report).contains(&(ProblemKind::EntryReordered, Some(seq))),
                    "{report}"
                );
                assert_eq!(report.integrity, Verdict::Broken);
            }
        }
    }
}

#[test]
fn a_swap_that_keeps_the_line_numbers_is_named_too() {
    let sample = Sample::with_checkpoints(ENTRIES, &[6]);
    for seq in 0..ENTRIES - 1 {
        let mut leaves = sample.leaves.clone();
        leaves.swap(seq as usize, seq as usize + 1);
        let mut writer =
            ExportWriter::start(Vec::new(), sample.header(), sample.checkpoints.clone()).unwrap();
        leaves.iter().for_each(|leaf| writer.entry(leaf).unwrap());
        let report = verify(&writer.finish().unwrap(), &knowing(&sample));
        assert!(
            seqs(&report).is_superset(&[seq, seq + 1].into()),
            "{report}"
        );
        assert!(
            named(&report)
                .iter()
                .any(|(kind, _)| *kind == ProblemKind::RootMismatch)
        );
    }
}

#[test]
fn a_file_cut_anywhere_is_not_whole() {
    let sample = sample();
    let bytes = sample.export();
    for length in 0..bytes.len() {
        let report = verify(&bytes[..length], &VerifyOptions::default());
        assert_eq!(report.completeness, Verdict::Broken, "{length}");
    }
    let mut longer = bytes.clone();
    longer.push(b'x');
    let report = verify(&longer, &knowing(&sample));
    assert_eq!(named(&report), [(ProblemKind::TrailingBytes, None)]);
}

#[test]
fn a_tail_cut_cleanly_is_found_with_an_outside_checkpoint_and_only_then() {
    let sample = sample();
    for size in 0..ENTRIES {
        let shorter = Sample::with_checkpoints(size, &[0, 1, 2, 3, 4, 5, 6]);
        let bytes = shorter.export();
        let report = verify(&bytes, &knowing(&sample));
        assert_eq!(named(&report), [(ProblemKind::TailCut, Some(size))]);
        assert_eq!(
            (report.integrity, report.completeness),
            (Verdict::Holds, Verdict::Broken)
        );

        let alone = verify(
            &bytes,
            &VerifyOptions {
                outside: vec![],
                ..knowing(&sample)
            },
        );
        assert_eq!(
            (alone.integrity, alone.completeness),
            (Verdict::Holds, Verdict::Unproven)
        );

        // Cut in front of the outside checkpoint is behind what it can vouch for.
        let older = VerifyOptions {
            outside: vec![sample.checkpoints[size as usize].clone()],
            ..knowing(&sample)
        };
        assert!(verify(&bytes, &older).is_sound());
        assert!(verify(&sample.export(), &older).is_sound());
    }
}

#[test]
fn another_history_under_the_same_key_is_a_fork() {
    let sample = sample();
    let root = Digest::of_bytes(b"another history");
    let fork = sample
        .key
        .sign(&head(sample.vkey().tenant(), 4, root))
        .unwrap();
    let outside = vec![sample.checkpoints[2].clone(), fork];
    let report = verify(
        &sample.export(),
        &VerifyOptions {
            outside,
            ..knowing(&sample)
        },
    );
    assert_eq!(named(&report), [(ProblemKind::Fork, Some(3))]);
    assert_eq!(report.integrity, Verdict::Broken);
}

#[test]
fn another_key_or_tenant_is_named() {
    let ours = sample();
    let other = Sample::of_tenant("clinic-2", ENTRIES, &[6]);
    let report = verify(&other.export(), &knowing(&ours));
    let kinds: Vec<_> = named(&report).into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains(&ProblemKind::Key));
    assert!(kinds.contains(&ProblemKind::Checkpoint));
    assert_eq!(report.integrity, Verdict::Broken);

    let outside = VerifyOptions {
        trusted_key: None,
        outside: other.checkpoints.clone(),
    };
    let report = verify(&ours.export(), &outside);
    assert_eq!(named(&report), [(ProblemKind::OutsideCheckpoint, None)]);

    let nonsense = VerifyOptions {
        trusted_key: Some("no key".to_owned()),
        outside: vec![],
    };
    assert!(!verify(&ours.export(), &nonsense).is_sound());
}

#[test]
fn signed_leaves_that_do_not_belong_are_named() {
    let check = |change: &dyn Fn(&mut Vec<Vec<u8>>), expected: &[(ProblemKind, Option<u64>)]| {
        let event = |seq| recorded("clinic-1", seq).to_leaf().unwrap();
        let mut leaves: Vec<_> = (0..ENTRIES).map(event).collect();
        change(&mut leaves);
        let sample = Sample::of_leaves("clinic-1", leaves, &[6]);
        assert_eq!(
            named(&verify(&sample.export(), &knowing(&sample))),
            expected
        );
    };
    check(&|_| {}, &[]);
    let foreign = recorded("clinic-2", 3).to_leaf().unwrap();
    check(
        &|leaves| leaves[3] = foreign.clone(),
        &[(ProblemKind::LeafForeign, Some(3))],
    );
    check(
        &|leaves| leaves[3] = b"{}".to_vec(),
        &[(ProblemKind::LeafForeign, Some(3))],
    );
    let mut event = recorded("clinic-1", 3);
    event.seq = 2;
    let misplaced = event.to_leaf().unwrap();
    check(
        &|leaves| leaves[3] = misplaced.clone(),
        &[(ProblemKind::LeafForeign, Some(3))],
    );
    let mut event = recorded("clinic-1", 4);
    event.version = 3;
    let jumped = event.to_leaf().unwrap();
    check(
        &|leaves| leaves[4] = jumped.clone(),
        &[(ProblemKind::StreamVersion, Some(4))],
    );
    let text = String::from_utf8(recorded("clinic-1", 5).to_leaf().unwrap()).unwrap();
    let newer = text
        .replacen("\"format\":1", "\"format\":2", 1)
        .into_bytes();
    check(
        &|leaves| leaves[5] = newer.clone(),
        &[(ProblemKind::LeafForeign, Some(5))],
    );
}

#[test]
fn problems_and_files_without_end_are_bounded() {
    let sample = sample();
    let lines = sample.lines();
    let garbage = b"nothing\n".repeat(PROBLEMS_MAX * 3);
    let bytes = [lines[0].clone(), garbage].concat();
    let report = verify(&bytes, &knowing(&sample));
    assert_eq!(report.problems.len(), PROBLEMS_MAX);
    assert!(report.problems_left_off > 0);
    assert!(verify(b"", &VerifyOptions::default()).completeness == Verdict::Broken);
}
