//! Token stores: what goes in comes out, and nothing damaged or hostile is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ama_data::{
    CellFault, DataError, PairId, PairTokenizer, Row, RowContent, TokenStore, TokeniseOptions, Tokenised,
    tokenise,
};
use proptest::prelude::*;

fn tokenizer() -> PairTokenizer {
    PairTokenizer::from_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap()
}

fn row(number: u64, content: RowContent) -> Row {
    Row { source: Arc::from(Path::new("some/pairs.parquet")), row: number, content, check: None, task: None }
}

fn ids(prompt: &[u32], chosen: &[u32], rejected: &[u32]) -> RowContent {
    RowContent::Ids { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() }
}

fn text(prompt: &str, chosen: &str, rejected: &str) -> RowContent {
    RowContent::Text { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() }
}

fn numbered(contents: Vec<RowContent>) -> impl Iterator<Item = Result<Row, DataError>> {
    (1..).zip(contents).map(|(number, content)| Ok(row(number, content)))
}

fn uncut() -> TokeniseOptions {
    TokeniseOptions { max_length: None }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("pairs.tokens")
    }

    fn files(&self) -> usize {
        fs::read_dir(self.0.path()).unwrap().count()
    }
}

#[test]
fn the_report_counts_everything() {
    let folder = Folder::new();
    let contents = vec![
        ids(&[1, 2], &[3, 4, 5], &[6]),
        ids(&[1, 2, 3, 4], &[5], &[6]),          // dropped: the prompt reaches 4
        ids(&[1, 2, 3], &[7, 8, 9], &[7, 9, 8]), // equal after the cut
        ids(&[1, 2], &[3, 4, 5], &[6]),          // a duplicate, cut as the first
        ids(&[9], &[3], &[4]),
    ];
    let mut calls = Vec::new();
    let options = TokeniseOptions { max_length: Some(4) };
    let (store, report) =
        TokenStore::build(numbered(contents.clone()), &tokenizer(), &options, &folder.path(), |n| {
            calls.push(n)
        })
        .unwrap();
    assert_eq!(
        (report.read, report.kept, report.truncated, report.indistinguishable, report.duplicates),
        (5, 4, 3, 1, 1)
    );
    assert_eq!((report.dropped_prompt_too_long, report.merged_boundaries), (1, 0));
    // 2+2 & 2+1, 3+1 & 3+1, 2+2 & 2+1, 1+1 & 1+1
    assert_eq!((report.tokens, store.total_tokens()), (7 + 8 + 7 + 4, 26));
    assert_eq!((report.prompt.mean, report.prompt.max), (2.0, 3));
    assert_eq!((report.chosen.mean, report.chosen.max, report.rejected.max), (1.5, 2, 1));
    assert_eq!(calls.last(), Some(&5));
    assert_eq!(store.report(), &report);
    assert_eq!((store.len(), store.completions_per_example(), store.options()), (4, 2, options));
    assert_eq!(store.tokenizer_fingerprint(), tokenizer().fingerprint());
    let first = store.example(0);
    assert_eq!((first.prompt, first.chosen(), first.rejected()), (&[1, 2][..], &[3, 4][..], Some(&[6][..])));
    assert_eq!((store.tokens(0), store.packed_tokens(0)), (7, 3));
    assert_eq!(store.id(0), PairId::of(&contents[0]));
    assert_eq!(store.id(0), store.id(2));
    assert_eq!(folder.files(), 1, "no temporary file is left");
}

/// Of very long rows the beginning is enough: what is stored is what all of their ids, cut, would be.
#[test]
fn long_rows_are_cut_as_their_ids_are() {
    let folder = Folder::new();
    let tokenizer = tokenizer();
    let words = |last: &str| (0..60_000).map(|i| format!(" w{}", i % 977)).collect::<String>() + last;
    let contents = vec![
        text("Q:", &words(" a"), &words(" b")), // equal after the cut
        text("Q:", &"=".repeat(300_000), " no"),
        text(&"ab1Zq".repeat(60_000), " yes", " no"), // dropped
        text(&words(":"), &words(" a"), " no"),       // dropped
        text("Q:", " yes", &(words("") + "<|end|>")),
    ];
    let options = TokeniseOptions { max_length: Some(100) };
    let (store, report) =
        TokenStore::build(numbered(contents.clone()), &tokenizer, &options, &folder.path(), |_| ()).unwrap();
    assert_eq!((report.read, report.kept, report.truncated), (5, 3, 3));
    assert_eq!((report.dropped_prompt_too_long, report.indistinguishable), (2, 1));
    for row in store.rows() {
        let RowContent::Text { prompt, chosen, rejected } = &contents[row.place.row as usize - 1] else {
            unreachable!()
        };
        let Ok(example) = row.example else { continue };
        let example = store.example(example);
        for (completion, got) in [chosen, rejected].into_iter().zip(example.completions()) {
            let eos = if completion.ends_with("<|end|>") { "" } else { "<|end|>" };
            let mut whole = tokenizer.encode(&[prompt, completion, eos].concat()).unwrap();
            whole.truncate(100);
            assert_eq!([example.prompt, got].concat(), whole, "row {}", row.place.row);
        }
    }
}

#[test]
fn merged_boundaries_are_counted() {
    let folder = Folder::new();
    let rows = numbered(vec![text("The answer is", " yes.", " no."), text("How man", "y apples", "ny")]);
    let (_, report) = TokenStore::build(rows, &tokenizer(), &uncut(), &folder.path(), |_| ()).unwrap();
    assert_eq!((report.kept, report.merged_boundaries), (2, 1));
}

/// What looks like a mistake in the rows is counted, by a store and without one alike.
#[test]
fn suspicious_rows_are_counted() {
    let folder = Folder::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut file: serde_json::Value =
        serde_json::from_slice(&fs::read(golden.join("tokenizer.json")).unwrap()).unwrap();
    file["post_processor"] = serde_json::json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|start|>": {"id": "<|start|>", "ids": [1], "tokens": ["<|start|>"]}}});
    let model = tempfile::tempdir().unwrap();
    fs::write(model.path().join("tokenizer.json"), file.to_string()).unwrap();
    fs::copy(golden.join("tokenizer_config.json"), model.path().join("tokenizer_config.json")).unwrap();
    fs::write(model.path().join("config.json"), r#"{"max_position_embeddings": 12}"#).unwrap();
    let tokenizer = PairTokenizer::from_folder(model.path()).unwrap();
    assert_eq!((tokenizer.max_positions(), tokenizer.leading_id()), (Some(12), Some(1)));
    let contents = vec![
        text("Why?", " yes", " no"),
        text("<|start|>Why?", " yes<|end|>\n", " no <|end|>"), // BOS twice; EOS twice behind the first only
        text("Why?", "Why? yes", "Why? no"),
        text("Why?", " yes", " yes\n"),
        text("Why?", " na\u{ef}ve", " nai\u{308}ve"),
        text("Why?", " yes", " no"),
        ids(&[1; 8], &[2; 5], &[3; 4]), // 13 positions
        ids(&[1; 8], &[2; 4], &[3; 4]), // 12
        ids(&[1; 30], &[2], &[3]),      // dropped
    ];
    let options = TokeniseOptions { max_length: Some(30) };
    let (store, report) =
        TokenStore::build(numbered(contents.clone()), &tokenizer, &options, &folder.path(), |_| ()).unwrap();
    assert_eq!((report.doubled_bos, report.doubled_eos), (1, 1));
    assert_eq!((report.repeated_prompts, report.white_space_only, report.normal_form_only), (1, 1, 1));
    assert_eq!((report.duplicates, report.kept, report.dropped_prompt_too_long), (1, 8, 1));
    let longest = (0..store.len()).map(|i| {
        let example = store.example(i);
        example.prompt.len() + example.completions().map(<[u32]>::len).max().unwrap()
    });
    assert_eq!(report.longest, longest.clone().max().unwrap() as u64);
    assert_eq!(report.beyond_positions, longest.filter(|&len| len > 12).count() as u64);
    assert!(report.beyond_positions >= 1 && report.beyond_positions < 8);

    let count = |tokenizer: Option<&PairTokenizer>| {
        ama_data::BuildReport::of(numbered(contents.clone()), tokenizer, &options, Err).unwrap()
    };
    assert_eq!(count(Some(&tokenizer)), report, "one count, with a store or without");
    let texts_only = count(None);
    assert_eq!((texts_only.read, texts_only.kept, texts_only.duplicates), (9, 9, 1));
    assert_eq!((texts_only.repeated_prompts, texts_only.white_space_only, texts_only.tokens), (1, 1, 0));
}

/// Bad rows can be passed over; a data set without a usable row is an error either way.
#[test]
fn counting_goes_on_after_bad_rows() {
    let tokenizer = tokenizer();
    let contents = || numbered(vec![text("p", " c", " c"), text("p", " c", " r"), text("", " c", " r")]);
    let mut faults = Vec::new();
    let report = ama_data::BuildReport::of(contents(), Some(&tokenizer), &uncut(), |error| {
        faults.push(error.to_string());
        Ok(())
    })
    .unwrap();
    assert_eq!((report.read, report.kept), (1, 1));
    assert!(faults.len() == 2 && faults[0].contains("row 1") && faults[1].contains("row 3"), "{faults:?}");
    assert!(ama_data::BuildReport::of(contents(), None, &uncut(), Err).is_err());
    let cut = TokeniseOptions { max_length: Some(0) };
    let error = ama_data::BuildReport::of(numbered(vec![text("p", " c", " r")]), Some(&tokenizer), &cut, Err);
    assert!(matches!(error, Err(DataError::NothingLeft { read: 1, dropped: 1, .. })), "{error:?}");
}

/// Every row that was read can be named, and those without an example say why.
#[test]
fn rows_are_named_by_file_and_number() {
    let folder = Folder::new();
    let in_file =
        |name: &str, number, content| Ok(Row { source: Arc::from(Path::new(name)), ..row(number, content) });
    let rows = vec![
        in_file("a.jsonl", 1, ids(&[1; 9], &[1], &[2])), // dropped
        in_file("a.jsonl", 3, ids(&[1], &[1], &[2])),
        in_file("a.jsonl", 4, ids(&[2; 9], &[1], &[2])), // dropped
        in_file("b.jsonl", 1, ids(&[1], &[1], &[2])),
        in_file("b.jsonl", 2, ids(&[3], &[1], &[2])),
        in_file("c.jsonl", 1, ids(&[3; 9], &[1], &[2])), // dropped
    ];
    let options = TokeniseOptions { max_length: Some(5) };
    TokenStore::build(rows.into_iter(), &tokenizer(), &options, &folder.path(), |_| ()).unwrap();
    let store = TokenStore::open(&folder.path()).unwrap();
    let got: Vec<String> = store.rows().map(|row| format!("{} {:?}", row.place, row.example.ok())).collect();
    assert_eq!(
        got,
        [
            "a.jsonl, row 1 None",
            "a.jsonl, row 3 Some(0)",
            "a.jsonl, row 4 None",
            "b.jsonl, row 1 Some(1)",
            "b.jsonl, row 2 Some(2)",
            "c.jsonl, row 1 None"
        ]
    );
    assert_eq!(store.place(2).to_string(), "b.jsonl, row 2");
    let first = store.rows().next().unwrap();
    assert_eq!(first.id, PairId::of(&ids(&[1; 9], &[1], &[2])));
    assert_eq!(first.example, Err(ama_data::DropReason::PromptTooLong));
    // The same pairs from elsewhere are the same training data.
    let other = Folder::new();
    let pairs = [ids(&[1], &[1], &[2]), ids(&[1], &[1], &[2]), ids(&[3], &[1], &[2])];
    let (moved, _) =
        TokenStore::build(numbered(pairs.into()), &tokenizer(), &options, &other.path(), |_| ()).unwrap();
    assert_eq!(moved.fingerprint(), store.fingerprint());
}

#[test]
fn fine_tuning_rows_have_one_completion() {
    let folder = Folder::new();
    let tokenizer = tokenizer();
    let content = RowContent::Completion { prompt: "How many?".into(), completion: " Three.".into() };
    let (store, report) =
        TokenStore::build(numbered(vec![content]), &tokenizer, &uncut(), &folder.path(), |_| ()).unwrap();
    let example = store.example(0);
    assert_eq!((store.completions_per_example(), example.rejected()), (1, None));
    assert_eq!(example.chosen().last(), Some(&tokenizer.eos_id()));
    assert_eq!(store.tokens(0), example.prompt.len() + example.chosen().len());
    assert_eq!(report.rejected.max, 0);
    assert_eq!(tokenizer.decode(&[example.prompt, example.chosen()].concat()).unwrap(), "How many? Three.");
}

#[test]
fn faults_name_file_row_and_column() {
    let tokenizer = tokenizer();
    let vocab = tokenizer.vocab_size() as u32;
    for (content, column, fault) in [
        (text("", "c", "r"), "prompt", CellFault::Empty),
        (text("p", "", "r"), "chosen", CellFault::Empty),
        (text("p", "x", "x"), "rejected", CellFault::SameCompletions),
        (text("p", "x", "x<|end|>"), "rejected", CellFault::SameIds),
        (text("a", "nd so on", "nother"), "prompt", CellFault::NoPromptToken),
        (ids(&[], &[1], &[2]), "prompt_ids", CellFault::Empty),
        (ids(&[1], &[1], &[]), "rejected_ids", CellFault::Empty),
        (ids(&[1], &[2, 3], &[2, 3]), "rejected_ids", CellFault::SameCompletions),
        (
            ids(&[1], &[vocab], &[2]),
            "chosen_ids",
            CellFault::TokenId { value: vocab.to_string(), vocab: u64::from(vocab) },
        ),
        (
            RowContent::Completion { prompt: "p".into(), completion: "".into() },
            "completion",
            CellFault::Empty,
        ),
    ] {
        let folder = Folder::new();
        let contents = vec![content];
        let rows = numbered(contents.clone()).map(|row| row.map(|row| Row { row: 17, ..row }));
        let error = TokenStore::build(rows, &tokenizer, &uncut(), &folder.path(), |_| ()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("some/pairs.parquet, row 17"), "{text}");
        let DataError::Cell { column: got_column, fault: got, .. } = error else {
            panic!("{contents:?}: {text}")
        };
        assert_eq!((got_column.as_str(), &got), (column, &fault), "{contents:?}");
        assert_eq!(folder.files(), 0, "nothing is written by half");
    }
    let last = row(1, ids(&[vocab - 1], &[1], &[2]));
    assert!(matches!(tokenise(&last, &tokenizer, &uncut()), Ok(Tokenised::Kept { .. })));
}

#[test]
fn refuses_what_cannot_be_a_store() {
    let tokenizer = tokenizer();
    let folder = Folder::new();
    let build = |rows: Vec<RowContent>, max_length| {
        let options = TokeniseOptions { max_length };
        TokenStore::build(numbered(rows), &tokenizer, &options, &folder.path(), |_| ()).unwrap_err()
    };
    let error = build(vec![ids(&[1, 2], &[3], &[4])], Some(2));
    let text = error.to_string();
    assert!(matches!(error, DataError::NothingLeft { read: 1, dropped: 1, .. }), "{text}");
    assert!(
        text.contains("some/pairs.parquet") && text.contains("max_length 2") && text.contains("raise"),
        "{text}"
    );
    assert!(matches!(build(vec![], None), DataError::NothingLeft { read: 0, .. }));
    let single = RowContent::Completion { prompt: "p".into(), completion: "c".into() };
    let error = build(vec![ids(&[1], &[3], &[4]), single], None);
    assert!(matches!(error, DataError::MixedRows { row: 2, want: 2, got: 1, .. }), "{error}");
    // An error of the reader comes through, after the rows before it.
    let failing = numbered(vec![ids(&[1], &[2], &[3])]).chain([Err(DataError::NoRows { path: "x".into() })]);
    let error = TokenStore::build(failing, &tokenizer, &uncut(), &folder.path(), |_| ()).unwrap_err();
    assert!(matches!(error, DataError::NoRows { .. }));
    let nowhere = folder.0.path().join("absent/store");
    let rows = numbered(vec![ids(&[1], &[2], &[3])]);
    let error = TokenStore::build(rows, &tokenizer, &uncut(), &nowhere, |_| ()).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }) && error.to_string().contains("absent"), "{error}");
    assert_eq!(folder.files(), 0);
}

/// A failed or repeated build leaves an open store as it was.
#[test]
fn rebuilding_replaces_whole_files() {
    let folder = Folder::new();
    let tokenizer = tokenizer();
    let build =
        |contents| TokenStore::build(numbered(contents), &tokenizer, &uncut(), &folder.path(), |_| ());
    let old = build(vec![ids(&[1], &[2], &[3])]).unwrap().0;
    assert!(build(vec![ids(&[1], &[2], &[2])]).is_err());
    assert_eq!(TokenStore::open(&folder.path()).unwrap().fingerprint(), old.fingerprint());
    let new = build(vec![ids(&[4], &[5], &[6]), ids(&[7], &[8], &[9])]).unwrap().0;
    assert_eq!((old.len(), old.example(0).prompt, new.len()), (1, &[1][..], 2));
    assert_eq!(TokenStore::open(&folder.path()).unwrap().fingerprint(), new.fingerprint());
    assert_ne!(old.fingerprint(), new.fingerprint());
}

#[test]
fn two_builds_at_once_do_not_disturb_each_other() {
    let folder = Folder::new();
    let tokenizer = tokenizer();
    let contents: Vec<RowContent> = (0..700).map(|i| ids(&[i % 7, 1], &[2, i], &[3])).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let rows = numbered(contents.clone());
                let (store, _) =
                    TokenStore::build(rows, &tokenizer, &uncut(), &folder.path(), |_| ()).unwrap();
                assert_eq!(store.example(699).chosen(), [2, 699]);
            });
        }
    });
    assert_eq!(TokenStore::open(&folder.path()).unwrap().len(), 700);
    assert_eq!(folder.files(), 1);
}

/// The bytes do not depend on the number of threads.
#[test]
fn thread_count_does_not_matter() {
    let folder = Folder::new();
    let tokenizer = tokenizer();
    let contents: Vec<RowContent> =
        (0..1500).map(|i| text(&format!("Number {i}:"), " is even", " is odd")).collect();
    let build = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let rows = numbered(contents.clone());
        pool.install(|| TokenStore::build(rows, &tokenizer, &uncut(), &folder.path(), |_| ()).unwrap());
        fs::read(folder.path()).unwrap()
    };
    assert!(build(1) == build(3));
}

fn small_store(folder: &Folder) -> Vec<u8> {
    let rows = numbered(vec![ids(&[1, 2], &[3, 4, 5], &[6]), ids(&[7], &[8], &[9, 10])]);
    TokenStore::build(rows, &tokenizer(), &uncut(), &folder.path(), |_| ()).unwrap();
    fs::read(folder.path()).unwrap()
}

#[test]
fn every_flipped_bit_is_detected() {
    let folder = Folder::new();
    let good = small_store(&folder);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(folder.path(), &bad).unwrap();
        let error = TokenStore::open(&folder.path()).expect_err(&format!("byte {at} of {}", good.len()));
        let text = error.to_string();
        assert!(matches!(error, DataError::Store { .. }), "byte {at}: {text}");
        assert!(text.contains("pairs.tokens") && text.contains("tokenise again"), "{text}");
    }
}

#[test]
fn every_other_length_is_detected() {
    let folder = Folder::new();
    let good = small_store(&folder);
    for len in 0..good.len() {
        fs::write(folder.path(), &good[..len]).unwrap();
        assert!(matches!(TokenStore::open(&folder.path()), Err(DataError::Store { .. })), "cut to {len}");
    }
    fs::write(folder.path(), [&good[..], &[0]].concat()).unwrap();
    assert!(matches!(TokenStore::open(&folder.path()), Err(DataError::Store { .. })));
    assert!(matches!(TokenStore::open(&folder.0.path().join("absent")), Err(DataError::Io { .. })));
}

/// Somebody who computes the checksums anew can still not make a store that reaches outside itself.
#[test]
fn hostile_files_with_right_checksums_are_refused() {
    let folder = Folder::new();
    let good = small_store(&folder);
    let (header, ids, entry) = (256, 10 * 4, 40);
    let sign = |mut bytes: Vec<u8>| {
        let content = blake3::hash(&bytes[header..header + ids + 2 * entry]);
        bytes[88..120].copy_from_slice(content.as_bytes());
        let checksum = blake3::hash(&bytes[..224]);
        bytes[224..256].copy_from_slice(checksum.as_bytes());
        bytes
    };
    let open = |bytes: &[u8]| {
        fs::write(folder.path(), bytes).unwrap();
        TokenStore::open(&folder.path())
    };
    assert!(open(&sign(good.clone())).is_ok(), "the test signs as the crate does");
    let change = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        sign(bytes)
    };
    let max = u64::MAX.to_le_bytes();
    let first = header + ids;
    for (what, bytes) in [
        ("version", change(8, &9_u32.to_le_bytes())),
        ("completions 0", change(12, &[0; 4])),
        ("completions 1", change(12, &1_u32.to_le_bytes())),
        ("completions 3", change(12, &3_u32.to_le_bytes())),
        ("examples 0", change(16, &[0; 8])),
        ("examples 2^64-1", change(16, &max)),
        ("examples 2^62", change(16, &(1_u64 << 62).to_le_bytes())),
        ("ids 2^64-1", change(24, &max)),
        // 2^62 + 10 ids of 4 bytes, or 2^61 + 2 entries of 40, are as many bytes as the true numbers, modulo 2^64.
        ("ids 2^62 + 10", change(24, &((1_u64 << 62) + 10).to_le_bytes())),
        ("examples 2^61 + 2", change(16, &((1_u64 << 61) + 2).to_le_bytes())),
        ("ids 2^61", change(24, &(1_u64 << 61).to_le_bytes())),
        ("tokens", change(32, &[9; 8])),
        ("report 2^64-1", change(40, &max)),
        ("start", change(first + 16, &max)),
        ("start of the second", change(first + entry + 16, &[5, 0, 0, 0, 0, 0, 0, 0])),
        ("empty prompt", change(first + 24, &[0; 4])),
        ("prompt 2^32-1", change(first + 24, &[255; 4])),
        ("chosen 2^32-1", change(first + 28, &[255; 4])),
        ("empty rejected", change(first + 32, &[0; 4])),
        ("last longer", change(first + entry + 32, &[3, 0, 0, 0])),
    ] {
        let got = open(&bytes);
        assert!(matches!(got, Err(DataError::Store { .. })), "{what}: {got:?}");
    }
    // An empty prompt whose tokens went to the chosen completion, so that every sum is right: 13 - 2 tokens.
    let mut bytes = good.clone();
    bytes[32] = 11;
    bytes[first + 24] = 0;
    bytes[first + 28] = 5;
    let error = open(&sign(bytes)).unwrap_err().to_string();
    assert!(error.contains("the index entry of example 0"), "{error}");
}

/// A walk over a large store, in any order, leaves little of it in this process's memory.
#[cfg(target_os = "linux")]
#[test]
fn resident_memory_is_bounded() {
    let resident_mib = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
    };
    let folder = Folder::new();
    let (n, len) = (3000_usize, 17_000_usize);
    let prompt = move |i: usize| (0..len).map(move |j| ((i * 31 + j) % 1200) as u32);
    let rows = (0..n).map(|i| Ok(row(1, ids(&prompt(i).collect::<Vec<_>>(), &[1], &[2]))));
    let (store, _) = TokenStore::build(rows, &tokenizer(), &uncut(), &folder.path(), |_| ()).unwrap();
    assert!(fs::metadata(folder.path()).unwrap().len() > 190 << 20);
    let before = resident_mib();
    let first = store.example(0);
    for i in 0..n {
        let i = i * 1009 % n;
        assert!(store.example(i).prompt.iter().copied().eq(prompt(i)), "example {i}");
        assert!(resident_mib() < before + 100, "{} MiB, {before} before", resident_mib());
    }
    // A slice that was borrowed all the while still reads the same.
    assert!(first.prompt.iter().copied().eq(prompt(0)));
}

#[test]
fn reading_from_threads() {
    let folder = Folder::new();
    small_store(&folder);
    let store = TokenStore::open(&folder.path()).unwrap();
    std::thread::scope(|scope| {
        for i in 0..2 {
            let store = store.clone();
            scope.spawn(move || assert_eq!(store.example(i).prompt.len(), 2 - i));
        }
    });
    fn shared<T: Send + Sync + 'static>() {}
    shared::<TokenStore>();
    shared::<PairTokenizer>();
}

#[test]
#[should_panic(expected = "example 2 of a store of 2")]
fn an_index_beyond_the_end_panics() {
    let folder = Folder::new();
    small_store(&folder);
    TokenStore::open(&folder.path()).unwrap().example(2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// What a store gives back is what `tokenise` gave, for any rows and limit.
    #[test]
    fn round_trip(
        rows in prop::collection::vec(
            (prop::collection::vec(0..1200_u32, 1..12), prop::collection::vec(0..1200_u32, 1..12),
             prop::collection::vec(0..1200_u32, 1..12)), 1..40),
        max_length in prop::option::of(1..20_usize),
    ) {
        let folder = Folder::new();
        let tokenizer = tokenizer();
        let options = TokeniseOptions { max_length };
        let contents: Vec<RowContent> =
            rows.iter().filter(|(_, c, r)| c != r).map(|(p, c, r)| ids(p, c, r)).collect();
        let examples: Vec<_> = contents.iter().filter_map(|content| {
            match tokenise(&row(1, content.clone()), &tokenizer, &options).unwrap() {
                Tokenised::Kept { example, .. } => Some(example),
                _ => None,
            }
        }).collect();
        let built = TokenStore::build(numbered(contents), &tokenizer, &options, &folder.path(), |_| ());
        if examples.is_empty() {
            let nothing = matches!(built, Err(DataError::NothingLeft { .. }));
            prop_assert!(nothing);
            return Ok(());
        }
        let (store, report) = built.unwrap();
        let opened = TokenStore::open(&folder.path()).unwrap();
        prop_assert_eq!(opened.report(), &report);
        prop_assert_eq!(opened.fingerprint(), store.fingerprint());
        prop_assert_eq!(opened.len(), examples.len());
        for (i, example) in examples.iter().enumerate() {
            prop_assert_eq!(opened.example(i), example.as_ref());
            prop_assert_eq!(opened.tokens(i), example.as_ref().tokens());
            prop_assert_eq!(opened.packed_tokens(i), example.as_ref().packed_tokens());
        }
        let total: usize = examples.iter().map(|example| example.as_ref().tokens()).sum();
        prop_assert_eq!(opened.total_tokens(), total as u64);
        let distinct: std::collections::HashSet<_> = examples.iter().map(|example| example.id).collect();
        prop_assert_eq!(report.duplicates as usize, examples.len() - distinct.len());
    }
}
