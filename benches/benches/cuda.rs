//! The kernels on an NVIDIA GPU. Prints why and ends where there is none, or where the feature `cuda` is off.
//!
//! The cases, and what of each has to be moved or computed, are in `src/device/cases.rs`; throughput is in those bytes, or
//! in multiply-adds. Times end with a synchronised stream.
#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]
#![allow(clippy::print_stdout, reason = "says why nothing was measured")]

#[cfg(feature = "cuda")]
fn all(criterion: &mut criterion::Criterion) -> Result<(), benches::device::Error> {
    use std::time::Duration;

    use benches::device::{self, Gpu, Sizes, Work};
    use criterion::{BenchmarkId, Throughput};

    let gpu = Gpu::open()?;
    println!("device: {}", gpu.name);
    device::each(&gpu, &Sizes::full(), &mut |case, enqueue| {
        enqueue()?;
        gpu.stream.synchronize()?;
        let mut group = criterion.benchmark_group(format!("{}/cuda/{}", case.name, case.dtype));
        group.sample_size(20).measurement_time(Duration::from_secs(3)).throughput(match case.work {
            Work::Bytes(n) => Throughput::Bytes(n),
            Work::Flops(n) => Throughput::Elements(n / 2),
        });
        group.bench_function(BenchmarkId::from_parameter(&case.shape), |b| {
            b.iter(|| {
                enqueue().expect("it has run once");
                gpu.stream.synchronize().expect("it has run once");
            });
        });
        group.finish();
        Ok(())
    })
}

fn main() {
    #[cfg(feature = "cuda")]
    {
        let mut criterion = criterion::Criterion::default().configure_from_args();
        match all(&mut criterion) {
            Ok(()) => criterion.final_summary(),
            Err(error) => println!("cuda: not measured: {error}"),
        }
    }
    #[cfg(not(feature = "cuda"))]
    println!("cuda: not measured: built without `--features cuda`");
}
