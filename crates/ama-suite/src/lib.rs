//! A verifiable three-task preference suite, generated from a seed
