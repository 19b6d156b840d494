//! The store from the outside: what is put in comes out, and nothing else does.

use ama_specialist_cache::{CacheError, PairId, PairScore, ScoreKey, ScoreStore, ScoreTable};
use proptest::prelude::*;
use std::{fs, path::Path, path::PathBuf};

const KEY: ScoreKey = ScoreKey { model: [1; 32], tokenizer: [2; 32], max_length: Some(512) };

fn id(pair: u32) -> PairId {
    let mut id = [0xa5; 16];
    id[4..8].copy_from_slice(&pair.to_be_bytes());
    id
}

fn score(pair: u32) -> PairScore {
    let x = f64::from(pair);
    let (chosen_logp, rejected_logp) = (-10.0 - x / 3.0, -11.0 - x.sqrt());
    PairScore { chosen_logp, rejected_logp, chosen_tokens: 3 + pair, rejected_tokens: 5 }
}

fn rows(pairs: impl IntoIterator<Item = u32>) -> Vec<(PairId, PairScore)> {
    pairs.into_iter().map(|pair| (id(pair), score(pair))).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn shards(store: &ScoreStore, key: &ScoreKey) -> Vec<PathBuf> {
    let folder = store.dir().join(key.folder_name());
    let shards = names(&folder).into_iter().filter(|name| name.ends_with(".parquet"));
    shards.map(|name| folder.join(name)).collect()
}

fn new_store() -> (tempfile::TempDir, ScoreStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ScoreStore::open(folder.path().join("deep/store")).unwrap();
    (folder, store)
}

#[test]
fn only_missing_pairs_are_asked_for() {
    let (_folder, store) = new_store();
    let ids: Vec<PairId> = (0..10).map(id).collect();
    assert_eq!(store.missing(&KEY, &ids).unwrap(), (0..10).collect::<Vec<_>>());
    assert!(store.load(&KEY).unwrap().is_empty());

    assert_eq!(store.append(&KEY, &rows([7, 1, 4])).unwrap(), 3);
    assert_eq!(store.missing(&KEY, &ids).unwrap(), [0, 2, 3, 5, 6, 8, 9]);
    assert_eq!(store.append(&KEY, &rows([4, 5, 7])).unwrap(), 1);
    assert_eq!(store.append(&KEY, &[]).unwrap(), 0);
    assert_eq!(store.append(&KEY, &rows([1, 5])).unwrap(), 0);
    assert_eq!(shards(&store, &KEY).len(), 2, "an append without news writes nothing");

    // Another process sees the same.
    let reopened = ScoreStore::open(store.dir()).unwrap();
    assert_eq!(reopened.load(&KEY).unwrap(), ScoreTable::from_rows(rows([1, 4, 5, 7])).unwrap());
    assert_eq!(reopened.append(&KEY, &rows(0..10)).unwrap(), 6);
    assert_eq!(store.append(&KEY, &rows(0..10)).unwrap(), 0, "and the first one what the second added");
    assert_eq!(store.missing(&KEY, &ids).unwrap(), [0usize; 0]);
    assert_eq!(store.load(&KEY).unwrap().get(&id(9)), Some(&score(9)));
}

#[test]
fn keys_do_not_share_scores() {
    let (_folder, store) = new_store();
    store.append(&KEY, &rows([1])).unwrap();
    for other in [
        ScoreKey { model: [9; 32], ..KEY },
        ScoreKey { tokenizer: [9; 32], ..KEY },
        ScoreKey { max_length: None, ..KEY },
    ] {
        assert_eq!(store.missing(&other, &[id(1)]).unwrap(), [0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_finite_number_survives(
        values in prop::collection::btree_map(any::<PairId>(), (prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO, any::<u32>()), 0..40),
        cut in 0..40usize,
        max_length in any::<Option<u32>>(),
    ) {
        let (_folder, store) = new_store();
        let key = ScoreKey { max_length, ..KEY };
        let rows: Vec<_> = values.into_iter().map(|(id, (x, n))| {
            (id, PairScore { chosen_logp: x, rejected_logp: -x, chosen_tokens: n, rejected_tokens: !n })
        }).collect();
        let (first, second) = rows.split_at(cut.min(rows.len()));
        store.append(&key, first).unwrap();
        store.append(&key, second).unwrap();
        let table = store.load(&key).unwrap();
        prop_assert_eq!(table.len(), rows.len());
        for (id, want) in &rows {
            let got = table.get(id).unwrap();
            prop_assert_eq!(got.chosen_logp.to_bits(), want.chosen_logp.to_bits());
            prop_assert_eq!(got, want);
        }
    }
}

#[test]
fn nan_is_refused_and_nothing_is_added() {
    let (_folder, store) = new_store();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut batch = rows(0..3);
        batch[1].1.rejected_logp = bad;
        let error = store.append(&KEY, &batch).unwrap_err();
        assert!(matches!(&error, CacheError::NotFinite { column: "rejected_logp", .. }), "{error}");
        assert!(error.to_string().contains("a5a5a5a500000001"), "names the pair: {error}");
    }
    assert!(store.load(&KEY).unwrap().is_empty());
}

#[test]
fn a_second_opinion_is_refused_and_names_the_pair() {
    let (_folder, store) = new_store();
    store.append(&KEY, &rows(0..5)).unwrap();
    let reopened = ScoreStore::open(store.dir()).unwrap();

    let mut other = rows([3, 8]);
    other[0].1.chosen_logp += 0.5;
    let error = reopened.append(&KEY, &other).unwrap_err();
    assert!(matches!(error, CacheError::Conflict { .. }), "{error}");
    assert!(error.to_string().contains("a5a5a5a500000003"), "{error}");
    assert_eq!(store.missing(&KEY, &[id(8)]).unwrap(), [0], "the rest of the refused append is not in");

    let mut tokens = rows([3]);
    tokens[0].1.chosen_tokens += 1;
    assert!(matches!(reopened.append(&KEY, &tokens), Err(CacheError::Conflict { .. })));

    // The last digits of an f32 sum are no second opinion; the stored number stays.
    let mut close = rows([3]);
    close[0].1.chosen_logp += 1e-5;
    assert_eq!(reopened.append(&KEY, &close).unwrap(), 0);
    assert_eq!(store.load(&KEY).unwrap().get(&id(3)), Some(&score(3)));
}

/// Two shards that disagree cannot come from `append`; a folder that was copied together can.
#[test]
fn shards_that_disagree_are_refused_on_load() {
    let (_folder, store) = new_store();
    let (_other_folder, other) = new_store();
    store.append(&KEY, &rows(0..3)).unwrap();
    let mut wrong = rows([2]);
    wrong[0].1.rejected_logp -= 1.0;
    other.append(&KEY, &wrong).unwrap();
    let foreign = &shards(&other, &KEY)[0];
    let copied = store.dir().join(KEY.folder_name()).join(foreign.file_name().unwrap());
    fs::copy(foreign, &copied).unwrap();

    let error = store.load(&KEY).unwrap_err();
    assert!(matches!(error, CacheError::Conflict { .. }), "{error}");
    for shard in shards(&store, &KEY) {
        assert!(error.to_string().contains(&*shard.to_string_lossy()), "names both files: {error}");
    }
    fs::remove_file(copied).unwrap();
    assert_eq!(store.load(&KEY).unwrap().len(), 3);
}

#[test]
fn a_shard_of_another_key_is_refused() {
    let (_folder, store) = new_store();
    let others = [
        ("model", ScoreKey { model: [9; 32], ..KEY }),
        ("tokenizer", ScoreKey { tokenizer: [9; 32], ..KEY }),
        ("max_length", ScoreKey { max_length: None, ..KEY }),
    ];
    for (want_field, other) in others {
        store.append(&other, &rows([1])).unwrap();
        let shard = shards(&store, &other).remove(0);
        let folder = store.dir().join(KEY.folder_name());
        fs::create_dir_all(&folder).unwrap();
        let moved = folder.join(shard.file_name().unwrap());
        fs::rename(&shard, &moved).unwrap();
        for error in [store.load(&KEY).unwrap_err(), store.append(&KEY, &rows([5])).unwrap_err()] {
            match error {
                CacheError::Mismatch { path, field, .. } => {
                    assert_eq!((path, field), (moved.clone(), want_field))
                }
                other => panic!("{other}"),
            }
        }
        fs::remove_file(moved).unwrap();
    }
    store.append(&KEY, &rows([5])).unwrap();
}

#[test]
fn what_a_crash_left_behind_is_ignored_then_removed() {
    let (_folder, store) = new_store();
    store.append(&KEY, &rows(0..3)).unwrap();
    let folder = store.dir().join(KEY.folder_name());
    fs::write(folder.join(".0f1e.parquet.ama-Xy12Zw.tmp"), b"PAR1 half a shard").unwrap();
    assert_eq!(store.load(&KEY).unwrap().len(), 3);
    store.append(&KEY, &rows(3..4)).unwrap();
    assert!(names(&folder).iter().all(|name| !name.starts_with('.')), "{:?}", names(&folder));
    assert_eq!(store.load(&KEY).unwrap().len(), 4);
}

#[test]
fn pairs_of_a_deleted_shard_are_missing_again() {
    let (_folder, store) = new_store();
    store.append(&KEY, &rows(0..3)).unwrap();
    fs::remove_file(&shards(&store, &KEY)[0]).unwrap();
    assert_eq!(store.missing(&KEY, &[id(0), id(9)]).unwrap(), [0, 1]);
    assert_eq!(store.append(&KEY, &rows(0..3)).unwrap(), 3);
    assert_eq!(store.load(&KEY).unwrap().len(), 3);
}

#[test]
fn a_folder_that_cannot_be_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = ScoreStore::open(file.join("store")).unwrap_err();
    assert!(matches!(&error, CacheError::Io { path, .. } if *path == file.join("store")), "{error}");

    let store = ScoreStore::open(folder.path().join("store")).unwrap();
    fs::write(store.dir().join(KEY.folder_name()), b"a file where the key's folder should be").unwrap();
    assert!(matches!(store.append(&KEY, &rows([1])), Err(CacheError::Io { .. })));
    assert!(matches!(store.load(&KEY), Err(CacheError::Io { .. })));
}

#[test]
fn threads_share_a_store() {
    let (_folder, store) = new_store();
    let added: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || -> usize {
                    let batches = (0..20).map(|batch| (batch + 5 * thread) % 20);
                    batches.map(|batch| store.append(&KEY, &rows(batch * 5..batch * 5 + 5)).unwrap()).sum()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(added, 100, "every pair was new once");
    assert_eq!(store.load(&KEY).unwrap(), ScoreTable::from_rows(rows(0..100)).unwrap());
}
