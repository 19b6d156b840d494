//! The store: a folder of score shards.

use crate::sealed::Sealed;
use crate::{CacheError, PairId, PairScore, ScoreKey, ScoreTable, disk, hex, scores_file};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

const FORMAT: &str = "ama score shard";
const KEY_FIELDS: [&str; 3] = ["model", "tokenizer", "max_length"];

/// A content-addressed store of scores, in one folder.
///
/// ```text
/// DIR/<key>/<checksum>.parquet    a shard: what one `append` added; never changed, never renamed
/// DIR/<key>/lock                  held by the process that appends
/// ```
///
/// `<key>` is [`ScoreKey::folder_name`]; the full key stands in every shard's metadata and is checked.
/// Readers take no lock: a shard appears by a rename, whole. A store may be shared by threads and processes of
/// one machine.
#[derive(Debug)]
pub struct ScoreStore {
    dir: PathBuf,
    /// What `append` has read so far, so that it reads every shard once.
    known: Mutex<HashMap<ScoreKey, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    shards: BTreeSet<PathBuf>,
    rows: HashMap<PairId, PairScore>,
}

impl ScoreStore {
    /// The store in the folder `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(CacheError::io("create the folder", &dir))?;
        Ok(Self { dir, known: Mutex::default() })
    }

    /// The folder of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All scores of a key; an empty table if there are none. Always reads and checks the disk.
    ///
    /// # Errors
    /// [`CacheError::Io`], [`CacheError::Corrupt`], [`CacheError::Mismatch`] for a shard of another key,
    /// [`CacheError::Conflict`] between two shards.
    pub fn load(&self, key: &ScoreKey) -> Result<ScoreTable, CacheError> {
        let mut rows = Vec::new();
        let mut ends = Vec::new();
        let shards: Vec<PathBuf> = self.shards(key)?.into_iter().collect();
        for shard in &shards {
            rows.extend(read_shard(shard, key)?);
            ends.push(rows.len());
        }
        ScoreTable::from_sources(rows, |row| {
            let shard = ends.partition_point(|&end| end <= row);
            format!("in {}", shards[shard].display())
        })
    }

    /// Indices into `ids` of the pairs that have no score yet, in order, each pair once.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn missing(&self, key: &ScoreKey, ids: &[PairId]) -> Result<Vec<usize>, CacheError> {
        Ok(self.load(key)?.missing(ids))
    }

    /// Adds scores, in a new shard, and returns how many were new. When it returns they are on disk.
    ///
    /// Pairs that have a score already, perhaps from another process a moment ago, keep it if the two
    /// [agree](PairScore::agrees_with). To go on with the stored numbers and no others, [`load`](Self::load)
    /// them afterwards.
    ///
    /// # Errors
    /// [`CacheError::NotFinite`]; [`CacheError::Conflict`] if a pair has another score already;
    /// [`CacheError::Io`] (a full disk, say). On error nothing was added.
    pub fn append(&self, key: &ScoreKey, rows: &[(PairId, PairScore)]) -> Result<usize, CacheError> {
        let rows = ScoreTable::from_rows(rows.to_vec())?;
        if rows.is_empty() {
            return Ok(0);
        }
        // `Known` changes only after a shard was read or written in full, so a panic leaves it sound.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(*key).or_default();
        let folder = self.folder(key);
        if !folder.is_dir() {
            fs::create_dir_all(&folder).map_err(CacheError::io("create the folder", &folder))?;
            disk::sync_folder(&self.dir)?;
        }
        let _lock = lock(&folder)?;
        disk::remove_leftovers(&folder)?;
        self.refresh(key, known)?;

        let mut new = Vec::new();
        for &(id, score) in rows.rows() {
            match known.rows.get(&id) {
                None => new.push((id, score)),
                Some(stored) if stored.agrees_with(&score) => {}
                Some(stored) => {
                    return Err(CacheError::Conflict {
                        pair: hex::encode(&id),
                        first: *stored,
                        first_at: format!("in {}", folder.display()),
                        second: score,
                        second_at: "being added".to_owned(),
                    });
                }
            }
        }
        if !new.is_empty() {
            let shard = write_shard(&folder, key, &new)?;
            known.shards.insert(shard);
            known.rows.extend(new.iter().copied());
        }
        Ok(new.len())
    }

    fn folder(&self, key: &ScoreKey) -> PathBuf {
        self.dir.join(key.folder_name())
    }

    /// The shards of a key, sorted by name.
    fn shards(&self, key: &ScoreKey) -> Result<BTreeSet<PathBuf>, CacheError> {
        let folder = self.folder(key);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(CacheError::io("list", &folder))?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let paths = paths.collect::<Result<Vec<_>, _>>().map_err(CacheError::io("list", &folder))?;
        let is_shard = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".parquet") && !name.starts_with('.')
        };
        Ok(paths.into_iter().filter(is_shard).collect())
    }

    /// Brings `known` up to what is on disk.
    fn refresh(&self, key: &ScoreKey, known: &mut Known) -> Result<(), CacheError> {
        let shards = self.shards(key)?;
        if !known.shards.is_subset(&shards) {
            *known = Known::default(); // somebody deleted a shard: its pairs are missing again
        }
        for shard in &shards {
            if !known.shards.contains(shard) {
                known.rows.extend(read_shard(shard, key)?);
                known.shards.insert(shard.clone());
            }
        }
        Ok(())
    }
}

/// Waits for the folder's lock; it is free again when the file is dropped, or the process dies.
fn lock(folder: &Path) -> Result<fs::File, CacheError> {
    let path = folder.join("lock");
    let file = fs::OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    let file = file.map_err(CacheError::io("open", &path))?;
    file.lock().map_err(CacheError::io("lock", &path))?;
    Ok(file)
}

fn write_shard(folder: &Path, key: &ScoreKey, rows: &[(PairId, PairScore)]) -> Result<PathBuf, CacheError> {
    let mut draft = scores_file::draft(FORMAT, rows)?;
    for (field, text) in KEY_FIELDS.into_iter().zip(key.fields()) {
        draft = draft.meta(field, text)?;
    }
    let (bytes, checksum) = draft.seal(folder)?;
    let path = folder.join(format!("{}.parquet", &checksum[..32]));
    disk::write_whole(&path, &bytes)?;
    Ok(path)
}

fn read_shard(path: &Path, key: &ScoreKey) -> Result<Vec<(PairId, PairScore)>, CacheError> {
    let file = Sealed::read(path, FORMAT)?;
    for (field, text) in KEY_FIELDS.into_iter().zip(key.fields()) {
        file.expect(field, &text)?;
    }
    scores_file::rows(&file)
}
