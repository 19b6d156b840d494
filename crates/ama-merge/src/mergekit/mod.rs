//! Configurations of [mergekit](https://github.com/arcee-ai/mergekit) (Goddard et al. 2024, arXiv:2403.13257) for the methods that
//! this crate has, taken as they are.
//!
//! A configuration gives the same weights as mergekit does from f32 arithmetic, up to rounding: mergekit rounds its
//! inputs to `dtype` first and calculates in it, this crate calculates in f32 and rounds the result. Masks of DARE and
//! DELLA come from other random numbers.

mod yaml;

use std::path::{Path, PathBuf};

use self::yaml::{File, Parameters, Reference, Scalar, Value};
use crate::dtype::WeightDtype;
use crate::error::{MergeError, io};
use crate::notice::Notice;
use crate::recipe::{Method, ModelSettings, Parameter, Recipe, Rescale, SharedSettings, Slice};
use crate::setting::{Blend, Rule, Setting};

/// Parameters that mergekit knows for one of the methods.
const KNOWN: [&str; 10] = [
    "weight",
    "density",
    "epsilon",
    "normalize",
    "normalize_weights",
    "rescale",
    "lambda",
    "t",
    "int8_mask",
    "eps",
];

impl Recipe {
    /// Reads a mergekit configuration. Model paths are relative to the current folder, as in mergekit.
    ///
    /// Taken: `models` or `slices` (that keep every layer in its place), `merge_method`, `base_model`, `dtype`, `out_dtype`,
    /// `parameters` at every level with lists along the layers and filters, and a tokenizer source that changes nothing.
    /// Parameters that the method does not use are reported, as are those that change nothing here (`int8_mask`).
    ///
    /// # Errors
    /// [`MergeError::Yaml`] for what is no configuration or has a key that is not known, [`MergeError::Unsupported`] for
    /// what mergekit does and this crate does not, [`MergeError::Io`].
    pub fn from_mergekit(path: &Path) -> Result<(Self, Vec<Notice>), MergeError> {
        let text = std::fs::read_to_string(path).map_err(io("read", path))?;
        let file: File = serde_saphyr::from_str(&text).map_err(|error| MergeError::Yaml {
            path: path.to_path_buf(),
            // Without the excerpt of the file, which takes several lines.
            problem: error.without_snippet().to_string(),
        })?;
        let mut reader = Reader { path, method: method(path, &file.merge_method)?, notices: Vec::new() };
        let recipe = reader.recipe(&file)?;
        Ok((recipe, reader.notices))
    }
}

fn method(path: &Path, name: &str) -> Result<Method, MergeError> {
    Method::from_name(name).ok_or_else(|| MergeError::Unsupported {
        path: path.to_path_buf(),
        key: "merge_method".to_owned(),
        problem: format!("{name:?} is not one of {}", Method::ALL.map(Method::name).join(", ")),
    })
}

/// Models with their parameters, for one range of layers.
struct Part<'a> {
    layers: Option<(usize, usize)>,
    sources: Vec<(&'a Reference, Option<&'a Parameters>)>,
    parameters: Option<&'a Parameters>,
}

struct Reader<'a> {
    path: &'a Path,
    method: Method,
    notices: Vec<Notice>,
}

impl Reader<'_> {
    fn unsupported(&self, key: impl Into<String>, problem: impl Into<String>) -> MergeError {
        MergeError::Unsupported { path: self.path.to_path_buf(), key: key.into(), problem: problem.into() }
    }

    fn recipe(&mut self, file: &File) -> Result<Recipe, MergeError> {
        let parts = self.parts(file)?;
        let base = file.base_model.as_ref();
        let models = self.models(base, &parts, file.slices.is_some())?;
        let mut paths = Vec::with_capacity(models.len());
        for model in &models {
            paths.push(self.folder(model)?);
        }
        let base = base.map(|base| self.folder(base)).transpose()?;
        let mut slices = Vec::with_capacity(parts.len());
        for part in &parts {
            slices.push(self.slice(part, &models, file.parameters.as_ref())?);
        }
        let name = file.out_dtype.as_ref().map(|name| ("out_dtype", name));
        let dtype = match name.or(file.dtype.as_ref().map(|name| ("dtype", name))) {
            None => None,
            Some((key, name)) => {
                let known = WeightDtype::from_name(name.trim_start_matches("torch."));
                let problem = || format!("{name:?} is not one of float32, float16, bfloat16");
                Some(known.ok_or_else(|| self.unsupported(key, problem()))?)
            }
        };
        let recipe = Recipe { slices, dtype, ..Recipe::new(self.method, base, paths) };
        self.check_tokenizer(file, &recipe)?;
        Ok(recipe)
    }

    /// The ranges of layers, each with the same layers of every model.
    fn parts<'f>(&self, file: &'f File) -> Result<Vec<Part<'f>>, MergeError> {
        if file.modules.is_some() {
            return Err(self.unsupported(
                "modules",
                "models of several modules are not merged; want `models` or `slices`",
            ));
        }
        match (&file.models, &file.slices) {
            (Some(models), None) => Ok(vec![Part {
                layers: None,
                sources: models.iter().map(|model| (&model.model, model.parameters.as_ref())).collect(),
                parameters: None,
            }]),
            (None, Some(slices)) => slices.iter().map(|slice| self.part(file, slice)).collect(),
            _ => Err(self.unsupported("models", "want either `models` or `slices`")),
        }
    }

    fn part<'f>(&self, file: &File, slice: &'f yaml::Slice) -> Result<Part<'f>, MergeError> {
        if slice.residual_weight.is_some() {
            return Err(self.unsupported("residual_weight", "not supported; leave it out"));
        }
        if slice.base_model.is_some() && slice.base_model != file.base_model {
            return Err(self.unsupported(
                "slices.base_model",
                "want the same base for all layers; set `base_model` once",
            ));
        }
        let layers = slice.sources.first().map(|source| source.layer_range);
        if let Some(other) = slice.sources.iter().find(|source| Some(source.layer_range) != layers) {
            let problem = format!(
                "{:?} of {} is merged with {:?} of another model; merging keeps every layer in its place",
                other.layer_range,
                other.model.0,
                layers.unwrap_or_default()
            );
            return Err(self.unsupported("slices.sources.layer_range", problem));
        }
        let sources =
            slice.sources.iter().map(|source| (&source.model, source.parameters.as_ref())).collect();
        Ok(Part { layers, sources, parameters: slice.parameters.as_ref() })
    }

    /// The models in the order in which the method takes them.
    fn models<'f>(
        &self,
        base: Option<&'f Reference>,
        parts: &[Part<'f>],
        in_slices: bool,
    ) -> Result<Vec<&'f Reference>, MergeError> {
        let mut models: Vec<&Reference> = parts
            .first()
            .map_or_else(Vec::new, |part| part.sources.iter().map(|(model, _)| *model).collect());
        for part in parts {
            let same = part.sources.len() == models.len()
                && models.iter().all(|model| part.sources.iter().any(|(other, _)| other == model));
            if !same {
                return Err(
                    self.unsupported("slices.sources", "want the same models in every slice, each once")
                );
            }
        }
        let listed = base.is_some_and(|base| models.contains(&base));
        match (self.method, base) {
            // The base is an endpoint, the first one.
            (Method::Slerp, Some(base)) => {
                models.retain(|model| *model != base);
                models.insert(0, base);
                if models.len() != 2 {
                    let problem =
                        format!("slerp got {} models; want two, of which one is `base_model`", models.len());
                    return Err(self.unsupported("models", problem));
                }
            }
            (Method::Slerp, None) => {
                return Err(self.unsupported(
                    "base_model",
                    "slerp wants one of its two models as the base, where t = 0",
                ));
            }
            // The base is an input like the others.
            (Method::Linear, Some(base)) if !listed && !in_slices => models.push(base),
            (Method::Linear, _) => {}
            (_, Some(base)) => models.retain(|model| *model != base),
            (_, None) => {}
        }
        Ok(models)
    }

    /// A folder, by its name or path.
    fn folder(&self, reference: &Reference) -> Result<PathBuf, MergeError> {
        let path = PathBuf::from(&reference.0);
        if !path.is_dir()
            && let Some((model, _)) = reference.0.split_once('+')
        {
            let problem = format!(
                "an adapter is added to {model}; merge it into its model first, then name that folder"
            );
            return Err(self.unsupported("model", problem));
        }
        Ok(path)
    }

    fn slice(
        &mut self,
        part: &Part<'_>,
        models: &[&Reference],
        global: Option<&Parameters>,
    ) -> Result<Slice, MergeError> {
        self.check_keys("parameters", global)?;
        self.check_keys("slices.parameters", part.parameters)?;
        for (model, parameters) in &part.sources {
            self.check_keys(&format!("parameters of {}", model.0), *parameters)?;
        }
        let shared = [part.parameters, global];
        let mut settings = Vec::with_capacity(models.len());
        for model in models {
            // None for a base that the configuration does not list.
            let own =
                part.sources.iter().find(|(other, _)| other == model).and_then(|(_, parameters)| *parameters);
            let levels = [own, part.parameters, global];
            settings.push(ModelSettings {
                weight: self.setting("weight", &levels, Scalar::number)?,
                density: self.setting("density", &levels, Scalar::number)?,
                epsilon: self.setting("epsilon", &levels, Scalar::number)?,
            });
        }
        let normalize = if self.method == Method::MultiSlerp { "normalize_weights" } else { "normalize" };
        let rescale = |scalar: &Scalar| scalar.switch().map(|on| if on { Rescale::L1 } else { Rescale::Off });
        let default = match self.method.rescales() {
            Rescale::Off => Rescale::Off,
            _ => Rescale::L1,
        };
        let shared = SharedSettings {
            normalize: self.setting(normalize, &shared, Scalar::switch)?,
            rescale: self.setting("rescale", &shared, rescale)?.or(Setting::constant(default)),
            lambda: self.setting("lambda", &shared, Scalar::number)?,
            t: self.setting("t", &shared, Scalar::number)?,
        };
        if self.method == Method::Slerp && shared.t.is_unset() {
            return Err(self.unsupported("parameters.t", "slerp wants it: 0 is the base, 1 the other model"));
        }
        Ok(Slice { layers: part.layers.map(|(start, end)| start..end), models: settings, shared })
    }

    /// One parameter, from the levels in order of precedence.
    fn setting<T: Blend>(
        &self,
        key: &str,
        levels: &[Option<&Parameters>],
        read: impl Fn(&Scalar) -> Option<T>,
    ) -> Result<Setting<T>, MergeError> {
        let mut rules = Vec::new();
        if !self.uses(key) {
            return Ok(Setting::default());
        }
        for value in levels.iter().copied().flatten().filter_map(|parameters| parameters.get(key)) {
            let Value(conditions) = value;
            for condition in conditions {
                let values = condition.values.iter().map(|scalar| {
                    read(scalar)
                        .ok_or_else(|| self.unsupported(key, format!("{scalar} is not of the right type")))
                });
                rules.push(Rule {
                    filter: condition.filter.clone(),
                    values: values.collect::<Result<_, _>>()?,
                });
            }
        }
        Ok(Setting::from_rules(rules))
    }

    /// Whether the method looks at a parameter.
    fn uses(&self, key: &str) -> bool {
        let parameter = match key {
            // Of two models, `t` alone says where: mergekit's SLERP has no weights.
            "weight" if self.method == Method::Slerp => return false,
            "weight" => Parameter::Weight,
            "t" => Parameter::T,
            // MultiSlerp's has a name of its own.
            "normalize" if self.method == Method::MultiSlerp => return false,
            "normalize_weights" if self.method != Method::MultiSlerp => return false,
            "normalize" | "normalize_weights" => Parameter::Normalize,
            "lambda" => Parameter::Lambda,
            "density" => Parameter::Density,
            "rescale" => Parameter::Rescale,
            "epsilon" => Parameter::Epsilon,
            _ => return false,
        };
        self.method.uses(parameter)
    }

    /// Refuses parameters that nobody knows and reports those that change nothing.
    fn check_keys(&mut self, level: &str, parameters: Option<&Parameters>) -> Result<(), MergeError> {
        for key in parameters.into_iter().flat_map(Parameters::keys) {
            if !KNOWN.contains(&key.as_str()) {
                let problem = format!("unknown parameter; want one of {}", KNOWN.join(", "));
                return Err(self.unsupported(format!("{level}: {key}"), problem));
            }
            let per_model = ["weight", "density", "epsilon"].contains(&key.as_str());
            let reason = match key.as_str() {
                "int8_mask" => "masks are not stored",
                "eps" => "directions are calculated in f64",
                _ if !self.uses(key) => "the method does not use it",
                _ if level.starts_with("parameters of") && !per_model => {
                    "it belongs to the method, not to a model"
                }
                _ => continue,
            };
            let notice = Notice::KeyIgnored { key: format!("{level}: {key}"), reason };
            if !self.notices.contains(&notice) {
                self.notices.push(notice);
            }
        }
        Ok(())
    }

    /// Vocabularies are not rearranged: a tokenizer source is taken if it changes nothing.
    fn check_tokenizer(&self, file: &File, recipe: &Recipe) -> Result<(), MergeError> {
        if file.chat_template.is_some() {
            let problem =
                "the base's template is copied; leave the key out and edit chat_template.jinja of the result";
            return Err(self.unsupported("chat_template", problem));
        }
        let mut sources = vec![("tokenizer_source", file.tokenizer_source.as_ref())];
        if let Some(tokenizer) = &file.tokenizer {
            if tokenizer.tokens.is_some() || tokenizer.pad_to_multiple_of.is_some() {
                return Err(
                    self.unsupported("tokenizer", "tokens and padding are not changed; want `source` only")
                );
            }
            sources.push(("tokenizer.source", tokenizer.source.as_ref()));
        }
        for (key, source) in sources {
            let Some(source) = source else { continue };
            // The base's rows are kept in any case; whether other tokenizers agree is checked when merging.
            if source.0 == "base" && recipe.base.is_some() {
                continue;
            }
            let folders: Vec<&PathBuf> = recipe.base.iter().chain(&recipe.models).collect();
            let read = |folder: &PathBuf| std::fs::read(folder.join("tokenizer.json")).ok();
            let first = folders.first().and_then(|folder| read(folder));
            if first.is_none() || folders.iter().any(|folder| read(folder) != first) {
                let problem = format!(
                    "{:?} would rearrange embeddings, because the tokenizer.json files differ; bring the models to one \
                     tokenizer first (mergekit's tokensurgeon)",
                    source.0
                );
                return Err(self.unsupported(key, problem));
            }
        }
        Ok(())
    }
}
