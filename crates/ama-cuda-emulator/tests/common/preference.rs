//! Cases for `preference.cu`, and its kernel as a function.

use ama_cuda_emulator::{Argument, Buffer};
use ama_loss::{PairLogps, PreferenceKind, PreferenceLoss};

use super::naive::uniform;
use super::{Kernels, launch, races};

pub const KINDS: [PreferenceKind; 6] = [
    PreferenceKind::Sigmoid { label_smoothing: 0.0 },
    PreferenceKind::Sigmoid { label_smoothing: 0.1 },
    PreferenceKind::Ipo,
    PreferenceKind::Hinge,
    PreferenceKind::Robust { label_smoothing: 0.0 },
    PreferenceKind::Robust { label_smoothing: 0.2 },
];

/// What is made of the cached losses, numbered as in `preference.cu`.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    Raw = 0,
    Unclipped = 1,
    Clipped = 2,
}

/// Threads of a block; few for the race detector.
pub fn threads() -> u32 {
    if races() { 32 } else { 128 }
}

pub struct Batch {
    pub pairs: Vec<PairLogps>,
    pub cached: Vec<f64>,
    pub weight: Option<Vec<f64>>,
}

impl Batch {
    /// Ordinary pairs, and among them (from 7 pairs on) the margins and lengths that break careless formulas.
    pub fn new(n: usize, weighted: bool) -> Self {
        let x: Vec<f64> = uniform(5, 6 * n, 1.0).into_iter().map(f64::from).collect();
        let mut pairs: Vec<PairLogps> = x
            .chunks(6)
            .enumerate()
            .map(|(i, x)| PairLogps {
                chosen: -120.0 + 100.0 * x[0],
                rejected: -120.0 + 100.0 * x[1],
                ref_chosen: -120.0 + 100.0 * x[2],
                ref_rejected: -120.0 + 100.0 * x[3],
                chosen_tokens: 1 + (i as u32 * 37) % 400,
                rejected_tokens: 1 + (i as u32 * 53) % 300,
            })
            .collect();
        if n >= 7 {
            pairs[0].chosen = -40_000.0;
            pairs[1].rejected = -40_000.0;
            pairs[2].chosen_tokens = 0;
            pairs[3].rejected_tokens = 0;
            pairs[4] = PairLogps { rejected: pairs[4].chosen, ref_rejected: pairs[4].ref_chosen, ..pairs[4] };
            pairs[5].chosen = f64::NAN;
            pairs[6].rejected = f64::NEG_INFINITY;
        }
        let cached = (0..n).map(|i| if i % 2 == 0 { 0.2 } else { 2.5 }).collect();
        let weight = weighted
            .then(|| x.chunks(6).map(|x| if x[4] < -0.8 { 0.0 } else { x[4].abs() / n as f64 }).collect());
        Self { pairs, cached, weight }
    }

    /// The nine outputs of one launch: loss, margin, rewards, excess, gradients.
    pub fn launch(
        &self,
        module: &Kernels,
        loss: &PreferenceLoss,
        mode: Mode,
        clip: bool,
        seed: u64,
    ) -> Vec<Vec<f64>> {
        let n = self.pairs.len();
        let column =
            |field: fn(&PairLogps) -> f64| Buffer::new(&self.pairs.iter().map(field).collect::<Vec<_>>());
        let tokens =
            |field: fn(&PairLogps) -> u32| Buffer::new(&self.pairs.iter().map(field).collect::<Vec<_>>());
        let inputs = [
            column(|p| p.chosen),
            column(|p| p.rejected),
            column(|p| p.ref_chosen),
            column(|p| p.ref_rejected),
        ];
        let lengths = [tokens(|p| p.chosen_tokens), tokens(|p| p.rejected_tokens)];
        let cached = Buffer::new(&self.cached);
        let weight = self.weight.as_ref().map(|weight| Buffer::new(weight));
        let outputs: Vec<Buffer<f64>> = (0..7).map(|_| Buffer::unwritten(n)).collect();
        let (kind, smoothing): (u32, f64) = match loss.kind() {
            PreferenceKind::Sigmoid { label_smoothing } => (0, label_smoothing),
            PreferenceKind::Ipo => (1, 0.0),
            PreferenceKind::Hinge => (2, 0.0),
            PreferenceKind::Robust { label_smoothing } => (3, label_smoothing),
            other => panic!("{other:?} has no kernel"),
        };
        let mut arguments: Vec<Argument<'_>> = inputs.iter().map(Into::into).collect();
        arguments.extend(lengths.iter().map(Argument::from));
        arguments.push(if mode == Mode::Raw { Argument::null() } else { (&cached).into() });
        arguments.push(weight.as_ref().map_or_else(Argument::null, Into::into));
        arguments.extend(outputs.iter().map(Argument::from));
        arguments.extend([(n as u32).into(), kind.into(), loss.beta().into(), smoothing.into()]);
        arguments.extend([loss.sft_weight().into(), (mode as u32).into(), u32::from(clip).into()]);
        launch(module, "ama_preference_f64", (n as u32).div_ceil(threads()), threads(), seed, &arguments);
        assert!(inputs.iter().chain([&cached]).chain(&outputs).all(Buffer::is_intact));
        assert!(lengths.iter().all(Buffer::is_intact));
        outputs.iter().map(Buffer::values).collect()
    }

    /// What the processor makes of it.
    pub fn expected(&self, loss: &PreferenceLoss, mode: Mode, clip: bool) -> Vec<Vec<f64>> {
        let mut out = vec![Vec::new(); 7];
        for (i, pair) in self.pairs.iter().enumerate() {
            let l = loss.evaluate(pair);
            let over = if mode == Mode::Raw { l.loss_nats } else { l.loss_nats - self.cached[i] };
            let clipped = mode == Mode::Clipped && over <= 0.0;
            let excess = if clipped { 0.0 } else { over };
            let weight = self.weight.as_ref().map_or(1.0, |weight| weight[i]);
            let factor = if clipped && clip { 0.0 } else { weight };
            let scaled = |d: f64| if factor == 0.0 { 0.0 } else { factor * d };
            let row = [
                l.loss_nats,
                l.margin,
                l.chosen_reward,
                l.rejected_reward,
                excess,
                scaled(l.d_chosen),
                scaled(l.d_rejected),
            ];
            out.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        out
    }
}
