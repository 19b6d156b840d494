//! Mixers for many-task alignment: AMA-R, AMA-S and the baselines, in plain arithmetic
