//! What a merge did that its user may not expect.

use std::fmt;
use std::path::PathBuf;

/// Nothing that stops a merge, but worth a line on the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A key of a configuration file differs; the template's value was kept.
    ConfigDiffers {
        /// The folder whose value was not kept.
        dir: PathBuf,
        /// The file: `config.json`, `generation_config.json`, ...
        file: &'static str,
        /// The key, dotted when nested.
        key: String,
        /// Its value there, if it has one.
        got: Option<String>,
        /// The template's value, if it has one.
        kept: Option<String>,
    },
    /// A file that is compared as a whole differs; the template's was kept.
    FileDiffers {
        /// The folder whose file was not kept.
        dir: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// A file that the template has and another folder lacks; the template's was kept.
    FileMissing {
        /// The folder that lacks it.
        dir: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// A file that the template lacks and another folder has; the result lacks it, too.
    FileLeftOut {
        /// The folder that has it.
        dir: PathBuf,
        /// The template.
        template: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// Tokens that only one of the tokenizers names; the template's tokenizer was kept.
    TokensDiffer {
        /// The folder that was compared.
        dir: PathBuf,
        /// Tokens that only the folder names.
        only_there: usize,
        /// Tokens that only the template names.
        only_template: usize,
    },
    /// Tokenizers with the same tokens that cut texts in different ways; the template's was kept.
    TokenizerDiffers {
        /// The folder that was compared.
        dir: PathBuf,
        /// Keys of `tokenizer.json` that differ, dotted when nested.
        keys: Vec<String>,
    },
    /// A key of a mergekit configuration that changes nothing here.
    KeyIgnored {
        /// The key.
        key: String,
        /// Why.
        reason: &'static str,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigDiffers { dir, file, key, got, kept } => {
                let dir = dir.display();
                match (got, kept) {
                    (Some(got), Some(kept)) => write!(f, "{dir}: {file} has {key} = {got}; kept {kept}"),
                    (Some(got), None) => {
                        write!(
                            f,
                            "{dir}: {file} has {key} = {got}; the template has none, and so has the result"
                        )
                    }
                    (None, kept) => {
                        write!(f, "{dir}: {file} has no {key}; kept {}", kept.as_deref().unwrap_or("none"))
                    }
                }
            }
            Self::FileDiffers { dir, file } => {
                write!(f, "{}: {file} differs from the template's, which was kept", dir.display())
            }
            Self::FileMissing { dir, file } => {
                write!(f, "{}: there is no {file} to compare; the template's was kept", dir.display())
            }
            Self::FileLeftOut { dir, template, file } => write!(
                f,
                "{}: {file} is not in the result, because the template {} has none",
                dir.display(),
                template.display()
            ),
            Self::TokensDiffer { dir, only_there, only_template } => write!(
                f,
                "{}: its tokenizer names {only_there} token(s) that the template's lacks, and lacks {only_template}; \
                 no id has two meanings, and the template's tokenizer was kept",
                dir.display()
            ),
            Self::TokenizerDiffers { dir, keys } => write!(
                f,
                "{}: tokenizer.json differs from the template's in {}, so that some texts become other tokens; the \
                 template's was kept",
                dir.display(),
                keys.join(", ")
            ),
            Self::KeyIgnored { key, reason } => write!(f, "{key} is ignored: {reason}"),
        }
    }
}
