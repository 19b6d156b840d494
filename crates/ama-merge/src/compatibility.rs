//! Whether folders can be merged: names, shapes and types of their tensors.

use safetensors::Dtype;

use crate::dtype::WeightDtype;
use crate::error::MergeError;
use crate::folder::{EMBEDDINGS, Folder, HEAD, Tensor};

/// A tensor of the result.
#[derive(Debug)]
pub(crate) enum Planned<'a> {
    /// To be merged: the tensor of each folder, in the order of the folders.
    Merged { name: &'a str, shape: &'a [usize], inputs: Vec<&'a Tensor> },
    /// The same in every folder, and not of a type that can be merged.
    Copied { tensor: &'a Tensor },
}

/// The tensors of the result, in the order in which they lie in the template.
///
/// A template that ties its output head to the embeddings gets no head in the result, whether or not one is stored; a folder
/// that ties and is merged into one that does not lends its embeddings as the head.
pub(crate) fn plan<'a>(folders: &'a [Folder], template: usize) -> Result<Vec<Planned<'a>>, MergeError> {
    let reference = &folders[template];
    let drops_head = reference.ties_head() && reference.get(EMBEDDINGS).is_some();
    for folder in folders {
        check_names(folder, reference, drops_head)?;
    }
    let mut planned = Vec::with_capacity(reference.tensors.len());
    for wanted in &reference.tensors {
        if drops_head && wanted.name == HEAD {
            continue;
        }
        let inputs: Vec<&Tensor> =
            folders.iter().map(|folder| matching(folder, reference, wanted)).collect::<Result<_, _>>()?;
        let mergeable = |tensor: &Tensor| WeightDtype::from_safetensors(tensor.dtype).is_some();
        if inputs.iter().all(|tensor| mergeable(tensor)) {
            planned.push(Planned::Merged { name: &wanted.name, shape: &wanted.shape, inputs });
            continue;
        }
        for (folder, tensor) in folders.iter().zip(&inputs) {
            check_copy(folder, tensor, reference, wanted)?;
        }
        planned.push(Planned::Copied { tensor: wanted });
    }
    Ok(planned)
}

/// The folder's tensor in place of the template's.
fn matching<'a>(folder: &'a Folder, reference: &Folder, wanted: &Tensor) -> Result<&'a Tensor, MergeError> {
    let lent = || (wanted.name == HEAD && folder.ties_head()).then(|| folder.get(EMBEDDINGS)).flatten();
    // A tied model's stored head is not read by anybody; its embeddings are.
    let tensor = lent().or_else(|| folder.get(&wanted.name)).ok_or_else(|| MergeError::TensorMissing {
        dir: folder.dir.clone(),
        reference: reference.dir.clone(),
        tensor: wanted.name.clone(),
        shape: wanted.shape.clone(),
    })?;
    if tensor.shape != wanted.shape {
        let tokens = ["embed", "lm_head", "wte"].iter().any(|part| wanted.name.contains(part));
        return Err(MergeError::TensorShape {
            dir: folder.dir.clone(),
            reference: reference.dir.clone(),
            tensor: wanted.name.clone(),
            vocabulary: tokens && tensor.shape.get(1..) == wanted.shape.get(1..),
            got: tensor.shape.as_slice().into(),
            want: wanted.shape.as_slice().into(),
        });
    }
    Ok(tensor)
}

/// Refuses tensors that the template does not have.
fn check_names(folder: &Folder, reference: &Folder, drops_head: bool) -> Result<(), MergeError> {
    for tensor in &folder.tensors {
        let name = tensor.name.as_str();
        if name == HEAD && drops_head {
            let copy =
                folder.get(EMBEDDINGS).is_some_and(|embeddings| same(folder, tensor, folder, embeddings));
            if !folder.ties_head() && !copy {
                return Err(MergeError::Architecture {
                    dir: folder.dir.clone(),
                    reference: reference.dir.clone(),
                    key: "tie_word_embeddings",
                    got: "false".to_owned(),
                    want: "true".to_owned(),
                });
            }
        } else if reference.get(name).is_none() {
            return Err(MergeError::TensorUnknown {
                dir: folder.dir.clone(),
                reference: reference.dir.clone(),
                tensor: tensor.name.clone(),
                shape: tensor.shape.clone(),
            });
        }
    }
    Ok(())
}

fn same(a_folder: &Folder, a: &Tensor, b_folder: &Folder, b: &Tensor) -> bool {
    a.dtype == b.dtype && a.shape == b.shape && a_folder.bytes(a) == b_folder.bytes(b)
}

/// A tensor that is not merged has to be the same everywhere.
fn check_copy(
    folder: &Folder,
    tensor: &Tensor,
    reference: &Folder,
    wanted: &Tensor,
) -> Result<(), MergeError> {
    if same(folder, tensor, reference, wanted) {
        return Ok(());
    }
    let whole = |dtype| {
        matches!(
            dtype,
            Dtype::BOOL
                | Dtype::I8
                | Dtype::U8
                | Dtype::I16
                | Dtype::U16
                | Dtype::I32
                | Dtype::U32
                | Dtype::I64
                | Dtype::U64
        )
    };
    if whole(tensor.dtype) && whole(wanted.dtype) {
        return Err(MergeError::BufferDiffers {
            dir: folder.dir.clone(),
            reference: reference.dir.clone(),
            tensor: tensor.name.clone(),
            dtype: tensor.dtype.to_string(),
        });
    }
    // Of the two, the one that cannot be merged is to blame.
    let (dir, dtype) = match WeightDtype::from_safetensors(tensor.dtype) {
        None => (&folder.dir, tensor.dtype),
        Some(_) => (&reference.dir, wanted.dtype),
    };
    Err(MergeError::ElementType { dir: dir.clone(), tensor: wanted.name.clone(), got: dtype.to_string() })
}
