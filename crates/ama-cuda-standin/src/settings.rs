//! What a run asks of the stand-in, read from environment variables.

use std::path::PathBuf;

use crate::errors::Code;
use crate::ptx::float::Approx;
use crate::ptx::{Accepts, Rules};

/// A call that is to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Name of the driver or cuBLASLt function.
    pub call: String,
    /// What it returns.
    pub code: Code,
    /// Which of its calls fails, from 1; every one if `None`.
    pub nth: Option<u64>,
}

/// All settings of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `STANDIN_LOG`: file for one line per call, `-` for standard error.
    pub log: Option<PathBuf>,
    /// `STANDIN_REPORT`: file for one JSON line when the last context is released.
    pub report: Option<PathBuf>,
    /// `STANDIN_FAIL`: `name:code[:n]`, several with commas.
    pub fail: Vec<Failure>,
    /// `STANDIN_MEM_BYTES`: memory of the device, in bytes.
    pub memory: u64,
    /// `STANDIN_FAIL_ALLOC`: number of the allocation that fails, from 1.
    pub fail_alloc: Option<u64>,
    /// `STANDIN_CC` and `STANDIN_DRIVER`: compute capability and driver version.
    pub accepts: Accepts,
    /// `STANDIN_DEVICES`: 0 or 1.
    pub devices: u32,
    /// `STANDIN_ASYNC_ALLOC`: whether the device has memory pools.
    pub memory_pools: bool,
    /// `STANDIN_DRY_RUN`: check launches, execute nothing.
    pub dry_run: bool,
    /// `STANDIN_REPLACE`: `from=>to`, in the text of every module before it is read. A seeded fault.
    pub replace: Option<(String, String)>,
    /// `STANDIN_SEED`, `STANDIN_ULP`, `STANDIN_MAX_INSTRUCTIONS`.
    pub rules: Rules,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log: None,
            report: None,
            fail: Vec::new(),
            memory: 8 << 30,
            fail_alloc: None,
            accepts: Accepts { device: 90, driver: 12090 },
            devices: 1,
            memory_pools: true,
            dry_run: false,
            replace: None,
            rules: Rules::default(),
        }
    }
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// The variable that is no legal setting, and what it wants.
    pub fn from_env() -> Result<Self, String> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads settings from `lookup`, which gives the value of a variable.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str, default: u64| match lookup(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name}={text}: want a whole number")),
        };
        let mut settings = Self {
            log: lookup("STANDIN_LOG").map(PathBuf::from),
            report: lookup("STANDIN_REPORT").map(PathBuf::from),
            ..Self::default()
        };
        settings.memory = number("STANDIN_MEM_BYTES", settings.memory)?;
        settings.fail_alloc = Some(number("STANDIN_FAIL_ALLOC", 0)?).filter(|&n| n > 0);
        settings.accepts.device = number("STANDIN_CC", 90)? as u32;
        settings.accepts.driver = number("STANDIN_DRIVER", 12090)? as u32;
        settings.devices = number("STANDIN_DEVICES", 1)?.min(1) as u32;
        settings.memory_pools = number("STANDIN_ASYNC_ALLOC", 1)? != 0;
        settings.dry_run = number("STANDIN_DRY_RUN", 0)? != 0;
        if let Some(text) = lookup("STANDIN_REPLACE") {
            let parts = text.split_once("=>").filter(|(from, _)| !from.is_empty());
            let (from, to) = parts.ok_or_else(|| format!("STANDIN_REPLACE={text}: want from=>to"))?;
            settings.replace = Some((from.to_owned(), to.to_owned()));
        }
        settings.rules.seed = number("STANDIN_SEED", 0)?;
        settings.rules.approx =
            Approx { ulp: number("STANDIN_ULP", 0)?.min(1 << 20) as u32, seed: settings.rules.seed };
        settings.rules.max_instructions =
            number("STANDIN_MAX_INSTRUCTIONS", settings.rules.max_instructions)?;
        for entry in lookup("STANDIN_FAIL").iter().flat_map(|text| text.split(',')).filter(|e| !e.is_empty())
        {
            let wrong = || format!("STANDIN_FAIL={entry}: want name:code or name:code:n");
            let parts: Vec<&str> = entry.split(':').collect();
            let (call, code, nth) = match *parts.as_slice() {
                [call, code] => (call, code, None),
                [call, code, nth] => (call, code, Some(nth.parse().map_err(|_| wrong())?)),
                _ => return Err(wrong()),
            };
            settings.fail.push(Failure {
                call: call.to_string(),
                code: code.parse().map_err(|_| wrong())?,
                nth,
            });
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::from_lookup(|name| pairs.iter().find(|p| p.0 == name).map(|p| p.1.to_string()))
    }

    #[test]
    fn settings_are_read_and_nonsense_is_refused() {
        let settings = read(&[
            ("STANDIN_FAIL", "cuMemAllocAsync:2,cuLaunchKernel:700:3"),
            ("STANDIN_MEM_BYTES", "1024"),
            ("STANDIN_ULP", "2"),
            ("STANDIN_SEED", "9"),
            ("STANDIN_REPLACE", "mul.f64=>add.f64"),
        ])
        .expect("legal");
        assert_eq!(settings.memory, 1024);
        assert_eq!(settings.replace, Some(("mul.f64".into(), "add.f64".into())));
        assert_eq!(settings.rules.approx, Approx { ulp: 2, seed: 9 });
        assert_eq!(settings.fail[0], Failure { call: "cuMemAllocAsync".into(), code: 2, nth: None });
        assert_eq!(settings.fail[1], Failure { call: "cuLaunchKernel".into(), code: 700, nth: Some(3) });
        assert_eq!(read(&[]), Ok(Settings::default()));
        assert!(read(&[("STANDIN_CC", "ninety")]).is_err());
        assert!(read(&[("STANDIN_FAIL", "cuInit")]).is_err());
        assert!(read(&[("STANDIN_REPLACE", "=>add.f64")]).is_err());
    }
}
