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
