//! Several processes, killed processes, a full disk. The test binary starts itself as the other process.

use ama_specialist_cache::{CacheError, PairId, PairScore, ScoreKey, ScoreStore};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const KEY: ScoreKey = ScoreKey { model: [1; 32], tokenizer: [2; 32], max_length: Some(512) };
const ROLE: &str = "AMA_CACHE_TEST_ROLE";
const DIR: &str = "AMA_CACHE_TEST_DIR";
/// After how many appends the role `killed` ends as if it were killed.
const APPENDS: &str = "AMA_CACHE_TEST_APPENDS";

const PAIRS: u32 = 600;
const BATCH: u32 = 15;
const LARGE: u32 = 20_000;

fn row(pair: u32) -> (PairId, PairScore) {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&pair.to_be_bytes());
    let logp = -f64::from(pair) / 7.0;
    (id, PairScore { chosen_logp: logp, rejected_logp: logp - 1.0, chosen_tokens: pair, rejected_tokens: 1 })
}

fn batch(number: u32) -> Vec<(PairId, PairScore)> {
    (number * BATCH..(number + 1) * BATCH).map(row).collect()
}

fn assert_sound(store: &ScoreStore) -> usize {
    let table = store.load(&KEY).unwrap();
    for (id, score) in table.rows() {
        let pair = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
        assert_eq!((*id, *score), row(pair));
    }
    table.len()
}

/// Not a test: what the other process does. Without the variables it is empty.
#[test]
fn other_process() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIR)) else { return };
    let store = ScoreStore::open(dir).unwrap();
    let batches = PAIRS / BATCH;
    let say = |text: String| std::io::stdout().write_all(text.as_bytes()).unwrap();
    match role.as_str() {
        "forward" | "backward" => {
            let order: Vec<u32> =
                if role == "forward" { (0..batches).collect() } else { (0..batches).rev().collect() };
            let added: usize = order.iter().map(|&number| store.append(&KEY, &batch(number)).unwrap()).sum();
            say(format!("added={added};"));
        }
        "killed" => {
            let appends: u32 = std::env::var(APPENDS).unwrap().parse().unwrap();
            for number in 0..appends {
                store.append(&KEY, &batch(number)).unwrap();
            }
            std::process::abort();
        }
        "conflicting" => {
            let mut rows = batch(0);
            rows[3].1.chosen_logp -= 1.0;
            say(format!("error={};", store.append(&KEY, &rows).unwrap_err()));
        }
        "bulk" => {
            for part in 0..10 {
                let rows: Vec<_> = (part * LARGE..(part + 1) * LARGE).map(row).collect();
                store.append(&KEY, &rows).unwrap();
            }
            say("done=;".to_owned());
        }
        "large" => {
            let rows: Vec<_> = (PAIRS..PAIRS + LARGE).map(row).collect();
            say(match store.append(&KEY, &rows) {
                Err(CacheError::Io { source, .. }) => format!("error=io {source};"),
                other => format!("error=none {other:?};"),
            });
        }
        other => panic!("{other}"),
    }
}

fn spawn(role: &str, dir: &Path) -> std::process::Child {
    command(Command::new(std::env::current_exe().unwrap()), role, dir)
}

fn command(mut command: Command, role: &str, dir: &Path) -> std::process::Child {
    command.args(["--exact", "other_process", "--nocapture"]);
    command.env(ROLE, role).env(DIR, dir).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// Waits for a child and returns what stands between `field` and the next semicolon in its output.
fn said(mut child: std::process::Child, field: &str) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    let (_, rest) = text.split_once(field).unwrap_or_else(|| panic!("no {field} in {text}"));
    rest.split(';').next().unwrap_or_default().to_owned()
}

#[test]
fn processes_append_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = ScoreStore::open(folder.path()).unwrap();
    let mut children = ["forward", "backward", "forward"].map(|role| spawn(role, folder.path()));
    // And a reader meanwhile: whole appends or nothing.
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        assert_eq!(assert_sound(&store) % BATCH as usize, 0);
        std::thread::sleep(Duration::from_millis(5));
    }
    let added: usize =
        children.into_iter().map(|child| said(child, "added=").parse::<usize>().unwrap()).sum();
    assert_eq!(added, PAIRS as usize, "every pair was stored by exactly one of them");
    assert_eq!(assert_sound(&store), PAIRS as usize);

    let error = said(spawn("conflicting", folder.path()), "error=");
    assert!(error.contains(&format!("pair {:08x}", 3)), "{error}");
    assert_eq!(assert_sound(&store), PAIRS as usize);
}

/// A shard is complete from the first moment that its name is there: looked at as often as can be.
#[test]
fn large_shards_appear_whole() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join(KEY.folder_name());
    let mut child = spawn("bulk", folder.path());
    let mut seen = std::collections::BTreeSet::new();
    while child.try_wait().unwrap().is_none() {
        let Ok(entries) = std::fs::read_dir(&shards) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|end| end == "parquet") && seen.insert(path.clone()) {
                let bytes = std::fs::read(&path).unwrap();
                assert!(bytes.ends_with(b"PAR1"), "{} after {} bytes", path.display(), bytes.len());
            }
        }
    }
    said(child, "done=");
    assert_eq!(assert_sound(&ScoreStore::open(folder.path()).unwrap()), 10 * LARGE as usize);
}

#[test]
fn a_killed_process_leaves_a_good_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = ScoreStore::open(folder.path()).unwrap();
    // Between two appends, by its own hand: what was appended is there, and the lock died with its holder.
    for appends in [0, 1, 2, 5, 6] {
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.env(APPENDS, appends.to_string());
        let status = command(other, "killed", folder.path()).wait().unwrap();
        assert!(!status.success());
        assert_eq!(assert_sound(&store), (appends * BATCH) as usize);
    }
    // At moments of the clock, wherever they are.
    let mut before = assert_sound(&store);
    for attempt in 0..10u64 {
        let mut child = spawn("forward", folder.path());
        std::thread::sleep(Duration::from_millis(2 + attempt * 7 % 40));
        child.kill().unwrap();
        child.wait().unwrap();
        let now = assert_sound(&store);
        assert!(now >= before && now.is_multiple_of(BATCH as usize), "{before} -> {now}");
        before = now;
    }
    said(spawn("forward", folder.path()), "added=");
    assert_eq!(assert_sound(&store), PAIRS as usize);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join(KEY.folder_name())).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The role `role`, whose files cannot grow beyond some kilobytes; with `dies`, the attempt kills it.
#[cfg(unix)]
fn limited(role: &str, dies: bool, dir: &Path) -> std::process::Child {
    let mut shell = Command::new("sh");
    let trap = if dies { "" } else { r#"trap "" XFSZ; "# };
    shell.arg("-c").arg(format!(r#"{trap}ulimit -c 0; ulimit -f 16; exec "$0" "$@""#));
    shell.arg(std::env::current_exe().unwrap());
    command(shell, role, dir)
}

/// Killed in the middle of a write: the half shard is skipped, and the next append removes it.
#[cfg(unix)]
#[test]
fn a_process_killed_amid_a_write_leaves_a_good_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = ScoreStore::open(folder.path()).unwrap();
    store.append(&KEY, &batch(0)).unwrap();
    let before = names(folder.path());
    let status = limited("large", true, folder.path()).wait().unwrap();
    assert_eq!(status.code(), None, "killed by a signal");
    let left = names(folder.path());
    assert_eq!(left.len(), before.len() + 1, "a half shard is there: {left:?}");
    assert_eq!(assert_sound(&store), BATCH as usize);
    store.append(&KEY, &batch(1)).unwrap();
    assert!(names(folder.path()).iter().all(|name| !name.starts_with('.')), "{:?}", names(folder.path()));
    assert_eq!(assert_sound(&store), 2 * BATCH as usize);
}

/// A limit on the size of files stands in for a full disk: the write fails half way.
#[cfg(unix)]
#[test]
fn a_write_that_fails_half_way_leaves_a_good_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = ScoreStore::open(folder.path()).unwrap();
    store.append(&KEY, &batch(0)).unwrap();
    let before = names(folder.path());
    let error = said(limited("large", false, folder.path()), "error=");
    assert!(error.starts_with("io "), "{error}");
    assert_eq!(names(folder.path()), before, "no unfinished file stays");
    assert_eq!(assert_sound(&store), BATCH as usize);
}
