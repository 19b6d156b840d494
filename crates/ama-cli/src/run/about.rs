//! `run.json`: seeds, versions, host, and the constants of every method.

use serde_json::{Map, Value, json};

use crate::config::{Config, Length};

/// What is recorded about a run, apart from its settings. The constants that depend on the data (`c` and `eta` that
/// are tuned to the horizon) are in each generalist's own `run.json`.
pub(crate) fn run_json(config: &Config) -> Value {
    let methods: Map<String, Value> = config
        .methods
        .iter()
        .map(|method| {
            let mut about = json!({
                "kind": method.mixer.to_string(),
                "excess": format!("{:?}", method.excess).to_lowercase(),
            });
            if let (Length::Steps(steps), Value::Object(about)) = (config.generalist.length, &mut about) {
                let resolved = method.mixer.resolve(config.tasks.len(), steps);
                about.insert("mixer".into(), super::generalists::resolved_json(&resolved));
            }
            (method.name.clone(), about)
        })
        .collect();
    json!({
        "config": config.file,
        "seed": config.seed,
        "seeds": config.seeds,
        "versions": { "ama": env!("CARGO_PKG_VERSION") },
        "host": {
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "cpu": cpu(),
            "cpus": std::thread::available_parallelism().map_or(1, usize::from),
            "threads": rayon::current_num_threads(),
        },
        "methods": methods,
    })
}

/// The processor's name, where the system tells.
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}
