//! What is merged with what, and how.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::dtype::WeightDtype;
use crate::setting::{Blend, Setting, step};

/// How models are merged. `x_i` are the models, `b` the base, `w_i` the weights, all of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Weighted average `sum w_i x_i / sum w_i` (model soup: Wortsman et al. 2022, arXiv:2203.05482); without
    /// normalisation the plain sum.
    Linear,
    /// Spherical interpolation (Shoemake 1985) of each tensor as one vector. Two models: from the first to the second by
    /// `t`. More: chained, the running result with the next model at `t = w_j / (w_1 + ... + w_j)`, so that
    /// the order matters. Nearly parallel vectors (`|cos| > 0.9995`) are interpolated linearly.
    Slerp,
    /// The weighted mean direction `sum w_i x_i/|x_i|` at the weighted mean length: mergekit's `multislerp`, which does not
    /// depend on the order. With a base, directions are those of `x_i - b`.
    MultiSlerp,
    /// `b + lambda sum w_i (x_i - b)` (Ilharco et al. 2023, arXiv:2212.04089).
    TaskArithmetic,
    /// Task vectors trimmed to their largest entries, a sign elected per entry, and the mean of those that agree
    /// with it (Yadav et al. 2023, arXiv:2306.01708).
    Ties,
    /// Task arithmetic on task vectors whose entries were dropped at random and rescaled (Yu et al. 2024, arXiv:2311.03099).
    DareLinear,
    /// TIES' election on task vectors sparsified as in DARE.
    DareTies,
    /// TIES' election on task vectors whose entries were dropped at random, the small ones of a row more often (Deep et
    /// al. 2024, arXiv:2406.11617).
    Della,
    /// Task arithmetic on task vectors sparsified as in DELLA.
    DellaLinear,
}

/// What can be set about a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Parameter {
    /// [`ModelSettings::weight`].
    Weight,
    /// [`ModelSettings::density`].
    Density,
    /// [`ModelSettings::epsilon`].
    Epsilon,
    /// [`SharedSettings::normalize`].
    Normalize,
    /// [`SharedSettings::rescale`].
    Rescale,
    /// [`SharedSettings::lambda`].
    Lambda,
    /// [`SharedSettings::t`].
    T,
    /// [`Recipe::seed`].
    Seed,
}

/// How entries of a task vector are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    All,
    Largest,
    Random,
    RandomByRank,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 9] = [
        Self::Linear,
        Self::Slerp,
        Self::MultiSlerp,
        Self::TaskArithmetic,
        Self::Ties,
        Self::DareLinear,
        Self::DareTies,
        Self::Della,
        Self::DellaLinear,
    ];

    /// The name that mergekit uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Slerp => "slerp",
            Self::MultiSlerp => "multislerp",
            Self::TaskArithmetic => "task_arithmetic",
            Self::Ties => "ties",
            Self::DareLinear => "dare_linear",
            Self::DareTies => "dare_ties",
            Self::Della => "della",
            Self::DellaLinear => "della_linear",
        }
    }

    /// The method of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Whether the method works on differences from a base and cannot do without one.
    #[must_use]
    pub fn needs_base(self) -> bool {
        !matches!(self, Self::Linear | Self::Slerp | Self::MultiSlerp)
    }

    /// Whether the result is divided by the sum of weights, unless set otherwise.
    #[must_use]
    pub fn normalizes(self) -> bool {
        matches!(self, Self::Linear | Self::MultiSlerp | Self::Ties | Self::Della)
    }

    /// How what is left of a task vector is scaled, unless set otherwise.
    #[must_use]
    pub fn rescales(self) -> Rescale {
        match self.selection() {
            Selection::Random | Selection::RandomByRank => Rescale::Inverse,
            _ => Rescale::Off,
        }
    }

    /// Whether a parameter makes a difference to the method.
    #[must_use]
    pub fn uses(self, parameter: Parameter) -> bool {
        let selection = self.selection();
        match parameter {
            Parameter::Weight => true,
            Parameter::T => self == Self::Slerp,
            Parameter::Normalize => self != Self::Slerp,
            Parameter::Lambda => self.needs_base(),
            Parameter::Density | Parameter::Rescale => selection != Selection::All,
            Parameter::Epsilon => selection == Selection::RandomByRank,
            Parameter::Seed => matches!(selection, Selection::Random | Selection::RandomByRank),
        }
    }

    pub(crate) fn selection(self) -> Selection {
        match self {
            Self::Linear | Self::Slerp | Self::MultiSlerp | Self::TaskArithmetic => Selection::All,
            Self::Ties => Selection::Largest,
            Self::DareLinear | Self::DareTies => Selection::Random,
            Self::Della | Self::DellaLinear => Selection::RandomByRank,
        }
    }

    pub(crate) fn elects_sign(self) -> bool {
        matches!(self, Self::Ties | Self::DareTies | Self::Della)
    }
}

/// How the entries that are left of a sparsified task vector are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescale {
    /// Not at all.
    Off,
    /// Each by the inverse of the probability with which it was kept, so that the mean over masks is the task vector: what
    /// the papers of DARE and DELLA do.
    Inverse,
    /// All by one factor per tensor that restores the sum of absolute values: what mergekit's `rescale: true` does.
    L1,
}

impl Blend for Rescale {
    fn blend(values: &[Self], depth: f64) -> Self {
        step(values, depth)
    }
}

/// Parameters of one model. A parameter that is unset for a tensor has the default in parentheses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelSettings {
    /// Weight of the model; any finite value (none; [`Recipe::new`] sets 1).
    pub weight: Setting<f64>,
    /// Share of the task vector's entries to keep, in `[0, 1]` (1).
    pub density: Setting<f64>,
    /// DELLA: entries are kept with probabilities from `density - epsilon` for the smallest of a row to
    /// `density + epsilon` for the largest, both in `(0, 1)` (0.15).
    pub epsilon: Setting<f64>,
}

/// Parameters of the method.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SharedSettings {
    /// Whether the result is divided by the sum of the weights that count ([`Method::normalizes`]).
    pub normalize: Setting<bool>,
    /// How sparsified task vectors are scaled ([`Method::rescales`]).
    pub rescale: Setting<Rescale>,
    /// Factor on the merged task vector (1).
    pub lambda: Setting<f64>,
    /// SLERP of two models: 0 is the first, 1 the second (from the weights).
    pub t: Setting<f64>,
}

/// Settings for a range of layers. Gradients run from its first layer to its last.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The layers; `None` for all. Tensors outside any layer belong to the first slice if they are embeddings, else
    /// to the last, at depth 0.
    pub layers: Option<Range<usize>>,
    /// Parameters of each model, in the order of [`Recipe::models`].
    pub models: Vec<ModelSettings>,
    /// Parameters of the method.
    pub shared: SharedSettings,
}

/// What to trust about the tokenizers of the folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vocabulary {
    /// Compare every `tokenizer.json` with that of the template; no id may have two meanings.
    #[default]
    Compare,
    /// Do not look: rows of equal number are taken to mean the same token.
    Trust,
}

/// A merge, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// How.
    pub method: Method,
    /// Origin of the task vectors (and of the directions of [`Method::MultiSlerp`]). For every method it is also the
    /// template, whose `config.json`, tokenizer, tensor names and element type the result has; without a base
    /// that is the first model.
    pub base: Option<PathBuf>,
    /// Model folders.
    pub models: Vec<PathBuf>,
    /// Parameters: one slice for all layers, or ranges that follow one another.
    pub slices: Vec<Slice>,
    /// Element type of the written weights; that of the template if `None`.
    pub dtype: Option<WeightDtype>,
    /// Seed of the masks of DARE and DELLA.
    pub seed: u64,
    /// What to trust about the tokenizers.
    pub vocabulary: Vocabulary,
}

impl Recipe {
    /// A merge with weights 1 and the method's defaults.
    #[must_use]
    pub fn new(method: Method, base: Option<PathBuf>, models: Vec<PathBuf>) -> Self {
        let one = ModelSettings { weight: Setting::constant(1.0), ..Default::default() };
        let models_settings = vec![one; models.len()];
        let slice = Slice { layers: None, models: models_settings, shared: SharedSettings::default() };
        Self {
            method,
            base,
            models,
            slices: vec![slice],
            dtype: None,
            seed: 0,
            vocabulary: Vocabulary::default(),
        }
    }

    /// The folder that gives configuration, tokenizer, names and element type.
    #[must_use]
    pub fn template(&self) -> Option<&Path> {
        self.base.as_ref().or(self.models.first()).map(PathBuf::as_path)
    }
}
