//! Pictures: the inside of an `<svg>` each, from numbers. Every word and number is drawn as text, and what comes from data
//! is escaped by the backend.

mod canvas;
mod dots;
mod ink;
mod lines;
mod stack;

pub(crate) use canvas::SUB;
pub(crate) use dots::{DotFigure, DotRow};
pub(crate) use ink::SERIES;
pub(crate) use lines::{LineFigure, Series};
pub(crate) use stack::{StackFigure, StackRow};

/// A drawn picture.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// Inside of the `<svg>` element.
    pub(crate) inside: String,
    /// Units across.
    pub(crate) width: i32,
    /// Units down.
    pub(crate) height: i32,
}

/// Units across of every picture: about what a phone shows, so that text keeps its size there.
const WIDTH: i32 = 400;
