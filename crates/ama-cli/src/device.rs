//! Where the head runs: `--device`.

use std::str::FromStr;
use std::sync::OnceLock;

use anyhow::Result;

/// A device as `--device` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Device {
    /// `cpu`
    #[default]
    Cpu,
    /// `cuda:N`
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(number)
                .map(Self::Cuda)
                .ok_or_else(|| "want cpu, cuda or cuda:N with N from 0".into()),
        }
    }
}

static USED: OnceLock<Device> = OnceLock::new();

/// Gets the device ready, so that whatever is missing is said before any work is done.
pub(crate) fn start(device: Device) -> Result<()> {
    if let Device::Cuda(ordinal) = device {
        start_cuda(ordinal)?;
    }
    // A second call in one process changes nothing, as for the head itself.
    USED.get_or_init(|| device);
    Ok(())
}

/// Where the head runs in this process: results depend on it in the last bits.
pub(crate) fn used() -> Device {
    USED.get().copied().unwrap_or_default()
}

#[cfg(feature = "cuda")]
fn start_cuda(ordinal: usize) -> Result<()> {
    let name = ama_model::cuda::use_device(ordinal)?;
    tracing::info!("the head runs on CUDA device {ordinal}, {name}");
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn start_cuda(ordinal: usize) -> Result<()> {
    Err(crate::exit::bad_input(format!(
        "--device cuda:{ordinal}: this ama was built without CUDA; build it with `--features cuda`, or leave --device out"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        assert_eq!("cpu".parse(), Ok(Device::Cpu));
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(Device::Cuda(3)));
        for wrong in
            ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "CUDA:0", "cuda:99999999999999999999"]
        {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }
}
