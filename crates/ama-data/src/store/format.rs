//! The layout of a token store on disk (version 2, little-endian):
//!
//! | bytes | what |
//! |---|---|
//! | 0..256 | header: magic, version, counts, lengths, fingerprints, checksums; its own checksum in the last 32 |
//! | 4 per token | token ids: of every example its prompt and its completions, one after the other |
//! | 40 per example | index: id (16), first token (u64), lengths of prompt and two completions (3 x u32), 0 (u32) |
//! | 16 per example | places: row number (u64), index of its file (u32), 0 (u32) |
//! | 40 per dropped row | id (16), place (16), why it was dropped (u32), 0 (u32) |
//! | rest | the build report and the names of the files, as JSON |
//!
//! One checksum is of ids and index, which decide what is trained on; another is of the rest.
//!
//! Nothing in here is trusted before it was checked: sizes against the file's length, bytes against checksums,
//! index entries against each other. A hostile file with right checksums still cannot reach outside itself.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::tally::BuildReport;
use crate::id::PairId;
use crate::tokenise::DropReason;

pub(crate) const HEADER_LEN: usize = 256;
pub(crate) const ENTRY_LEN: usize = 40;
pub(crate) const PLACE_LEN: usize = 16;
pub(crate) const DROPPED_LEN: usize = 40;
const MAGIC: [u8; 8] = *b"AMATOKS\0";
const VERSION: u32 = 2;
const CHECKSUM_AT: usize = HEADER_LEN - 32;
/// Stands for "no max_length".
const NO_LIMIT: u64 = u64::MAX;
/// A report is some hundred bytes and the names of the files; more is not ours.
const MAX_REPORT_LEN: u64 = 1 << 26;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// 2 for pairs, 1 for fine-tuning.
    pub(crate) completions: u32,
    pub(crate) examples: u64,
    /// Token ids in the store.
    pub(crate) ids: u64,
    /// Tokens as TRL counts them.
    pub(crate) tokens: u64,
    pub(crate) report_len: u64,
    pub(crate) max_length: Option<usize>,
    pub(crate) tokenizer: [u8; 32],
    /// Of ids and index.
    pub(crate) content_hash: [u8; 32],
    /// Of places, dropped rows and report.
    pub(crate) tail_hash: [u8; 32],
    pub(crate) dropped: u64,
}

impl Header {
    pub(crate) fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&self.completions.to_le_bytes());
        let max_length = self.max_length.map_or(NO_LIMIT, |n| n as u64);
        for number in [self.examples, self.ids, self.tokens, self.report_len, max_length] {
            put(&number.to_le_bytes());
        }
        put(&self.tokenizer);
        put(&self.content_hash);
        put(&self.tail_hash);
        put(&self.dropped.to_le_bytes());
        let checksum = blake3::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(checksum.as_bytes());
        bytes
    }

    /// Reads a header and checks it against the length of its file.
    pub(crate) fn from_bytes(bytes: &[u8; HEADER_LEN], file_len: u64) -> Result<Self, String> {
        let mut at = 0;
        let mut take = |len: usize| {
            at += len;
            &bytes[at - len..at]
        };
        if take(8) != MAGIC {
            return Err("it does not begin as one".into());
        }
        let version = u32_at(take(4));
        if version != VERSION {
            return Err(format!("it has version {version}; want {VERSION}"));
        }
        if blake3::hash(&bytes[..CHECKSUM_AT]).as_bytes() != &bytes[CHECKSUM_AT..] {
            return Err("the checksum of its header is wrong".into());
        }
        let completions = u32_at(take(4));
        let [examples, ids, tokens, report_len, max_length] = std::array::from_fn(|_| u64_at(take(8)));
        let [tokenizer, content_hash, tail_hash] = std::array::from_fn(|_| {
            let mut hash = [0; 32];
            hash.copy_from_slice(take(32));
            hash
        });
        let dropped = u64_at(take(8));
        let max_length = match max_length {
            NO_LIMIT => None,
            n => Some(usize::try_from(n).map_err(|_| format!("its max_length {n} is beyond this machine"))?),
        };
        if !(1..=2).contains(&completions) || examples == 0 || report_len > MAX_REPORT_LEN {
            return Err(format!(
                "{completions} completions, {examples} examples, report of {report_len} bytes"
            ));
        }
        let header = Self {
            completions,
            examples,
            ids,
            tokens,
            report_len,
            max_length,
            tokenizer,
            content_hash,
            tail_hash,
            dropped,
        };
        match header.file_len() {
            Some(want) if want == file_len => Ok(header),
            Some(want) => Err(format!("it has {file_len} bytes; its header wants {want}")),
            None => Err("its header claims more bytes than any file has".into()),
        }
    }

    /// Length of the whole file; `None` if the counts overflow.
    fn file_len(&self) -> Option<u64> {
        let ids = self.ids.checked_mul(4)?;
        let examples = self.examples.checked_mul((ENTRY_LEN + PLACE_LEN) as u64)?;
        let dropped = self.dropped.checked_mul(DROPPED_LEN as u64)?;
        let len = (HEADER_LEN as u64).checked_add(ids)?.checked_add(examples)?.checked_add(dropped)?;
        let len = len.checked_add(self.report_len)?;
        usize::try_from(len).ok().map(|len| len as u64)
    }
}

/// One index entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: PairId,
    /// First token of the prompt, counted in ids.
    pub(crate) start: u64,
    pub(crate) prompt: u32,
    /// Lengths of the completions; the second is 0 in a store of single completions.
    pub(crate) completions: [u32; 2],
}

impl Entry {
    pub(crate) fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..16].copy_from_slice(self.id.as_bytes());
        bytes[16..24].copy_from_slice(&self.start.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.prompt.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.completions[0].to_le_bytes());
        bytes[32..36].copy_from_slice(&self.completions[1].to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; ENTRY_LEN]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[..16]);
        Self {
            id: PairId::from_bytes(id),
            start: u64_at(&bytes[16..24]),
            prompt: u32_at(&bytes[24..28]),
            completions: [u32_at(&bytes[28..32]), u32_at(&bytes[32..36])],
        }
    }

    /// Token ids in the store.
    pub(crate) fn ids(&self) -> u64 {
        u64::from(self.prompt) + u64::from(self.completions[0]) + u64::from(self.completions[1])
    }

    /// Tokens in a packed batch: the last token of a completion is not fed to the model.
    pub(crate) fn packed_tokens(&self) -> u64 {
        self.completions.iter().fold(u64::from(self.prompt), |n, &len| n + u64::from(len.saturating_sub(1)))
    }

    /// Tokens as TRL counts them: prompt + completion for every completion.
    pub(crate) fn tokens(&self, completions: u32) -> u64 {
        u64::from(self.prompt) * u64::from(completions)
            + u64::from(self.completions[0])
            + u64::from(self.completions[1])
    }
}

/// Where an example came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlaceEntry {
    /// Index among the files of the store, in the order in which they were read.
    pub(crate) file: u32,
    /// 1-based row of that file.
    pub(crate) row: u64,
}

impl PlaceEntry {
    pub(crate) fn to_bytes(self) -> [u8; PLACE_LEN] {
        let mut bytes = [0; PLACE_LEN];
        bytes[..8].copy_from_slice(&self.row.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.file.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self { row: u64_at(&bytes[..8]), file: u32_at(&bytes[8..12]) }
    }
}

/// A row that gave no example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DroppedEntry {
    pub(crate) id: PairId,
    pub(crate) place: PlaceEntry,
    pub(crate) reason: DropReason,
}

impl DroppedEntry {
    pub(crate) fn to_bytes(self) -> [u8; DROPPED_LEN] {
        let mut bytes = [0; DROPPED_LEN];
        bytes[..16].copy_from_slice(self.id.as_bytes());
        bytes[16..32].copy_from_slice(&self.place.to_bytes());
        let reason = match self.reason {
            DropReason::PromptTooLong => 0_u32,
        };
        bytes[32..36].copy_from_slice(&reason.to_le_bytes());
        bytes
    }

    /// `None` for a reason that nobody gives.
    pub(crate) fn from_bytes(bytes: &[u8; DROPPED_LEN]) -> Option<Self> {
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[..16]);
        let reason = match u32_at(&bytes[32..36]) {
            0 => DropReason::PromptTooLong,
            _ => return None,
        };
        Some(Self { id: PairId::from_bytes(id), place: PlaceEntry::from_bytes(&bytes[16..32]), reason })
    }
}

/// What stands at the end of a store, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tail {
    pub(crate) report: BuildReport,
    pub(crate) files: Vec<String>,
}

/// Reads everything after the header once, in pieces, and checks it. Gives the end of the file.
pub(crate) fn verify(header: &Header, file: &mut impl Read) -> io::Result<Result<Tail, String>> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut left = header.ids * 4;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact(&mut buffer[..piece])?;
        hasher.update(&buffer[..piece]);
        left -= piece as u64;
    }
    let mut bytes = [0; ENTRY_LEN];
    let (mut ids, mut tokens) = (0_u64, 0_u64);
    let mut bad_entry = None;
    for example in 0..header.examples {
        file.read_exact(&mut bytes)?;
        hasher.update(&bytes);
        let entry = Entry::from_bytes(&bytes);
        let whole = entry.prompt > 0
            && entry.completions[0] > 0
            && (entry.completions[1] > 0) == (header.completions == 2);
        if entry.start != ids || !whole {
            bad_entry.get_or_insert(example);
        }
        // No overflow: each step adds less than 2^34, and the count of examples is bounded by the file.
        ids = ids.saturating_add(entry.ids());
        tokens = tokens.saturating_add(entry.tokens(header.completions));
    }
    if hasher.finalize().as_bytes() != &header.content_hash {
        return Ok(Err("the checksum of its tokens is wrong".into()));
    }
    if let Some(example) = bad_entry {
        return Ok(Err(format!("the index entry of example {example} is wrong")));
    }
    if ids != header.ids || tokens != header.tokens {
        return Ok(Err(format!("its index covers {ids} ids, {tokens} tokens; its header has others")));
    }
    verify_tail(header, file)
}

/// The same of places, dropped rows and report.
fn verify_tail(header: &Header, file: &mut impl Read) -> io::Result<Result<Tail, String>> {
    let mut hasher = blake3::Hasher::new();
    // Files that are named by their index: those below this number.
    let mut files = 0;
    let mut bytes = [0; PLACE_LEN];
    for _ in 0..header.examples {
        file.read_exact(&mut bytes)?;
        hasher.update(&bytes);
        files = files.max(PlaceEntry::from_bytes(&bytes).file as usize + 1);
    }
    let mut bytes = [0; DROPPED_LEN];
    let mut unknown_reason = false;
    for _ in 0..header.dropped {
        file.read_exact(&mut bytes)?;
        hasher.update(&bytes);
        match DroppedEntry::from_bytes(&bytes) {
            Some(dropped) => files = files.max(dropped.place.file as usize + 1),
            None => unknown_reason = true,
        }
    }
    let mut report = vec![0; usize::try_from(header.report_len).unwrap_or_default()];
    file.read_exact(&mut report)?;
    hasher.update(&report);
    if hasher.finalize().as_bytes() != &header.tail_hash {
        return Ok(Err("the checksum of its places and report is wrong".into()));
    }
    if unknown_reason {
        return Ok(Err("it has a row that was dropped for an unknown reason".into()));
    }
    let tail: Tail = match serde_json::from_slice(&report) {
        Ok(tail) => tail,
        Err(e) => return Ok(Err(format!("its report is unreadable: {e}"))),
    };
    if tail.files.len() < files {
        return Ok(Err(format!("it names {} files but has rows of {files}", tail.files.len())));
    }
    Ok(Ok(tail))
}

fn u32_at(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn u64_at(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
