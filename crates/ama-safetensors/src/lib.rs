//! Hugging Face weight folders, read: which files hold which tensors, mapped into memory and checked before a tensor is
//! handed out, and what a path is when it is no model folder.
//!
//! # Example
//! ```
//! use ama_safetensors::{FolderError, NotAModel, check_model, open_weights};
//! use safetensors::tensor::{Dtype, TensorView};
//!
//! let lab = tempfile::tempdir().unwrap();
//! let bytes = [0u8; 16];
//! let tensors = [("w", TensorView::new(Dtype::F32, vec![2, 2], &bytes).unwrap())];
//! let file = safetensors::serialize(tensors, None).unwrap();
//! std::fs::write(lab.path().join("model.safetensors"), file).unwrap();
//!
//! check_model(lab.path())?;
//! let files = open_weights(lab.path())?;
//! let tensor = files[0].get("w").unwrap();
//! assert_eq!((tensor.shape.as_slice(), files[0].bytes(tensor).len()), (&[2, 2][..], 16));
//!
//! let error = check_model("some-org/some-model".as_ref()).unwrap_err();
//! assert!(matches!(error, FolderError::NotAModel { found: NotAModel::HubName { .. }, .. }));
//! # Ok::<(), FolderError>(())
//! ```
//!
//! In reading order: [`check_folder`] and [`check_model`], [`open_weights`], [`WeightsFile`], [`FolderError`].

#![deny(unsafe_op_in_unsafe_fn)]

mod check;
mod not_a_model;
mod other_weights;

mod index;
mod mapped;

mod lfs;

mod error;

pub use crate::check::{check_folder, check_model};
pub use crate::error::{FolderError, IndexProblem};
pub use crate::index::{INDEX, SINGLE, open_weights};
pub use crate::lfs::{is_lfs_pointer, refuse_lfs_pointer};
pub use crate::mapped::{Entry, WeightsFile};
pub use crate::not_a_model::NotAModel;
pub use crate::other_weights::OtherWeights;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
