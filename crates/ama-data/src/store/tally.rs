//! Counting what becomes of the rows of a data set: the same for a store and for a look without one.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};

use super::examine::Examined;
use crate::id::PairId;
use crate::row::Row;
use crate::tokenise::{DropReason, Tokenised};
use crate::tokenizer::PairTokenizer;

/// Ids that are sorted at a time to count duplicates: 4 MiB of them.
const IDS_AT_A_TIME: u64 = 1 << 18;

const ID_LEN: usize = 16;

/// What became of the rows of a data set: nothing is dropped or cut without being counted here.
///
/// All counts but `read` and `dropped_prompt_too_long` are of examples that were kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BuildReport {
    /// Rows read.
    pub read: u64,
    /// Examples in the store.
    pub kept: u64,
    /// Examples of which `max_length` cut a completion.
    pub truncated: u64,
    /// Pairs whose completions are equal after that cut (TRL trains on them; their gradient is zero).
    pub indistinguishable: u64,
    /// Rows dropped because the prompt alone reaches `max_length`.
    pub dropped_prompt_too_long: u64,
    /// Examples whose content was there before. They are kept, and counted here.
    pub duplicates: u64,
    /// Examples whose prompt lost tokens that merge with a completion.
    pub merged_boundaries: u64,
    /// Prompts that begin with the token that the tokenizer puts before every text: it is there twice.
    pub doubled_bos: u64,
    /// Completions that end in the end-of-sequence token (and white space) while another is put behind.
    pub doubled_eos: u64,
    /// Examples whose completions all begin with the text of their prompt.
    pub repeated_prompts: u64,
    /// Pairs whose completions differ in white space only.
    pub white_space_only: u64,
    /// Pairs whose completions differ in their Unicode normal form only.
    pub normal_form_only: u64,
    /// Examples with more tokens (prompt and longer completion) than `max_position_embeddings` of the model.
    pub beyond_positions: u64,
    /// The most tokens of a prompt and one completion, after the cut.
    pub longest: u64,
    /// Tokens as TRL counts them: prompt + completion, for every completion.
    pub tokens: u64,
    /// Lengths of the prompts, in tokens.
    pub prompt: Lengths,
    /// Lengths of the chosen (or only) completions, in tokens, after the cut.
    pub chosen: Lengths,
    /// Lengths of the rejected completions, in tokens, after the cut; zeros for fine-tuning.
    pub rejected: Lengths,
}

/// Mean and maximum of lengths in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Lengths {
    /// Sum divided by the number of examples.
    pub mean: f64,
    /// The longest.
    pub max: u64,
}

#[derive(Default)]
struct Sum {
    sum: u64,
    max: u64,
}

impl Sum {
    fn add(&mut self, len: usize) {
        self.sum += len as u64;
        self.max = self.max.max(len as u64);
    }

    fn lengths(&self, examples: u64) -> Lengths {
        Lengths { mean: self.sum as f64 / examples.max(1) as f64, max: self.max }
    }
}

/// Counts rows one after the other. Memory does not grow with their number: ids wait in a file.
pub(super) struct Tally {
    report: BuildReport,
    max_positions: Option<u64>,
    prompt: Sum,
    chosen: Sum,
    rejected: Sum,
    ids: BufWriter<File>,
}

impl Tally {
    /// `ids` is an empty file that goes when it is closed.
    pub(super) fn new(ids: File, tokenizer: Option<&PairTokenizer>) -> Self {
        Self {
            report: BuildReport::default(),
            max_positions: tokenizer.and_then(PairTokenizer::max_positions),
            prompt: Sum::default(),
            chosen: Sum::default(),
            rejected: Sum::default(),
            ids: BufWriter::new(ids),
        }
    }

    /// The counts so far; duplicates and lengths are known at the end.
    pub(super) fn report(&self) -> &BuildReport {
        &self.report
    }

    pub(super) fn add(&mut self, row: &Row, examined: &Examined) -> io::Result<()> {
        let report = &mut self.report;
        report.read += 1;
        let id = match &examined.tokenised {
            Some(Tokenised::Dropped(DropReason::PromptTooLong)) => {
                report.dropped_prompt_too_long += 1;
                return Ok(());
            }
            Some(Tokenised::Kept { example, truncated, boundary_tokens, doubled }) => {
                let view = example.as_ref();
                report.truncated += u64::from(*truncated);
                report.merged_boundaries += u64::from(*boundary_tokens > 0);
                report.doubled_bos += u64::from(doubled.bos);
                report.doubled_eos += doubled.eos as u64;
                report.tokens += view.tokens() as u64;
                report.indistinguishable += u64::from(view.rejected() == Some(view.chosen()));
                let longer = view.completions().map(<[u32]>::len).max().unwrap_or_default();
                let positions = (view.prompt.len() + longer) as u64;
                report.longest = report.longest.max(positions);
                report.beyond_positions += u64::from(self.max_positions.is_some_and(|max| positions > max));
                self.prompt.add(view.prompt.len());
                self.chosen.add(view.chosen().len());
                self.rejected.add(view.rejected().unwrap_or_default().len());
                example.id
            }
            None => PairId::of(&row.content),
        };
        report.kept += 1;
        report.repeated_prompts += u64::from(examined.findings.prompt_repeated);
        report.white_space_only += u64::from(examined.findings.white_space_only);
        report.normal_form_only += u64::from(examined.findings.normal_form_only);
        self.ids.write_all(id.as_bytes())
    }

    pub(super) fn finish(mut self) -> io::Result<BuildReport> {
        let mut ids = self.ids.into_inner().map_err(io::IntoInnerError::into_error)?;
        let kept = self.report.kept;
        self.report.duplicates = count_duplicates(&mut ids, kept)?;
        self.report.prompt = self.prompt.lengths(kept);
        self.report.chosen = self.chosen.lengths(kept);
        self.report.rejected = self.rejected.lengths(kept);
        Ok(self.report)
    }
}

/// Examples less distinct ids, in bounded memory: each pass looks at one residue class of the ids.
fn count_duplicates(file: &mut File, examples: u64) -> io::Result<u64> {
    let passes = examples.div_ceil(IDS_AT_A_TIME).max(1);
    let mut duplicates = 0;
    let mut ids: Vec<[u8; ID_LEN]> = Vec::new();
    for pass in 0..passes {
        ids.clear();
        file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(1 << 16, &mut *file);
        let mut id = [0; ID_LEN];
        for _ in 0..examples {
            reader.read_exact(&mut id)?;
            let class = id[..8].iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)) % passes;
            if class == pass {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        duplicates += ids.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    }
    Ok(duplicates)
}
