//! Exit codes: 0 done, 1 failed, 2 bad usage or input, 130 stopped.

use std::io::ErrorKind;

use ama_data::DataError;
use ama_merge::MergeError;
use ama_model::ModelError;
use ama_report::ReportError;
use ama_safetensors::FolderError;
use ama_specialist_cache::CacheError;
use ama_suite::SuiteError;
use ama_train::TrainError;

use crate::config::ConfigError;

/// Something failed that the input is not to blame for.
pub(crate) const FAILED: u8 = 1;
/// Bad usage or bad input.
pub(crate) const BAD_INPUT: u8 = 2;
/// Stopped by the user, after what was done was kept.
pub(crate) const INTERRUPTED: u8 = 130;

/// Input that a command refuses; the text says what was wanted, what came, where, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InputError(pub(crate) String);

/// An [`InputError`] as `anyhow` wants it.
pub(crate) fn bad_input(message: impl Into<String>) -> anyhow::Error {
    InputError(message.into()).into()
}

/// Stopped between two stages, where nothing is half done.
#[derive(Debug, thiserror::Error)]
#[error("stopped; call it again to continue")]
pub(crate) struct Stopped;

/// An error in one line: its causes from the outside in, without what an outer one has said already.
///
/// Most messages end with their cause's, because a library's user may print the outermost alone; the whole chain would
/// say it twice.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text =
            text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        if said.contains(&text) {
            continue;
        }
        if !said.is_empty() {
            said += ": ";
        }
        said += &text;
    }
    said
}

/// The exit code of an error: the outermost link of the chain that has an opinion decides.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(FAILED)
}

/// Whether a call that was stopped has kept something to continue from.
pub(crate) fn kept(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|error| error.downcast_ref()).any(|error| match error {
        TrainError::Interrupted { checkpoint, .. } => checkpoint.is_some(),
        TrainError::ScoringInterrupted { done, kept, .. } => *done > 0 && kept.is_some(),
        _ => false,
    })
}

fn code_of(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if error.is::<ConfigError>() || error.is::<InputError>() {
        Some(BAD_INPUT)
    } else if error.is::<Stopped>() {
        Some(INTERRUPTED)
    } else if let Some(error) = error.downcast_ref::<TrainError>() {
        Some(of_train(error))
    } else if let Some(error) = error.downcast_ref::<DataError>() {
        Some(of_data(error))
    } else if let Some(error) = error.downcast_ref::<ModelError>() {
        Some(of_model(error))
    } else if let Some(error) = error.downcast_ref::<CacheError>() {
        Some(of_cache(error))
    } else if let Some(error) = error.downcast_ref::<MergeError>() {
        Some(of_merge(error))
    } else if let Some(error) = error.downcast_ref::<FolderError>() {
        Some(match error {
            FolderError::Io { source, .. } => of_io(source),
            _ => BAD_INPUT,
        })
    } else if let Some(error) = error.downcast_ref::<ReportError>() {
        Some(match error {
            ReportError::NoFolder { .. } | ReportError::NotARun { .. } | ReportError::NoRuns => BAD_INPUT,
            ReportError::Io { source, .. } => of_io(source),
            _ => FAILED,
        })
    } else if let Some(error) = error.downcast_ref::<SuiteError>() {
        Some(match error {
            SuiteError::UnknownName { .. } | SuiteError::Exists { .. } => BAD_INPUT,
            SuiteError::Io { source, .. } => of_io(source),
            _ => FAILED,
        })
    } else {
        error.downcast_ref::<std::io::Error>().map(of_io)
    }
}

/// A file that is not there, or not a file, is bad input; a full or failing disk is not.
fn of_io(error: &std::io::Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::PermissionDenied
        | ErrorKind::InvalidData
        | ErrorKind::InvalidInput
        | ErrorKind::UnexpectedEof => BAD_INPUT,
        _ => FAILED,
    }
}

fn of_train(error: &TrainError) -> u8 {
    match error {
        TrainError::Interrupted { .. } | TrainError::ScoringInterrupted { .. } => INTERRUPTED,
        TrainError::NonFinite { .. } | TrainError::Diverged { .. } | TrainError::Loss(_) => FAILED,
        TrainError::Io { source, .. } => of_io(source),
        TrainError::Data(error) => of_data(error),
        TrainError::Model(error) => of_model(error),
        TrainError::Cache(error) => of_cache(error),
        _ => BAD_INPUT,
    }
}

fn of_data(error: &DataError) -> u8 {
    match error {
        DataError::Io { source, .. } => of_io(source),
        _ => BAD_INPUT,
    }
}

fn of_model(error: &ModelError) -> u8 {
    match error {
        ModelError::Io { source, .. } | ModelError::Folder(FolderError::Io { source, .. }) => of_io(source),
        ModelError::Tensor { .. }
        | ModelError::Head { .. }
        | ModelError::Upstream { .. }
        | ModelError::SaveNonFinite { .. }
        | ModelError::SaveOverflow { .. } => FAILED,
        _ => BAD_INPUT,
    }
}

fn of_merge(error: &MergeError) -> u8 {
    match error {
        MergeError::Io { source, .. } | MergeError::Folder(FolderError::Io { source, .. }) => of_io(source),
        MergeError::Stopped => INTERRUPTED,
        MergeError::NonFinite { .. } | MergeError::Antipodal { .. } => FAILED,
        _ => BAD_INPUT,
    }
}

fn of_cache(error: &CacheError) -> u8 {
    match error {
        CacheError::Io { source, .. } => of_io(source),
        _ => BAD_INPUT,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_message_is_one_line_and_says_nothing_twice() {
        let source = || std::io::Error::from(ErrorKind::NotFound);
        let system = source().to_string();
        let inner = ModelError::Io { action: "read", path: "m/config.json".into(), source: source() };
        let error = anyhow::Error::from(inner).context("reference/helpful");
        assert_eq!(message(&error), format!("reference/helpful: cannot read m/config.json: {system}"));
        let error = Err::<(), _>(source()).context("cannot write out.json").unwrap_err();
        assert_eq!(message(&error), format!("cannot write out.json: {system}"));
        assert_eq!(message(&bad_input("first\n  | second\n\n  third\n")), "first; | second; third");
    }
}
