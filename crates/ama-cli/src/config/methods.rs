//! `[[method]]`: which settings a mixer has, their ranges, and proportions that come from a finished run.

use std::path::Path;
use std::str::FromStr as _;

use ama_mix::{ExcessMode, ExcessScale, GradientClip, MixerKind, MixerSpec};
use serde_json::Value;

use super::error::ConfigError;
use super::raw::RawMethod;
use super::settings::{MethodSettings, SpecialistNoise};
use super::validate::{Check, Result};

/// The method whose weights `proportions_from` takes by default.
const FIRST_PHASE: &str = "doremi";

impl Check<'_> {
    pub(super) fn excess(&self, key: &str, text: &str) -> Result<ExcessMode> {
        match text {
            "clipped" => Ok(ExcessMode::Clipped),
            "unclipped" => Ok(ExcessMode::Unclipped),
            "raw" => Ok(ExcessMode::Raw),
            other => Err(self.value(key, other, "clipped, unclipped or raw")),
        }
    }

    pub(super) fn gradient_clip(&self, key: &str, text: &str) -> Result<GradientClip> {
        match text {
            "pair" => Ok(GradientClip::Pair),
            "weights-only" => Ok(GradientClip::WeightsOnly),
            other => Err(self.value(key, other, "pair or weights-only")),
        }
    }

    fn kind(&self, raw: &RawMethod) -> Result<MixerKind> {
        let name = raw.kind.as_deref().unwrap_or(&raw.name);
        MixerKind::from_str(name).map_err(|_| {
            let all = MixerKind::ALL.map(MixerKind::name).join(", ");
            let key = format!("method.{}.kind", raw.name);
            self.value(&key, name, &format!("one of {all} (`kind` defaults to the method's name)"))
        })
    }

    /// Whether the weights are averaged; `None` if not said.
    fn averaged(&self, raw: &RawMethod) -> Result<Option<bool>> {
        match raw.alpha.as_deref() {
            None => Ok(None),
            Some("last") => Ok(Some(false)),
            Some("averaged") => Ok(Some(true)),
            Some(other) => Err(self.value(&format!("method.{}.alpha", raw.name), other, "last or averaged")),
        }
    }

    pub(super) fn method(
        &self,
        raw: &RawMethod,
        tasks: &[&str],
        excess: ExcessMode,
        gradient_clip: GradientClip,
    ) -> Result<MethodSettings> {
        let key = |name: &str| format!("method.{}.{name}", raw.name);
        let kind = self.kind(raw)?;
        self.only_its_settings(raw, kind)?;
        let mixer = self.mixer(raw, kind, tasks)?;
        // The baselines are defined on the plain loss; AMA and DoReMi compare with specialists unless told otherwise.
        let default_excess = if mixer.needs_specialists() { excess } else { ExcessMode::Raw };
        let excess = match raw.excess.as_deref() {
            None => default_excess,
            Some(text) => self.excess(&key("excess"), text)?,
        };
        let gradient_clip = match raw.gradient_clip.as_deref() {
            None => gradient_clip,
            Some(text) => self.gradient_clip(&key("gradient_clip"), text)?,
        };
        let noise = match (raw.specialist_noise, raw.specialist_noise_seed) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(self.missing(&key("specialist_noise"), "a seed alone makes no noise; give nats"));
            }
            (Some(_), _) if excess == ExcessMode::Raw => {
                let want = "nothing: with excess = raw no specialist is read";
                return Err(self.value(&key("specialist_noise"), "set", want));
            }
            (Some(nats), seed) => {
                let sd_nats = self.number(&key("specialist_noise"), nats, |x| x > 0.0, "a value > 0 nats")?;
                Some(SpecialistNoise { sd_nats, seed: seed.unwrap_or(0) })
            }
        };
        let lr = raw.lr.map(|lr| self.number(&key("lr"), lr, |x| x > 0.0, "a value > 0")).transpose()?;
        Ok(MethodSettings { name: raw.name.clone(), mixer, excess, gradient_clip, noise, lr })
    }

    /// Refuses settings that the mixer does not have.
    fn only_its_settings(&self, raw: &RawMethod, kind: MixerKind) -> Result<()> {
        use MixerKind::{AmaR, AmaS, AmaSIx, DoReMi, Famo, Fixed, GroupDro, Odm, Temperature, Term};
        let learns = [AmaR, AmaS, AmaSIx, GroupDro, DoReMi, Odm, Term, Famo];
        for (setting, given, owners) in [
            ("eta", raw.eta.is_some(), &[AmaR, AmaS, AmaSIx, GroupDro, DoReMi, Famo][..]),
            ("excess_scale", raw.excess_scale.is_some(), &[AmaR, AmaS, AmaSIx, GroupDro, DoReMi, Odm][..]),
            ("c", raw.c.is_some(), &[AmaS, DoReMi][..]),
            ("gamma", raw.gamma.is_some(), &[AmaSIx, Famo][..]),
            ("smoothing", raw.smoothing.is_some(), &[Odm][..]),
            ("tilt", raw.tilt.is_some(), &[Term][..]),
            ("tau", raw.tau.is_some(), &[Temperature][..]),
            ("proportions", !raw.proportions.is_empty(), &[Fixed][..]),
            ("alpha", raw.alpha.is_some(), &learns[..]),
        ] {
            if given && !owners.contains(&kind) {
                let key = format!("method.{}.{setting}", raw.name);
                let without = if kind == Fixed { " without `proportions_from`" } else { "" };
                let want = format!("nothing: {kind}{without} has no such setting");
                return Err(self.value(&key, "set", &want));
            }
        }
        Ok(())
    }

    fn mixer(&self, raw: &RawMethod, kind: MixerKind, tasks: &[&str]) -> Result<MixerSpec> {
        let key = |name: &str| format!("method.{}.{name}", raw.name);
        let ranged = |name: &str, value: Option<f64>, legal: fn(f64) -> bool, want: &str| {
            value.map(|value| self.number(&key(name), value, legal, want)).transpose()
        };
        let eta = ranged("eta", raw.eta, |x| x > 0.0, "a value > 0")?;
        let gamma = ranged("gamma", raw.gamma, |x| x > 0.0, "a value > 0")?;
        let c = ranged("c", raw.c, |x| x > 0.0 && x <= 1.0, "a value in (0, 1]")?;
        let fixed = ranged("excess_scale", raw.excess_scale, |x| x > 0.0, "a value > 0")?;
        let scale = fixed.map_or_else(ExcessScale::default, ExcessScale::Fixed);
        let nats = ExcessScale::Fixed(fixed.unwrap_or(1.0));
        let mixer = match kind {
            MixerKind::Pooled => MixerSpec::Pooled,
            MixerKind::TaskNormalised => MixerSpec::TaskNormalised,
            MixerKind::GroupDro => MixerSpec::GroupDro { eta, scale },
            MixerKind::AmaR => MixerSpec::AmaR { eta, scale },
            MixerKind::AmaS => MixerSpec::AmaS { c, eta, scale },
            MixerKind::AmaSIx => MixerSpec::AmaSIx { gamma, eta, scale },
            MixerKind::DoReMi => MixerSpec::DoReMi { c, eta, scale: nats },
            MixerKind::Odm => {
                let past = |x: f64| (0.0..1.0).contains(&x);
                let smoothing = ranged("smoothing", raw.smoothing, past, "a value in [0, 1)")?;
                MixerSpec::Odm { smoothing, scale: nats }
            }
            MixerKind::Term => {
                MixerSpec::Term { tilt: ranged("tilt", raw.tilt, |_| true, "a finite value")? }
            }
            MixerKind::Famo => MixerSpec::Famo { eta, gamma },
            MixerKind::Temperature => {
                let tau =
                    raw.tau.ok_or_else(|| self.missing(&key("tau"), "the temperature mixer needs it"))?;
                let unit = |x: f64| (0.0..=1.0).contains(&x);
                MixerSpec::Temperature { tau: self.number(&key("tau"), tau, unit, "a value in [0, 1]")? }
            }
            MixerKind::Fixed => MixerSpec::Fixed { weights: self.proportions(raw, tasks)? },
            other => return Err(self.value(&key("kind"), other, "a mixer that this version knows")),
        };
        Ok(match self.averaged(raw)? {
            Some(true) => MixerSpec::Averaged(Box::new(mixer)),
            _ => mixer,
        })
    }

    fn proportions(&self, raw: &RawMethod, tasks: &[&str]) -> Result<Vec<f64>> {
        let key = format!("method.{}.proportions", raw.name);
        if let Some(extra) = raw.proportions.keys().find(|name| !tasks.contains(&name.as_str())) {
            return Err(self.value(&format!("{key}.{extra}"), "given", "only names of tasks"));
        }
        let shares: Vec<f64> = tasks
            .iter()
            .map(|task| {
                let share = raw.proportions.get(*task).ok_or_else(|| {
                    self.missing(&format!("{key}.{task}"), "the fixed mixer needs a share per task")
                })?;
                self.number(&format!("{key}.{task}"), *share, |x| x >= 0.0, "a value >= 0")
            })
            .collect::<Result<_>>()?;
        if shares.iter().all(|&share| share == 0.0) {
            return Err(self.value(&key, "0 for every task", "at least one share > 0"));
        }
        Ok(shares)
    }

    /// Replaces `proportions_from` by the proportions that it names, so that the resolved configuration stands alone.
    pub(super) fn import_proportions(&self, raw: &mut RawMethod, tasks: &[&str]) -> Result<()> {
        let key = |name: &str| format!("method.{}.{name}", raw.name);
        let Some(text) = raw.proportions_from.clone() else {
            if raw.proportions_method.is_some() {
                let remedy = "name the results.json of a finished run, or remove `proportions_method`";
                return Err(self.missing(&key("proportions_from"), remedy));
            }
            return Ok(());
        };
        let kind = self.kind(raw)?;
        if kind != MixerKind::Fixed {
            let want = format!("nothing: {kind} has no such setting");
            return Err(self.value(&key("proportions_from"), "set", &want));
        }
        if !raw.proportions.is_empty() {
            let want = "only one of proportions and proportions_from";
            return Err(self.value(&key("proportions"), "not alone", want));
        }
        let path = self.path(&key("proportions_from"), &text, "name the results.json of a finished run")?;
        let method = raw.proportions_method.as_deref().unwrap_or(FIRST_PHASE);
        let which = if self.averaged(raw)?.unwrap_or(true) { "averaged" } else { "last" };
        let bad = |got: &str, want: &str| self.value(&key("proportions_from"), got, want);
        let results = read_json(&path)?;
        let methods = results["methods"].as_array();
        let methods = methods.ok_or_else(|| bad("a file without `methods`", "the results.json of a run"))?;
        let row = methods.iter().find(|row| row["name"] == method).ok_or_else(|| {
            let known: Vec<&str> = methods.iter().filter_map(|row| row["name"].as_str()).collect();
            let want = format!("one of {} as `proportions_method`", known.join(", "));
            bad(&format!("a run without the method `{method}`"), &want)
        })?;
        for task in tasks {
            let share = row["mixture"][which][task].as_f64().ok_or_else(|| {
                let got = format!("a run that has no weight of task `{task}` for `{method}`");
                bad(&got, "a run over the same tasks, made by this version or a later one")
            })?;
            raw.proportions.insert((*task).to_string(), share);
        }
        (raw.proportions_from, raw.proportions_method, raw.alpha) = (None, None, None);
        Ok(())
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    serde_json::from_str(&text)
        .map_err(|error| ConfigError::NotJson { path: path.to_path_buf(), message: error.to_string() })
}
