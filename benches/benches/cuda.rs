//! The kernels on an NVIDIA GPU. Prints why and ends where there is none, or where the feature `cuda` is off.
//!
//! Throughput of the row kernels is in bytes of logits that have to move (read forward, read and written backward): the
//! limit is the device's memory bandwidth. That of the fused head is in multiply-adds of the products that the mathematics
//! needs (1 forward, 3 with backward; it spends one more to recompute logits). Times end with a synchronised stream.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]
#![allow(clippy::print_stdout, reason = "says why nothing was measured")]

#[cfg(feature = "cuda")]
mod common;

#[cfg(feature = "cuda")]
mod on_device {
    use std::sync::Arc;
    use std::time::Duration;

    use ama_loss::cuda::{
        self, CublasLt, Excess, GradientOf, IGNORED, KernelCache, Kernels, LinearLogp, Logit, LogpOut,
        PairArrays, Segments,
    };
    use ama_loss::{HeadShape, LogitsShape, LossError, PreferenceKind, PreferenceLoss};
    use criterion::{BenchmarkId, Criterion, Throughput};
    use cudarc::driver::{CudaSlice, CudaStream, DeviceRepr, DriverError, ValidAsZeroBits};
    use half::bf16;

    use super::common::uniform;

    /// Rows of the kernels that take logits.
    const ROWS: usize = 4096;

    type Error = Box<dyn std::error::Error>;

    struct Bench {
        stream: Arc<CudaStream>,
        kernels: Kernels,
        gemm: CublasLt,
    }

    pub(crate) fn all(c: &mut Criterion) -> Result<(), Error> {
        let context = cuda::open(0)?;
        println!("device: {}", context.name()?);
        let stream = context.new_stream()?;
        let kernels = Kernels::load(&context, &KernelCache::user())?;
        let gemm = CublasLt::new(&stream, kernels.ledger())?;
        let bench = Bench { stream, kernels, gemm };
        for vocab in [32 << 10, 128 << 10, 256 << 10] {
            bench.rows::<f32>(c, "f32", vocab, |x| x)?;
            bench.rows::<bf16>(c, "bf16", vocab, bf16::from_f32)?;
        }
        bench.head(c)?;
        bench.sums_and_losses(c)
    }

    impl Bench {
        fn up<T: DeviceRepr>(&self, host: &[T]) -> Result<CudaSlice<T>, DriverError> {
            self.stream.clone_htod(host)
        }

        /// Runs `enqueue` and waits.
        fn time(
            &self,
            c: &mut Criterion,
            group: &str,
            id: BenchmarkId,
            throughput: Throughput,
            mut enqueue: impl FnMut() -> Result<(), LossError>,
        ) -> Result<(), Error> {
            enqueue()?;
            self.stream.synchronize()?;
            let mut group = c.benchmark_group(group);
            group.sample_size(20).measurement_time(Duration::from_secs(3)).throughput(throughput);
            group.bench_function(id, |b| {
                b.iter(|| {
                    enqueue().expect("it has run once");
                    self.stream.synchronize().expect("it has run once");
                });
            });
            group.finish();
            Ok(())
        }

        fn rows<T: Logit + GradientOf<T> + Copy>(
            &self,
            c: &mut Criterion,
            dtype: &str,
            vocab: usize,
            of: fn(f32) -> T,
        ) -> Result<(), Error> {
            let shape = LogitsShape::contiguous(ROWS, vocab);
            let row: Vec<T> = uniform(1, vocab, 8.0).into_iter().map(of).collect();
            let mut logits = self.up(&row.repeat(ROWS))?;
            let targets = self.up(&(0..ROWS).map(|i| (i * 7919 % vocab) as u32).collect::<Vec<_>>())?;
            let upstream = self.up(&uniform(2, ROWS, 1.0))?;
            let mut logp = self.stream.alloc_zeros::<f32>(ROWS)?;
            let mut entropy = self.stream.alloc_zeros::<f32>(ROWS)?;
            let mut lse = self.stream.alloc_zeros::<f32>(2 * ROWS)?;
            let bytes = (ROWS * vocab * size_of::<T>()) as u64;
            let size = format!("{ROWS}x{vocab}");
            for (name, with_entropy) in [("plain", false), ("entropy", true)] {
                let group = format!("logits_logp_forward/cuda/{dtype}");
                self.time(c, &group, BenchmarkId::new(name, &size), Throughput::Bytes(bytes), || {
                    let mut out = LogpOut {
                        logp: logp.as_view_mut(),
                        lse: lse.as_view_mut(),
                        entropy: with_entropy.then(|| entropy.as_view_mut()),
                    };
                    let (x, t) = (logits.as_view(), targets.as_view());
                    self.kernels.logp_forward(&self.stream, &x, &t, shape, IGNORED, &mut out)
                })?;
            }
            let group = format!("logits_logp_backward_in_place/cuda/{dtype}");
            self.time(c, &group, BenchmarkId::new("plain", &size), Throughput::Bytes(2 * bytes), || {
                let (t, l, u) = (targets.as_view(), lse.as_view(), upstream.as_view());
                let x = &mut logits.as_view_mut();
                self.kernels.logp_backward_in_place(&self.stream, x, &t, &l, &u, shape, IGNORED)
            })
        }

        /// The fused head in `bf16` in chunks, and with all logits at once.
        fn head(&self, c: &mut Criterion) -> Result<(), Error> {
            for (rows, hidden, vocab) in [(4096, 2048, 32 << 10), (4096, 4096, 128 << 10)] {
                let shape = HeadShape { rows, hidden, vocab };
                let numbers =
                    |seed, n| uniform(seed, n, 0.1).into_iter().map(bf16::from_f32).collect::<Vec<_>>();
                let (h, w) = (self.up(&numbers(1, rows * hidden))?, self.up(&numbers(2, vocab * hidden))?);
                let targets = self.up(&(0..rows).map(|i| (i * 7919 % vocab) as u32).collect::<Vec<_>>())?;
                let upstream = self.up(&uniform(3, rows, 1.0))?;
                let mut d_h = self.zeros::<f32>(rows * hidden)?;
                let mut d_w = self.zeros::<f32>(vocab * hidden)?;
                let size = format!("{rows}x{hidden}x{vocab}");
                let products = |n: u64| Throughput::Elements(n * (rows * hidden * vocab) as u64);
                for (name, budget_bytes) in [("chunks", 256 << 20), ("all_logits", usize::MAX)] {
                    let head = LinearLogp {
                        hidden: h.as_view(),
                        weight: w.as_view(),
                        targets: targets.as_view(),
                        shape,
                        ignored: IGNORED,
                        budget_bytes,
                    };
                    let id = BenchmarkId::new(name, &size);
                    self.time(c, "logp_head_forward/cuda/bf16", id, products(1), || {
                        head.forward(&self.kernels, &self.gemm).map(|_| ())
                    })?;
                    let id = BenchmarkId::new(name, &size);
                    self.time(c, "logp_head_forward_backward/cuda/bf16", id, products(3), || {
                        let forward = head.forward(&self.kernels, &self.gemm)?;
                        let (lse, up) = (forward.lse.as_view(), upstream.as_view());
                        let (d_h, d_w) = (&mut d_h.as_view_mut(), &mut d_w.as_view_mut());
                        head.backward(&self.kernels, &self.gemm, &lse, &up, d_h, Some(d_w))
                    })?;
                }
            }
            Ok(())
        }

        fn zeros<T: DeviceRepr + ValidAsZeroBits>(&self, len: usize) -> Result<CudaSlice<T>, DriverError> {
            self.stream.alloc_zeros(len)
        }

        fn sums_and_losses(&self, c: &mut Criterion) -> Result<(), Error> {
            let (sequences, length) = (256, 1024);
            let rows = sequences * length;
            let offsets: Vec<u32> = (0..=sequences).map(|s| (s * length) as u32).collect();
            let segments = Segments::new(&self.kernels, &self.stream, &offsets, rows)?;
            let values = self.up(&uniform(1, rows, 5.0))?;
            let mut sums = self.zeros::<f64>(sequences)?;
            let id = BenchmarkId::new("two_stages", format!("{sequences}x{length}"));
            self.time(c, "segment_sum/cuda/f32", id, Throughput::Bytes(4 * rows as u64), || {
                let sums = &mut sums.as_view_mut();
                self.kernels.segment_sum(&self.stream, &values.as_view(), &segments, sums)
            })?;
            let loss = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.1 }, 0.1, 0.5)?;
            for pairs in [64, 4096] {
                let array = |seed| -> Result<CudaSlice<f64>, DriverError> {
                    self.up(&uniform(seed, pairs, 40.0).into_iter().map(f64::from).collect::<Vec<_>>())
                };
                let (c1, r1, c2, r2, cached) = (array(1)?, array(2)?, array(3)?, array(4)?, array(5)?);
                let tokens = self.up(&vec![100u32; pairs])?;
                let arrays = PairArrays {
                    chosen: c1.as_view(),
                    rejected: r1.as_view(),
                    ref_chosen: c2.as_view(),
                    ref_rejected: r2.as_view(),
                    chosen_tokens: tokens.as_view(),
                    rejected_tokens: tokens.as_view(),
                    weight: None,
                };
                let excess = Excess::Clipped { cached: cached.as_view(), clip_gradient: true };
                let id = BenchmarkId::new("dpo", pairs);
                self.time(c, "preference/cuda/f64", id, Throughput::Elements(pairs as u64), || {
                    self.kernels.preference(&self.stream, &loss, &arrays, &excess).map(|_| ())
                })?;
            }
            Ok(())
        }
    }
}

fn main() {
    #[cfg(feature = "cuda")]
    {
        let mut criterion = criterion::Criterion::default().configure_from_args();
        match on_device::all(&mut criterion) {
            Ok(()) => criterion.final_summary(),
            Err(error) => println!("cuda: not measured: {error}"),
        }
    }
    #[cfg(not(feature = "cuda"))]
    println!("cuda: not measured: built without `--features cuda`");
}
