//! `ama merge`: one model out of several.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ama_merge::{Method, Notice, Parameter, Recipe, Rescale, Setting, Vocabulary, WeightDtype, merge_with};
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::arguments::Dtype;
use crate::console::{self, Console};
use crate::exit::bad_input;
use crate::output::Output;
use crate::progress::Progress;
use crate::stop;

/// Options of `ama merge`.
#[derive(Debug, Args)]
#[command(after_help = "Methods:\n  \
        linear            weighted average (soup)\n  \
        slerp             along the arc by --t; more than two models are chained by --weight\n  \
        multislerp        weighted mean direction at the weighted mean length\n  \
        task_arithmetic   base + lambda * weighted sum of differences\n  \
        ties              largest differences, elected sign, mean of those that agree\n  \
        dare_linear, dare_ties    differences dropped at random and rescaled\n  \
        della, della_linear       the same, small differences dropped more often\n\n\
        Examples:\n  \
        ama merge --method linear --model models/a --model models/b --weight 0.7 --weight 0.3 --out models/soup\n  \
        ama merge --method ties --base models/base --model models/helpful --model models/harmless \\\n      \
        --density 0.5 --out models/ties\n  \
        ama merge --method slerp --model models/a --model models/b --t 0.4 --dtype bf16 --out models/slerp\n  \
        ama merge --config mergekit.yml --out models/merged")]
pub(crate) struct Options {
    /// How; see below
    #[arg(long, value_name = "NAME", value_parser = method, required_unless_present = "config")]
    method: Option<Method>,
    /// Model that the others were trained from; its configuration, tokenizer and element type are kept [default: those of
    /// the first --model]
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Model folder; give it once for each model
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    model: Vec<PathBuf>,
    /// Model folder to write; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A mergekit configuration (YAML) instead of method, base, models and parameters
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "base", "model", "weight", "density", "epsilon", "lambda",
        "t", "normalize", "rescale"])]
    config: Option<PathBuf>,
    /// Weight of a model: once for all, or once for each in their order [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    weight: Vec<f64>,
    /// Share of differences to keep, in [0, 1] (ties, dare, della): once for all, or once for each model [default: 1]
    #[arg(long, value_name = "X")]
    density: Vec<f64>,
    /// Spread of the keep probabilities around the density (della) [default: 0.15]
    #[arg(long, value_name = "X")]
    epsilon: Option<f64>,
    /// Factor on the merged differences [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lambda: Option<f64>,
    /// Where on the arc (slerp of two models): 0 is the first, 1 the second [default: 0.5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    t: Option<f64>,
    /// Divide by the sum of weights [default: true for linear, multislerp, ties, della]
    #[arg(long, value_name = "BOOL")]
    normalize: Option<bool>,
    /// Scaling of sparse differences [default: inverse for dare and della, off for ties]
    #[arg(long, value_enum)]
    rescale: Option<RescaleArg>,
    /// Element type of the written weights [default: that of the base]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Seed of the masks (dare, della) [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Do not compare the tokenizers: equal numbers of rows are taken to mean equal tokens
    #[arg(long)]
    trust_vocabulary: bool,
    /// Most bytes of tensors in one weights file
    #[arg(long, value_name = "BYTES", default_value_t = ama_merge::DEFAULT_SHARD_BYTES)]
    max_shard_bytes: u64,
}

/// Scaling of sparse differences.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RescaleArg {
    /// None
    Off,
    /// By the inverse of the keep probability, as in the papers
    Inverse,
    /// So that the sum of absolute values stays, as in mergekit
    L1,
}

impl From<RescaleArg> for Rescale {
    fn from(rescale: RescaleArg) -> Self {
        match rescale {
            RescaleArg::Off => Self::Off,
            RescaleArg::Inverse => Self::Inverse,
            RescaleArg::L1 => Self::L1,
        }
    }
}

/// Dashes may stand for underscores.
fn method(name: &str) -> Result<Method, String> {
    Method::from_name(&name.replace('-', "_"))
        .ok_or_else(|| format!("want one of {}", Method::ALL.map(Method::name).join(", ")))
}

/// Runs `ama merge`.
///
/// # Errors
/// Folders that do not belong together, a parameter out of range, an interruption, a full disk.
pub(crate) fn run(options: &Options, console: Console) -> Result<()> {
    let started = Instant::now();
    let (mut recipe, mut notices) = match &options.config {
        Some(config) => Recipe::from_mergekit(config)?,
        None => (recipe(options)?, Vec::new()),
    };
    want_flags_in_use(options, recipe.method)?;
    recipe.seed = options.seed.unwrap_or(0);
    recipe.dtype = options.dtype.map(WeightDtype::from).or(recipe.dtype);
    if options.trust_vocabulary {
        recipe.vocabulary = Vocabulary::Trust;
    }
    let _claim = Output::claim(&options.out)?;
    let mut progress = Progress::new(format!("merge {}", recipe.method.name()));
    let report = merge_with(&recipe, &options.out, options.max_shard_bytes, |at| {
        progress.written(at.tensor, at.done_bytes, at.total_bytes);
        if stop::flag().load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.finish()?;
    let report = report?;
    notices.extend(report.notices);
    for notice in &notices {
        console::note(&format!("note: {notice}"));
    }
    let wall_s = started.elapsed().as_secs_f64();
    console.say(&format!(
        "{} of {} models: {} tensors, {} parameters, {:.1} s; model in {}",
        recipe.method.name(),
        recipe.models.len(),
        report.tensors,
        report.parameters,
        wall_s,
        options.out.display()
    ))?;
    console.finish(&json!({
        "out": options.out, "method": recipe.method.name(), "models": recipe.models.len(), "tensors": report.tensors,
        "parameters": report.parameters, "bytes": report.bytes, "wall_s": wall_s,
        "notices": notices.iter().map(Notice::to_string).collect::<Vec<_>>(),
    }))
}

/// Refuses flags that the method has no use for: whoever gives one expects it to make a difference.
fn want_flags_in_use(options: &Options, method: Method) -> Result<()> {
    let flags = [
        ("weight", !options.weight.is_empty(), Parameter::Weight),
        ("density", !options.density.is_empty(), Parameter::Density),
        ("epsilon", options.epsilon.is_some(), Parameter::Epsilon),
        ("lambda", options.lambda.is_some(), Parameter::Lambda),
        ("t", options.t.is_some(), Parameter::T),
        ("normalize", options.normalize.is_some(), Parameter::Normalize),
        ("rescale", options.rescale.is_some(), Parameter::Rescale),
        ("seed", options.seed.is_some(), Parameter::Seed),
    ];
    for (flag, given, parameter) in flags {
        if given && !method.uses(parameter) {
            let others: Vec<&str> =
                Method::ALL.into_iter().filter(|other| other.uses(parameter)).map(Method::name).collect();
            return Err(bad_input(format!(
                "--{flag} makes no difference to {}; leave it out, or use one of {}",
                method.name(),
                others.join(", ")
            )));
        }
    }
    if options.t.is_some() && !options.weight.is_empty() {
        return Err(bad_input("--t and --weight both say where on the arc; give one of them"));
    }
    if options.epsilon.is_some() && options.density.iter().all(|density| *density == 0.0 || *density == 1.0) {
        return Err(bad_input(
            "--epsilon spreads the keep probabilities around --density, which keeps or drops everything here; give a \
             density between 0 and 1",
        ));
    }
    Ok(())
}

/// The recipe that the flags describe.
fn recipe(options: &Options) -> Result<Recipe> {
    let Some(method) = options.method else { return Err(bad_input("--method is missing")) };
    let mut recipe = Recipe::new(method, options.base.clone(), options.model.clone());
    let weights = for_each("weight", &options.weight, recipe.models.len())?;
    let densities = for_each("density", &options.density, recipe.models.len())?;
    for slice in &mut recipe.slices {
        for (i, model) in slice.models.iter_mut().enumerate() {
            if let Some(weight) = weights.get(i) {
                model.weight = Setting::constant(*weight);
            }
            if let Some(density) = densities.get(i) {
                model.density = Setting::constant(*density);
            }
            model.epsilon = options.epsilon.map(Setting::constant).unwrap_or_default();
        }
        slice.shared.lambda = options.lambda.map(Setting::constant).unwrap_or_default();
        slice.shared.t = options.t.map(Setting::constant).unwrap_or_default();
        slice.shared.normalize = options.normalize.map(Setting::constant).unwrap_or_default();
        slice.shared.rescale = options.rescale.map(|r| Setting::constant(r.into())).unwrap_or_default();
    }
    Ok(recipe)
}

/// A value for each model; none if the flag was not given.
fn for_each(flag: &str, values: &[f64], models: usize) -> Result<Vec<f64>> {
    match values {
        [one] => Ok(vec![*one; models]),
        many if many.is_empty() || many.len() == models => Ok(many.to_vec()),
        many => Err(bad_input(format!(
            "--{flag} is given {} times for {models} models; give it once for all or once for each",
            many.len()
        ))),
    }
}

impl From<Dtype> for WeightDtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
        }
    }
}
