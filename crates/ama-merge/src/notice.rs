//! What a merge did that its user may not expect.

use std::fmt;
use std::path::PathBuf;

/// Nothing that stops a merge, but worth a line on the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A key of `config.json` differs; the template's value was kept.
    ConfigDiffers {
        /// The folder whose value was not kept.
        dir: PathBuf,
        /// The key.
        key: String,
        /// Its value there.
        got: String,
        /// The template's value.
        kept: String,
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
            Self::ConfigDiffers { dir, key, got, kept } => {
                write!(f, "{}: config.json has {key} = {got}; kept {kept}", dir.display())
            }
            Self::TokensDiffer { dir, only_there, only_template } => write!(
                f,
                "{}: its tokenizer names {only_there} token(s) that the template's lacks, and lacks {only_template}; \
                 no id has two meanings, and the template's tokenizer was kept",
                dir.display()
            ),
            Self::KeyIgnored { key, reason } => write!(f, "{key} is ignored: {reason}"),
        }
    }
}
