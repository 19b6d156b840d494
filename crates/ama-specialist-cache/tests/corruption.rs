//! Whatever happens to a file of ours, it is noticed, and named; nothing is read from it.

use ama_specialist_cache::{
    CacheError, LossMeta, LossRow, PairScore, ScoreKey, ScoreStore, read_losses, read_losses_of,
    read_scores_parquet, write_losses, write_scores_parquet,
};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::{fs, path::Path, path::PathBuf};

const KEY: ScoreKey = ScoreKey { model: [1; 32], tokenizer: [2; 32], max_length: None };
const SCORE: PairScore =
    PairScore { chosen_logp: -1.25, rejected_logp: -2.5, chosen_tokens: 3, rejected_tokens: 4 };

fn meta() -> LossMeta {
    LossMeta {
        policy: KEY,
        reference: KEY,
        task: "reasoning".to_owned(),
        loss: "sigmoid beta=0.1".to_owned(),
    }
}

type Reader = Box<dyn Fn() -> Result<usize, CacheError>>;

/// A file of each format, with a reader.
fn files(folder: &Path) -> Vec<(PathBuf, Reader)> {
    let rows = [([1; 16], SCORE), ([2; 16], SCORE)];
    let store = ScoreStore::open(folder.join("store")).unwrap();
    store.append(&KEY, &rows).unwrap();
    let mut entries =
        fs::read_dir(store.dir().join(KEY.folder_name())).unwrap().map(|entry| entry.unwrap().path());
    let shard = entries.find(|path| path.extension().is_some_and(|end| end == "parquet")).unwrap();

    let scores = folder.join("scores.parquet");
    write_scores_parquet(&scores, &rows).unwrap();

    let losses = folder.join("losses.parquet");
    let row = LossRow { id: [1; 16], policy: SCORE, reference: SCORE, loss_nats: 0.5 };
    write_losses(&losses, &meta(), &[row, row]).unwrap();

    let (scores_too, losses_too) = (scores.clone(), losses.clone());
    vec![
        (shard, Box::new(move || store.load(&KEY).map(|table| table.len()))),
        (scores, Box::new(move || read_scores_parquet(&scores_too).map(|rows| rows.len()))),
        (losses, Box::new(move || read_losses(&losses_too).map(|(_, rows)| rows.len()))),
    ]
}

#[track_caller]
fn assert_noticed(path: &Path, read: &Reader, what: &str) {
    match read() {
        Err(error @ CacheError::Corrupt { .. }) => {
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{what}: names the file: {error}");
        }
        other => panic!("{what} of {}: {other:?}", path.display()),
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    for (path, read) in files(folder.path()) {
        let good = fs::read(&path).unwrap();
        let mut file = fs::File::options().write(true).open(&path).unwrap();
        let mut put = |at: usize, byte: u8| {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[byte]).unwrap();
        };
        // A bit of every byte, and all of them where the checksum, its marker and the end of the file are.
        let marker = good.windows(11).position(|window| window == b"ama.blake3:").unwrap();
        let everywhere = (0..good.len()).map(|at| (at, at % 8));
        let closely = (marker - 20..marker + 11 + 64).chain(good.len() - 12..good.len());
        for (at, bit) in everywhere.chain(closely.flat_map(|at| (0..8).map(move |bit| (at, bit)))) {
            put(at, good[at] ^ (1 << bit));
            assert_noticed(&path, &read, &format!("a flip of bit {bit} in byte {at}"));
            put(at, good[at]);
        }
        assert_eq!(read().unwrap(), 2, "and all is well again");
    }
}

#[test]
fn any_other_length_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    for (path, read) in files(folder.path()) {
        let good = fs::read(&path).unwrap();
        let half = good.len() / 2;
        for (what, bytes) in [
            ("a byte more", [&good[..], b"\0"].concat()),
            ("the file twice", [&good[..], &good[..]].concat()),
            ("zeros", vec![0; good.len()]),
            ("a tail of zeros", [&good[..half], &vec![0; good.len() - half]].concat()),
            ("somebody's notes", b"not Parquet".to_vec()),
        ] {
            fs::write(&path, bytes).unwrap();
            assert_noticed(&path, &read, what);
        }
        fs::write(&path, &good).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        for len in (0..good.len()).rev() {
            file.set_len(len as u64).unwrap();
            assert_noticed(&path, &read, &format!("the first {len} bytes"));
        }
    }
}

#[test]
fn a_sound_file_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let (scores, losses) = (&files[1].0, &files[2].0);
    assert!(matches!(read_losses(scores), Err(CacheError::Mismatch { field: "ama.format", .. })));
    assert!(matches!(read_scores_parquet(losses), Err(CacheError::Mismatch { field: "ama.format", .. })));
    let absent = folder.path().join("absent.parquet");
    assert!(matches!(read_losses_of(&absent, &meta()), Err(CacheError::Io { path, .. }) if path == absent));
}

/// Files of version 1 stay readable: one of each, written by the first release.
#[test]
fn golden_files_are_still_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    assert_eq!(
        read_scores_parquet(golden.join("scores.parquet")).unwrap(),
        [([1; 16], SCORE), ([2; 16], SCORE)]
    );
    let rows = read_losses_of(golden.join("losses.parquet"), &meta()).unwrap();
    let row = LossRow { id: [1; 16], policy: SCORE, reference: SCORE, loss_nats: 0.5 };
    assert_eq!(rows, [row, row]);
    // A store is a folder; its path is part of the format too.
    let store = ScoreStore::open(golden.join("store")).unwrap();
    let table = store.load(&KEY).unwrap();
    assert_eq!(table.rows(), [([1; 16], SCORE), ([2; 16], SCORE)]);
}

/// `cargo test -p ama-specialist-cache --test corruption -- --ignored` after a change of the format's version;
/// `tests/golden/check.py` then reads the files with pyarrow.
#[test]
#[ignore = "writes the golden files"]
fn write_golden_files() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (path, _) in files(&golden) {
        assert!(path.exists());
    }
    fs::remove_file(golden.join("store").join(KEY.folder_name()).join("lock")).unwrap();
}
