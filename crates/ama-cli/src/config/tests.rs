//! Every refusal names the file, the key and the remedy; every default is what the key table says.

use super::*;

/// A folder with everything that the good configuration names, and that configuration.
struct Fixture {
    folder: tempfile::TempDir,
}

const GOOD: &str = r#"
seed = 7
[model]
path = "model"
[specialist]
tokens = 1000
lr = 5e-4
[generalist]
tokens = 2000
seeds = [0, 1]
[[task]]
name = "helpful"
train = "train.parquet"
test = "test.parquet"
specialist = { steps = 9 }
[[task]]
name = "harmless"
train = "train.parquet"
test = "test.parquet"
[[method]]
name = "pooled"
[[method]]
name = "ama-s"
"#;

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("model")).unwrap();
        for name in ["train.parquet", "test.parquet"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        Self { folder }
    }

    fn load(&self, text: &str, sets: &[&str]) -> Result<Config, ConfigError> {
        let path = self.folder.path().join("own.toml");
        std::fs::write(&path, text).unwrap();
        load(&path, &sets.iter().map(|set| set.to_string()).collect::<Vec<_>>())
    }

    #[track_caller]
    fn refuses(&self, text: &str, wants: &[&str]) {
        let error = self.load(text, &[]).unwrap_err().to_string();
        for want in wants.iter().chain(&["own.toml"]) {
            assert!(error.contains(want), "want `{want}` in: {error}");
        }
    }
}

#[test]
fn defaults_overrides_and_task_settings() {
    let config = Fixture::new().load(GOOD, &["generalist.lr=1e-3", "task.harmless.limit=5"]).unwrap();
    assert_eq!(config.seed, 7);
    assert_eq!(config.generalist.lr, 1e-3);
    assert_eq!(config.generalist.length, Length::Tokens(2000));
    assert_eq!(
        config.tasks[0].specialist.length,
        Length::Steps(9),
        "the task's own length displaces the shared one"
    );
    assert_eq!(config.tasks[0].specialist.lr, 5e-4);
    assert_eq!(config.tasks[1].specialist.length, Length::Tokens(1000));
    assert_eq!(config.tasks[1].limit, Some(5));
    assert_eq!(config.baseline, "pooled");
    assert!(!config.methods[0].needs_specialists() && config.methods[1].needs_specialists());
    assert!(config.tasks[0].train.is_absolute());
}

#[test]
fn the_resolved_file_is_a_configuration_with_the_same_meaning() {
    let fixture = Fixture::new();
    let config = fixture.load(GOOD, &[]).unwrap();
    let again = fixture.load(&config.resolved, &[]).unwrap();
    assert_eq!(config.resolved, again.resolved);
    assert_eq!(format!("{:?}", config.tasks), format!("{:?}", again.tasks));
    assert_eq!(format!("{:?}", config.methods), format!("{:?}", again.methods));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    let fixture = Fixture::new();
    fixture.refuses(&GOOD.replace("lr = 5e-4", "lrr = 5e-4"), &["specialist.lrr", "did you mean `lr`"]);
    fixture.refuses(&GOOD.replace("seed = 7", "sede = 7"), &["`sede`", "did you mean `seed`"]);
    fixture.refuses(&GOOD.replace("steps = 9", "step = 9"), &["task.helpful.specialist.step", "`steps`"]);
    fixture.refuses(&GOOD.replace("[generalist]", "[generalists]"), &["`generalists`", "`generalist`"]);
}

#[test]
fn what_is_no_path_of_this_machine_is_named_as_it_was_written() {
    let fixture = Fixture::new();
    let named = |path: &str| GOOD.replace("path = \"model\"", &format!("path = \"{path}\""));
    fixture.refuses(&named("hf://org/name?x"), &["`model.path` names hf://org/name?x,", "download it first"]);
    fixture.refuses(&named("~/models/m"), &["`model.path` names ~/models/m,", "write the path out"]);
}

#[test]
fn missing_keys_and_wrong_types_are_refused() {
    let fixture = Fixture::new();
    fixture.refuses(&GOOD.replace("path = \"model\"", ""), &["missing key `model.path`", "Hugging Face"]);
    fixture.refuses(&GOOD.replace("[model]\npath = \"model\"", ""), &["missing key `model.path`", "[base]"]);
    fixture.refuses(&GOOD.replace("lr = 5e-4", "lr = \"fast\""), &["specialist.lr", "string"]);
    fixture.refuses(&GOOD.replace("test = \"test.parquet\"", ""), &["task.helpful.test", "eval.split"]);
    fixture.refuses("seed = ", &["not valid TOML"]);
    fixture.refuses("seed = 1\n[model]\npath = 'model'", &["missing key `task`", "[[task]]"]);
    fixture.refuses(&GOOD.replace("name = \"ama-s\"", ""), &["method.1.name"]);
}

#[test]
fn values_out_of_range_are_refused() {
    let fixture = Fixture::new();
    fixture.refuses(&GOOD.replace("lr = 5e-4", "lr = -1.0"), &["specialist.lr", "-1", "> 0"]);
    fixture.refuses(&GOOD.replace("lr = 5e-4", "lr = nan"), &["specialist.lr", "NaN"]);
    fixture.refuses(
        &GOOD.replace("tokens = 1000", "tokens = 1000\nsteps = 3"),
        &["specialist.steps", "only one"],
    );
    fixture.refuses(&GOOD.replace("seeds = [0, 1]", "seeds = []"), &["generalist.seeds"]);
    fixture.refuses(&GOOD.replace("\"ama-s\"", "\"ama-x\""), &["method.ama-x.kind", "ama-s"]);
    fixture.refuses(&GOOD.replace("\"harmless\"", "\"helpful\""), &["a name of its own"]);
    fixture.refuses(&GOOD.replace("\"harmless\"", "\"../up\""), &["letters, digits"]);
    fixture.refuses(
        &GOOD.replace("\"pooled\"", "\"pooled\"\neta = 0.1"),
        &["method.pooled.eta", "no such setting"],
    );
    fixture.refuses(&GOOD.replace("path = \"model\"", "path = \"nowhere\""), &["model.path", "nowhere"]);
}

const NOISY: &str = "name = \"ama-s\"\nspecialist_noise = 0.25\nspecialist_noise_seed = 9";

/// Every ablation is a key, and comes through to the settings and to the resolved file.
#[test]
fn ablations_are_configuration() {
    use ama_mix::{ExcessMode, ExcessScale, GradientClip, MixerSpec};
    let fixture = Fixture::new();
    let method = |lines: &str| {
        let text = GOOD.replace("name = \"ama-s\"", lines);
        let config = fixture.load(&text, &[]).unwrap();
        let again = fixture.load(&config.resolved, &[]).unwrap();
        assert_eq!(format!("{:?}", config.methods), format!("{:?}", again.methods), "{lines}");
        config.methods[1].clone()
    };
    assert_eq!(method("name = \"ama-s\"\nexcess = \"raw\"").excess, ExcessMode::Raw);
    assert_eq!(method("name = \"ama-s\"\nexcess = \"unclipped\"").excess, ExcessMode::Unclipped);
    let weights_only = method("name = \"ama-s\"\ngradient_clip = \"weights-only\"");
    assert_eq!(
        (weights_only.excess, weights_only.gradient_clip),
        (ExcessMode::Clipped, GradientClip::WeightsOnly)
    );
    let slow = method("name = \"ama-s\"\nlr = 1e-7");
    assert_eq!(slow.training(&fixture.load(GOOD, &[]).unwrap().generalist).lr, 1e-7);
    let noisy = method(NOISY);
    assert_eq!(noisy.noise, Some(SpecialistNoise { sd_nats: 0.25, seed: 9 }));
    let scale = ExcessScale::default();
    let ama_s = MixerSpec::AmaS { c: Some(0.3), eta: Some(0.1), scale };
    assert_eq!(method("name = \"ama-s\"\nc = 0.3\neta = 0.1").mixer, ama_s);
    assert_eq!(method("name = \"ama-s\"\nc = 0.3\neta = 0.1\nalpha = \"last\"").mixer, ama_s);
    let averaged = method("name = \"ama-s\"\nc = 0.3\neta = 0.1\nalpha = \"averaged\"");
    assert_eq!(averaged.mixer, MixerSpec::Averaged(Box::new(ama_s)));
    assert_eq!(averaged.excess, ExcessMode::Clipped, "it is still AMA");
}

#[test]
fn a_share_of_a_specialists_run_shrinks_all_of_it() {
    let text = GOOD.replace("steps = 9", "steps = 9, warmup_steps = 4");
    let fixture = Fixture::new();
    let config = fixture.load(&text, &["specialist.length_ratio=0.25"]).unwrap();
    // 9/4 and 4/4, rounded up; 1000 tokens / 4.
    assert_eq!(config.tasks[0].specialist.length, Length::Steps(3));
    assert_eq!(config.tasks[0].specialist.warmup, Warmup::Steps(1));
    assert_eq!(config.tasks[1].specialist.length, Length::Tokens(250));
    let again = fixture.load(&config.resolved, &[]).unwrap();
    assert_eq!(format!("{:?}", config.tasks), format!("{:?}", again.tasks), "it is not applied twice");
    let own = text.replace("steps = 9,", "steps = 9, length_ratio = 1.0,");
    let config = fixture.load(&own, &["specialist.length_ratio=0.5"]).unwrap();
    assert_eq!(config.tasks[0].specialist.length, Length::Steps(9));
    fixture
        .refuses(&text.replace("steps = 9,", "steps = 9, length_ratio = 0.0,"), &["length_ratio", "(0, 1]"]);
    fixture.refuses(&text.replace("lr = 5e-4", "length_ratio = 1.5"), &["specialist.length_ratio", "(0, 1]"]);
}

#[test]
fn the_mixers_of_other_papers_have_their_settings_and_signals() {
    use ama_mix::{ExcessMode, ExcessScale, MixerSpec};
    let fixture = Fixture::new();
    let nats = ExcessScale::Fixed(1.0);
    for (lines, mixer, excess) in [
        ("name = \"odm\"", MixerSpec::Odm { smoothing: None, scale: nats }, ExcessMode::Raw),
        ("name = \"doremi\"", MixerSpec::DoReMi { c: None, eta: None, scale: nats }, ExcessMode::Clipped),
        ("name = \"term\"\ntilt = -2.0", MixerSpec::Term { tilt: Some(-2.0) }, ExcessMode::Raw),
        (
            "name = \"famo\"\neta = 0.5\ngamma = 0.1",
            MixerSpec::Famo { eta: Some(0.5), gamma: Some(0.1) },
            ExcessMode::Raw,
        ),
        (
            "name = \"x\"\nkind = \"ama-s-ix\"",
            MixerSpec::AmaSIx { gamma: None, eta: None, scale: ExcessScale::default() },
            ExcessMode::Clipped,
        ),
    ] {
        let config = fixture.load(&GOOD.replace("name = \"ama-s\"", lines), &[]).unwrap();
        assert_eq!((&config.methods[1].mixer, config.methods[1].excess), (&mixer, excess), "{lines}");
    }
    for (lines, wants) in [
        ("name = \"odm\"\nsmoothing = 1.0", ["method.odm.smoothing", "[0, 1)"]),
        ("name = \"term\"\ntilt = nan", ["method.term.tilt", "finite"]),
        ("name = \"term\"\neta = 0.1", ["method.term.eta", "no such setting"]),
        ("name = \"famo\"\ngamma = 0.0", ["method.famo.gamma", "> 0"]),
        ("name = \"ama-s\"\nalpha = \"mean\"", ["method.ama-s.alpha", "last or averaged"]),
        ("name = \"odm\"\nspecialist_noise = 0.1", ["method.odm.specialist_noise", "excess = raw"]),
        ("name = \"ama-s\"\nspecialist_noise = -0.1", ["method.ama-s.specialist_noise", "> 0"]),
        ("name = \"ama-s\"\nspecialist_noise_seed = 3", ["missing key", "specialist_noise"]),
    ] {
        fixture.refuses(&GOOD.replace("name = \"ama-s\"", lines), &wants);
    }
}

/// The second phase of DoReMi: shares from the results of a finished run.
#[test]
fn proportions_come_from_a_finished_run() {
    use ama_mix::MixerSpec;
    let fixture = Fixture::new();
    let results = r#"{"methods": [{"name": "base"}, {"name": "doremi", "mixture": {
        "last": {"helpful": 0.75, "harmless": 0.25}, "averaged": {"helpful": 0.6, "harmless": 0.4}}}]}"#;
    std::fs::write(fixture.folder.path().join("results.json"), results).unwrap();
    let second = |more: &str| {
        let lines =
            format!("name = \"second\"\nkind = \"fixed\"\nproportions_from = \"results.json\"\n{more}");
        GOOD.replace("name = \"ama-s\"", &lines)
    };
    let config = fixture.load(&second(""), &[]).unwrap();
    assert_eq!(config.methods[1].mixer, MixerSpec::Fixed { weights: vec![0.6, 0.4] });
    let last = fixture.load(&second("alpha = \"last\""), &[]).unwrap();
    assert_eq!(last.methods[1].mixer, MixerSpec::Fixed { weights: vec![0.75, 0.25] });

    // The resolved file stands alone.
    std::fs::remove_file(fixture.folder.path().join("results.json")).unwrap();
    let again = fixture.load(&config.resolved, &[]).unwrap();
    assert_eq!(config.methods[1].mixer, again.methods[1].mixer);
    fixture.refuses(&second(""), &["method.second.proportions_from", "results.json"]);

    std::fs::write(fixture.folder.path().join("results.json"), results).unwrap();
    fixture.refuses(&second("proportions_method = \"ama-r\""), &["`ama-r`", "one of base, doremi"]);
    fixture.refuses(&second("proportions_method = \"base\""), &["no weight of task `helpful`"]);
    fixture.refuses(&second("proportions = { helpful = 1, harmless = 1 }"), &["only one of proportions"]);
    let alone = GOOD.replace("name = \"ama-s\"", "name = \"fixed\"\nproportions_method = \"doremi\"");
    fixture.refuses(&alone, &["missing key `method.fixed.proportions_from`"]);
    let other = GOOD.replace("name = \"ama-s\"", "name = \"ama-s\"\nproportions_from = \"results.json\"");
    fixture.refuses(&other, &["method.ama-s.proportions_from", "no such setting"]);
    std::fs::write(fixture.folder.path().join("results.json"), "{").unwrap();
    let error = fixture.load(&second(""), &[]).unwrap_err().to_string();
    assert!(error.contains("results.json: not valid JSON"), "{error}");
}

#[test]
fn every_key_is_in_the_table() {
    use raw::*;
    #[track_caller]
    fn check<T: DeserializeOwned>(section: &str) {
        let mut table = Table::new();
        table.insert("?".into(), Value::Boolean(true));
        let error = Value::Table(table).try_into::<T>().err().unwrap();
        let mut fields: Vec<_> = quoted(error.message()).split_off(1);
        let mut documented: Vec<_> =
            keys::KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect();
        fields.sort();
        documented.sort();
        assert_eq!(fields, documented, "[{section}]");
    }
    check::<RawModel>("model");
    check::<RawBase>("base");
    check::<RawLoss>("loss");
    check::<RawData>("data");
    check::<RawSpecialist>("specialist");
    check::<RawGeneralist>("generalist");
    check::<RawTask>("task");
    check::<RawMethod>("method");
    check::<RawEval>("eval");
}
