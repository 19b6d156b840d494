//! Cases for `logp.cu`, and its kernels as functions.

use ama_cuda_emulator::Buffer;
use ama_loss::reference;

use super::naive::{naive_d_logits, naive_softmax, uniform, wide};
use super::{IGNORED, Kernels, Logit, launch, threads_for};

/// Rows of logits with their targets, and how they lie in memory.
#[derive(Clone)]
pub struct Case<T> {
    pub logits: Vec<T>,
    pub targets: Vec<u32>,
    pub upstream: Vec<f32>,
    pub vocab: usize,
    pub layout: Layout,
    pub threads: u32,
    /// Blocks launched beyond one per row, which have nothing to do.
    pub surplus_blocks: u32,
}

/// Elements from row to row beyond the vocabulary, and from an aligned address to the first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout {
    pub padding: usize,
    pub shift: usize,
}

/// What the forward pass writes.
pub struct Forward {
    pub logp: Vec<f32>,
    pub lse: Vec<f32>,
    pub entropy: Option<Vec<f32>>,
}

/// `f64` truth and naive `f32`, for the rows that have a target.
pub struct Expected {
    pub rows: Vec<usize>,
    pub logp: (Vec<f32>, Vec<f64>),
    pub entropy: (Vec<f32>, Vec<f64>),
    pub gradient: (Vec<f32>, Vec<f64>),
}

impl<T: Logit> Case<T> {
    /// Uniform logits in `[-scale, scale)`; every fifth row is ignored, every seventh has no upstream gradient.
    pub fn new(rows: usize, vocab: usize, scale: f32, layout: Layout) -> Self {
        Self {
            logits: uniform(vocab as u64, rows * vocab, scale).into_iter().map(T::narrow).collect(),
            targets: (0..rows)
                .map(|i| if i % 5 == 4 { IGNORED } else { ((i * 7919 + 3) % vocab) as u32 })
                .collect(),
            upstream: uniform(3, rows, 1.0)
                .into_iter()
                .enumerate()
                .map(|(i, g)| if i % 7 == 6 { 0.0 } else { g })
                .collect(),
            vocab,
            layout,
            threads: threads_for::<T>(vocab),
            surplus_blocks: 0,
        }
    }

    pub fn rows(&self) -> usize {
        self.targets.len()
    }

    fn blocks(&self) -> u32 {
        self.rows() as u32 + self.surplus_blocks
    }

    fn stride(&self) -> usize {
        self.vocab + self.layout.padding
    }

    fn device_logits(&self) -> Buffer<T> {
        Buffer::rows(&self.logits, self.vocab, self.stride(), self.layout.shift)
    }

    /// One launch of `ama_logp_forward_*` or `ama_logp_entropy_forward_*`.
    #[track_caller]
    pub fn forward(&self, module: &Kernels, entropy: bool, seed: u64) -> Forward {
        let rows = self.rows();
        let (logits, targets) = (self.device_logits(), Buffer::new(&self.targets));
        let (logp, lse) = (Buffer::<f32>::unwritten(rows), Buffer::<f32>::unwritten(2 * rows));
        let out = Buffer::<f32>::unwritten(rows);
        let mut arguments = vec![(&logits).into(), (&targets).into(), (&logp).into(), (&lse).into()];
        if entropy {
            arguments.push((&out).into());
        }
        let sizes = [rows as u32, self.vocab as u32];
        arguments.extend(sizes.map(Into::into));
        arguments.extend([(self.stride() as u64).into(), IGNORED.into()]);
        let name = if entropy { "ama_logp_entropy_forward" } else { "ama_logp_forward" };
        launch(module, &format!("{name}_{}", T::NAME), self.blocks(), self.threads, seed, &arguments);
        for (what, intact) in
            [("logp", logp.is_intact()), ("lse", lse.is_intact()), ("entropy", out.is_intact())]
        {
            assert!(intact, "memory around `{what}` was written");
        }
        assert!(logits.is_intact() && targets.is_intact(), "inputs were written");
        Forward { logp: logp.values(), lse: lse.values(), entropy: entropy.then(|| out.values()) }
    }

    /// `ama_logp_backward_*` to a gradient of type `D`, in memory of its own.
    #[track_caller]
    pub fn backward<D: Logit>(&self, module: &Kernels, lse: &[f32], to: Layout, seed: u64) -> Vec<D> {
        let logits = self.device_logits();
        let gradient =
            Buffer::rows(&vec![D::POISON; self.logits.len()], self.vocab, self.vocab + to.padding, to.shift);
        self.launch_backward(module, lse, &logits, &gradient, (self.vocab + to.padding) as u64, seed);
        assert!(logits.is_intact() && gradient.is_intact(), "memory around a row was written");
        gradient.values()
    }

    /// The same over the logits.
    #[track_caller]
    pub fn backward_in_place(&self, module: &Kernels, lse: &[f32], seed: u64) -> Vec<T> {
        let logits = self.device_logits();
        self.launch_backward(module, lse, &logits, &logits, self.stride() as u64, seed);
        assert!(logits.is_intact(), "memory around a row was written");
        logits.values()
    }

    #[track_caller]
    fn launch_backward<D: Logit>(
        &self,
        module: &Kernels,
        lse: &[f32],
        logits: &Buffer<T>,
        gradient: &Buffer<D>,
        d_stride: u64,
        seed: u64,
    ) {
        let (targets, lse, upstream) =
            (Buffer::new(&self.targets), Buffer::new(lse), Buffer::new(&self.upstream));
        let arguments = [
            logits.into(),
            (&targets).into(),
            (&lse).into(),
            (&upstream).into(),
            gradient.into(),
            (self.rows() as u32).into(),
            (self.vocab as u32).into(),
            (self.stride() as u64).into(),
            d_stride.into(),
            IGNORED.into(),
        ];
        let suffix = if T::NAME == D::NAME { T::NAME.to_owned() } else { format!("{}_{}", T::NAME, D::NAME) };
        launch(module, &format!("ama_logp_backward_{suffix}"), self.blocks(), self.threads, seed, &arguments);
        assert!(targets.is_intact() && lse.is_intact() && upstream.is_intact(), "inputs were written");
    }

    /// What `f64` and naive `f32` make of it.
    pub fn expected(&self) -> Expected {
        let rows: Vec<usize> = (0..self.rows()).filter(|i| self.targets[*i] != IGNORED).collect();
        let of = |i: &usize| self.logits[i * self.vocab..(i + 1) * self.vocab].iter().map(|x| x.widen());
        let logits: Vec<f32> = rows.iter().flat_map(of).collect();
        let targets: Vec<u32> = rows.iter().map(|i| self.targets[*i]).collect();
        let upstream: Vec<f32> = rows.iter().map(|i| self.upstream[*i]).collect();
        let (logits64, upstream64) = (wide(&logits), wide(&upstream));
        let (logp, softmax) = naive_softmax(&logits, &targets, self.vocab);
        let entropy = softmax
            .chunks(self.vocab)
            .map(|row| -row.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f32>())
            .collect();
        Expected {
            rows,
            logp: (logp, reference::log_softmax_gather(&logits64, &targets, self.vocab)),
            entropy: (entropy, reference::entropy(&logits64, self.vocab)),
            gradient: (
                naive_d_logits(&softmax, &targets, &upstream, self.vocab),
                reference::log_softmax_gather_backward(&logits64, &targets, &upstream64, self.vocab),
            ),
        }
    }
}

/// The chosen rows of a matrix.
pub fn pick<U: Copy>(values: &[U], rows: &[usize], width: usize) -> Vec<U> {
    rows.iter().flat_map(|i| values[i * width..(i + 1) * width].iter().copied()).collect()
}
