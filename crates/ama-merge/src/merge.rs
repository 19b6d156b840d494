//! The merge itself: tensor by tensor from mapped folders to files that are written as they are computed.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use crate::compatibility::{Planned, plan};
use crate::dtype::WeightDtype;
use crate::error::MergeError;
use crate::folder::{Folder, Tensor};
use crate::kernel::combine::combine;
use crate::kernel::gram::Gram;
use crate::kernel::philox::Stream;
use crate::kernel::sparsify::{Sparsifier, Spec, chunk_len};
use crate::kernel::task_vectors::Consensus;
use crate::kernel::{CHUNK, Values, chunks, read_delta, sphere, vectorised};
use crate::notice::Notice;
use crate::output::{Shape, Staging, WeightsWriter};
use crate::recipe::{Method, Recipe, Vocabulary};
use crate::resolve::{self, Numbers};
use crate::{differences, record, vocabulary};

/// Weights beyond this many bytes go to several files, as in `transformers`: 5 GB.
pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// Tensors are worked on together until they have this many elements, so that small ones keep all threads busy.
const BATCH: usize = 1 << 22;

/// Longest piece of a row that is ranked at once.
const MAX_ROW: usize = 1 << 31;

/// Files of a model folder that are neither configuration nor weights; copied from the template.
const EXTRAS: [&str; 14] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
];

/// How far a merge is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The last tensor that is complete.
    pub tensor: &'a str,
    /// Bytes of the result that are written.
    pub done_bytes: u64,
    /// Bytes of the result.
    pub total_bytes: u64,
}

/// What a merge wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Tensors.
    pub tensors: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// What its user may not expect.
    pub notices: Vec<Notice>,
}

/// [`merge_with`] at the usual shard limit, without progress.
///
/// # Errors
/// As [`merge_with`].
pub fn merge(recipe: &Recipe, out: &Path) -> Result<Report, MergeError> {
    merge_with(recipe, out, DEFAULT_SHARD_BYTES, |_| ControlFlow::Continue(()))
}

/// Merges model folders into a new one.
///
/// Configuration, tokenizer and chat template come from the template ([`Recipe::base`]); `ama_merge.json` records what was
/// merged. The folder is written under a hidden name beside `out`, synced and renamed, so that `out` never holds half a
/// model; after an error nothing is left. Memory is that of a few chunks a thread, plus the mapped pages of the
/// tensors at hand. Work is spread over rayon's current pool, whose size changes no bit of the result.
///
/// `max_shard_bytes` bounds the tensors of one weights file. `progress` is called after every few tensors and can stop the
/// merge.
///
/// # Errors
/// Folders that do not belong together, parameters out of range, files that break their format, values that are not finite,
/// `out` in the way, I/O, [`MergeError::Stopped`].
pub fn merge_with(
    recipe: &Recipe,
    out: &Path,
    max_shard_bytes: u64,
    mut progress: impl FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Report, MergeError> {
    let inputs = Inputs::open(recipe)?;
    let template = &inputs.folders[inputs.template];
    let layers = template.layers();
    resolve::check(recipe, layers)?;
    let mut notices = Vec::new();
    for folder in inputs.folders.iter().filter(|folder| folder.dir != template.dir) {
        differences::compare(folder, template, &mut notices)?;
        if recipe.vocabulary == Vocabulary::Compare {
            vocabulary::compare(&folder.dir, &template.dir, &mut notices)?;
        }
    }
    let planned = plan(&inputs.folders, inputs.template)?;
    // All settings are resolved before anything is written.
    let numbers: Vec<Option<Numbers>> = planned
        .iter()
        .map(|tensor| match tensor {
            Planned::Merged { name, .. } => resolve::numbers(recipe, layers, name).map(Some),
            Planned::Copied { .. } => Ok(None),
        })
        .collect::<Result<_, _>>()?;
    let shapes: Vec<Shape> =
        planned.iter().map(|tensor| shape(tensor, inputs.template, recipe.dtype)).collect();

    let staging = Staging::beside(out)?;
    let writer = WeightsWriter::create(&staging.path, &shapes, max_shard_bytes)?;
    let job = Job { recipe, inputs: &inputs, writer: &writer };
    let total_bytes = shapes.iter().map(|shape| shape.bytes).sum();
    let mut done_bytes = 0;
    for batch in batches(&planned) {
        // What comes next is fetched while this is computed.
        let mut ahead = 0usize;
        for next in planned[batch.end..].iter().take_while(|next| {
            ahead = ahead.saturating_add(elements(next));
            ahead <= BATCH
        }) {
            inputs.each(next, Folder::will_need);
        }
        batch.clone().into_par_iter().try_for_each(|i| job.write(i, &planned[i], numbers[i].as_ref()))?;
        done_bytes += shapes[batch.clone()].iter().map(|shape| shape.bytes).sum::<u64>();
        let tensor = &shapes[batch.end - 1].name;
        if progress(Progress { tensor, done_bytes, total_bytes }).is_break() {
            return Err(MergeError::Stopped);
        }
    }
    if let Some((name, index)) = writer.finish()? {
        staging.write(name, format!("{index:#}\n").as_bytes())?;
    }
    write_config(&staging, template, recipe.dtype)?;
    for name in EXTRAS {
        staging.copy(&template.dir, name)?;
    }
    staging.write(record::FILE, format!("{:#}\n", record::of(recipe)).as_bytes())?;
    staging.publish(out)?;
    let parameters = planned.iter().map(|tensor| elements(tensor) as u64).sum();
    Ok(Report { tensors: shapes.len(), parameters, bytes: total_bytes, notices })
}

/// The folders of a recipe, each opened once.
struct Inputs {
    folders: Vec<Folder>,
    template: usize,
    base: Option<usize>,
    /// Folder of each model.
    models: Vec<usize>,
}

impl Inputs {
    fn open(recipe: &Recipe) -> Result<Self, MergeError> {
        let mut folders = Vec::new();
        let mut known: HashMap<PathBuf, usize> = HashMap::new();
        let mut number = |path: &Path| {
            let key = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
            if let Some(&number) = known.get(&key) {
                return Ok::<_, MergeError>(number);
            }
            folders.push(Folder::open(path)?);
            known.insert(key, folders.len() - 1);
            Ok(folders.len() - 1)
        };
        let base = recipe.base.as_deref().map(&mut number).transpose()?;
        let models = recipe.models.iter().map(|path| number(path)).collect::<Result<Vec<_>, _>>()?;
        let Some(template) = base.or(models.first().copied()) else {
            return Err(MergeError::ModelCount {
                method: recipe.method.name(),
                got: 0,
                want: "at least one",
            });
        };
        Ok(Self { folders, template, base, models })
    }

    /// Calls `tell` for the tensor of every folder.
    fn each(&self, planned: &Planned<'_>, tell: impl Fn(&Folder, &Tensor)) {
        if let Planned::Merged { inputs, .. } = planned {
            for (folder, tensor) in self.folders.iter().zip(inputs) {
                tell(folder, tensor);
            }
        }
    }
}

fn elements(planned: &Planned<'_>) -> usize {
    match planned {
        Planned::Merged { shape, .. } => shape.iter().product(),
        Planned::Copied { tensor } => tensor.len(),
    }
}

fn shape(planned: &Planned<'_>, template: usize, dtype: Option<WeightDtype>) -> Shape {
    let (name, source, dtype) = match planned {
        Planned::Merged { name, inputs, .. } => {
            let kept = inputs[template].dtype;
            (*name, inputs[template], dtype.map_or(kept, WeightDtype::to_safetensors))
        }
        Planned::Copied { tensor } => (tensor.name.as_str(), *tensor, tensor.dtype),
    };
    let bytes = (source.len() as u64 * dtype.bitsize() as u64).div_ceil(8);
    Shape { name: name.to_owned(), dtype, shape: source.shape.clone(), bytes }
}

/// Runs of tensors with about [`BATCH`] elements.
fn batches(planned: &[Planned<'_>]) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut filled) = (0, 0usize);
    for (i, tensor) in planned.iter().enumerate() {
        filled = filled.saturating_add(elements(tensor));
        if filled >= BATCH || i + 1 == planned.len() {
            batches.push(start..i + 1);
            (start, filled) = (i + 1, 0);
        }
    }
    batches
}

/// `config.json` as it is, or with the element type that was asked for.
fn write_config(staging: &Staging, template: &Folder, dtype: Option<WeightDtype>) -> Result<(), MergeError> {
    const FILE: &str = "config.json";
    let Some(dtype) = dtype.filter(|_| !template.config.is_empty()) else {
        return staging.copy(&template.dir, FILE);
    };
    let mut config: Map<String, Value> = template.config.clone();
    // `transformers` wrote `torch_dtype` before version 5 and reads both.
    let known = ["torch_dtype", "dtype"].map(|key| config.contains_key(key).then_some(key));
    let keys = if known == [None; 2] { [Some("torch_dtype"), None] } else { known };
    for key in keys.into_iter().flatten() {
        config.insert(key.to_owned(), json!(dtype.name()));
    }
    staging.write(FILE, format!("{:#}\n", Value::Object(config)).as_bytes())
}

/// What every tensor's work shares.
struct Job<'a> {
    recipe: &'a Recipe,
    inputs: &'a Inputs,
    writer: &'a WeightsWriter,
}

/// One tensor of the base and of the models, and where the result goes.
struct Merging<'a> {
    name: &'a str,
    base: Option<Values<'a>>,
    models: Vec<Values<'a>>,
    dtype: WeightDtype,
    /// Elements of the last axis.
    row: usize,
    number: usize,
}

impl Job<'_> {
    /// Computes and writes tensor number `number` of the result.
    fn write(
        &self,
        number: usize,
        planned: &Planned<'_>,
        numbers: Option<&Numbers>,
    ) -> Result<(), MergeError> {
        let template = &self.inputs.folders[self.inputs.template];
        let (Planned::Merged { name, shape, inputs }, Some(numbers)) = (planned, numbers) else {
            let Planned::Copied { tensor } = planned else { return Ok(()) };
            return self.writer.write(number, 0, template.bytes(tensor));
        };
        let values = |folder: usize| {
            let dtype = WeightDtype::from_safetensors(inputs[folder].dtype);
            // The plan merges these three types only.
            dtype.map(|dtype| Values { bytes: self.inputs.folders[folder].bytes(inputs[folder]), dtype })
        };
        let models: Vec<Values<'_>> =
            self.inputs.models.iter().filter_map(|&folder| values(folder)).collect();
        let base = self.inputs.base.and_then(values);
        let kept = WeightDtype::from_safetensors(inputs[self.inputs.template].dtype);
        let merging = Merging {
            name,
            base,
            models,
            dtype: self.recipe.dtype.or(kept).unwrap_or(WeightDtype::F32),
            row: shape.last().map_or(1, |row| (*row).min(MAX_ROW)),
            number,
        };
        let written = match (self.recipe.method, base) {
            (Method::Linear | Method::Slerp | Method::MultiSlerp, _) => {
                self.write_combination(&merging, numbers)
            }
            (_, Some(base)) => self.write_task_vectors(&merging, base, numbers),
            (method, None) => Err(MergeError::NoBase { method: method.name() }),
        };
        self.inputs.each(planned, Folder::done_with);
        written
    }

    /// The methods whose result is a linear combination of the models.
    fn write_combination(&self, merging: &Merging<'_>, numbers: &Numbers) -> Result<(), MergeError> {
        let weights: Vec<f64> = numbers.models.iter().map(|model| model.weight).collect();
        let sum: f64 = weights.iter().sum();
        let weights_in_use: Vec<f64> =
            if numbers.normalize { weights.iter().map(|w| w / sum).collect() } else { weights.clone() };
        let mut inputs = merging.models.clone();
        let antipodal = || MergeError::Antipodal { tensor: merging.name.to_owned() };
        let coefficients = match self.recipe.method {
            Method::Slerp => {
                let steps = numbers.t.map_or_else(|| sphere::steps(&weights), |t| Some(vec![t]));
                sphere::chain(&self.gram(merging, None)?, &steps.ok_or_else(antipodal)?)
            }
            Method::MultiSlerp => {
                let gram = self.gram(merging, merging.base)?;
                let mut coefficients =
                    sphere::mean_direction(&gram, &weights_in_use).ok_or_else(antipodal)?;
                if let Some(base) = merging.base {
                    coefficients.push(1.0 - coefficients.iter().sum::<f64>());
                    inputs.push(base);
                }
                coefficients
            }
            _ => weights_in_use,
        };
        let buffers = || (vec![0.0f32; CHUNK], vec![0.0f64; CHUNK]);
        self.write_chunks(
            merging,
            CHUNK,
            buffers,
            #[inline(always)]
            |range, (scratch, wide), out| {
                let len = range.len();
                combine(&inputs, &coefficients, range, &mut scratch[..len], &mut wide[..len], out);
                true
            },
        )
    }

    fn gram(&self, merging: &Merging<'_>, origin: Option<Values<'_>>) -> Result<Gram, MergeError> {
        let gram = Gram::of(&merging.models, origin);
        match gram.first_non_finite() {
            None => Ok(gram),
            Some(model) => {
                let dir = self.recipe.models[model].clone();
                Err(MergeError::NonFiniteInput { dir, tensor: merging.name.to_owned() })
            }
        }
    }

    /// The methods that merge differences from the base.
    fn write_task_vectors(
        &self,
        merging: &Merging<'_>,
        base: Values<'_>,
        numbers: &Numbers,
    ) -> Result<(), MergeError> {
        let method = self.recipe.method;
        let sparsifiers: Vec<Sparsifier> = (0..)
            .zip(merging.models.iter().zip(&numbers.models))
            .map(|(place, (model, settings))| {
                let spec = Spec {
                    selection: method.selection(),
                    density: settings.density,
                    epsilon: settings.epsilon,
                    rescale: numbers.rescale,
                    stream: Stream::new(self.recipe.seed, place, merging.name),
                };
                Sparsifier::prepare(base, *model, merging.row, &spec)
            })
            .collect();
        let consensus = Consensus {
            weights: numbers.models.iter().map(|model| model.weight as f32).collect(),
            elect: method.elects_sign(),
            normalize: numbers.normalize,
            lambda: numbers.lambda as f32,
        };
        let chunk = chunk_len(method.selection(), merging.row);
        let buffers = || (vec![0.0f32; 3 * chunk], vec![0.0f32; chunk * merging.models.len()]);
        self.write_chunks(
            merging,
            chunk,
            buffers,
            #[inline(always)]
            |range, (scratch, deltas), out| {
                let len = range.len();
                let mut sound = true;
                for ((model, sparsifier), delta) in
                    merging.models.iter().zip(&sparsifiers).zip(deltas.chunks_mut(chunk))
                {
                    let delta = &mut delta[..len];
                    read_delta(&base, model, range, &mut scratch[..len], delta);
                    // Looked at here: masks and elections would hide a broken model.
                    sound &= delta.iter().fold(true, |sound, d| sound & d.is_finite());
                    sparsifier.apply(delta, range.start);
                }
                base.read(range, out);
                consensus.add(deltas, chunk, &mut scratch[..3 * len], out);
                sound
            },
        )
    }

    /// Computes the tensor chunk by chunk and writes each where it belongs; `compute` says whether its input was finite,
    /// and is `#[inline(always)]`.
    fn write_chunks<B: Send>(
        &self,
        merging: &Merging<'_>,
        chunk: usize,
        buffers: impl Fn() -> B + Sync + Send,
        compute: impl Fn(&Range<usize>, &mut B, &mut [f32]) -> bool + Sync + Send,
    ) -> Result<(), MergeError> {
        let total = merging.models.first().map_or(0, Values::len);
        let (dtype, size) = (merging.dtype, merging.dtype.bytes());
        chunks(total, chunk).try_for_each_init(
            || (buffers(), vec![0.0f32; chunk], vec![0u8; chunk * size]),
            |(buffers, out, bytes), range| {
                let (out, bytes) = (&mut out[..range.len()], &mut bytes[..range.len() * size]);
                let sound = vectorised(
                    #[inline(always)]
                    || {
                        let sound = compute(&range, buffers, out);
                        dtype.narrow(out, bytes);
                        out.iter().fold(sound, |sound, v| sound & dtype.holds(*v))
                    },
                );
                if !sound {
                    return Err(self.not_finite(merging, range.start, out));
                }
                self.writer.write(merging.number, (range.start * size) as u64, bytes)
            },
        )
    }

    /// Why the merged values from `start` on cannot be written: a broken model, or numbers that became too large.
    fn not_finite(&self, merging: &Merging<'_>, start: usize, out: &[f32]) -> MergeError {
        let tensor = merging.name.to_owned();
        let models = self.recipe.models.iter().zip(&merging.models);
        let mut values = vec![0.0; out.len()];
        for (dir, model) in models.chain(self.recipe.base.iter().zip(&merging.base)) {
            model.read(&(start..start + out.len()), &mut values);
            if values.iter().any(|v| !v.is_finite()) {
                return MergeError::NonFiniteInput { dir: dir.clone(), tensor };
            }
        }
        let offset = out.iter().position(|v| !merging.dtype.holds(*v)).unwrap_or(0);
        let (index, value, dtype) = (start + offset, out[offset], merging.dtype.name());
        MergeError::NonFinite { tensor, index, value, dtype }
    }
}
