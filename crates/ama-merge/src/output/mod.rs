//! Writing a model folder: all of it appears at once, or nothing does.

mod staging;
mod weights;

pub(crate) use self::staging::Staging;
pub(crate) use self::weights::{Shape, WeightsWriter};
