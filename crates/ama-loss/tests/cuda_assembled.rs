//! The kernels by NVRTC to PTX and by `ptxas` to machine code, for every architecture from A100 to B200: nothing spills, and
//! registers and shared memory are those of the committed table, `src/cuda/registers.md`.
//!
//! Needs NVRTC on the library path and `AMA_PTXAS`, no device: `cargo xtask cuda-check --rung 4`. With `AMA_UPDATE` set it
//! writes the table instead of comparing; with `AMA_CUDA_PTX` it leaves the PTX for compute_80 in that folder.
#![cfg(feature = "cuda-tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ama_loss::cuda;

/// Capability that the PTX asks for, and the devices it is assembled for.
const TARGETS: [((i32, i32), &[u32]); 2] = [((8, 0), &[80, 86, 89, 90, 100]), ((9, 0), &[90, 100])];

/// What a device has for its blocks (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
struct Device {
    sm: u32,
    warps: u32,
    blocks: u32,
    shared_bytes: u32,
}

const DEVICES: [Device; 5] = [
    Device { sm: 80, warps: 64, blocks: 32, shared_bytes: 164 << 10 },
    Device { sm: 86, warps: 48, blocks: 16, shared_bytes: 100 << 10 },
    Device { sm: 89, warps: 48, blocks: 24, shared_bytes: 100 << 10 },
    Device { sm: 90, warps: 64, blocks: 32, shared_bytes: 228 << 10 },
    Device { sm: 100, warps: 64, blocks: 32, shared_bytes: 228 << 10 },
];

/// What `ptxas -v` says of a kernel.
#[derive(Debug, Default, Clone, PartialEq)]
struct Usage {
    registers: u32,
    shared_bytes: u32,
    stack_bytes: u32,
    spilled_bytes: u32,
}

/// Capability that the PTX asks for, and device.
type Target = ((i32, i32), u32);

/// One kernel for one device.
struct Row {
    kernel: String,
    target: Target,
    threads: u32,
    usage: Usage,
}

impl Device {
    /// Warps that are resident at once, of those that could be, for blocks of `threads`.
    fn occupancy(&self, threads: u32, usage: &Usage) -> f64 {
        let warps = threads.div_ceil(32);
        // Registers come in units of 256 a warp out of 65,536; a block's shared memory in units of 128 bytes, and 1 KiB.
        let by_registers = 65_536 / (usage.registers * 32).next_multiple_of(256) / warps;
        let by_shared = self.shared_bytes / (usage.shared_bytes.next_multiple_of(128) + 1024);
        let blocks = (self.warps / warps).min(self.blocks).min(by_registers).min(by_shared);
        f64::from(blocks * warps) / f64::from(self.warps)
    }
}

/// The number in front of `unit`.
fn number(line: &str, unit: &str) -> Option<u32> {
    let words: Vec<&str> = line[..line.find(unit)?].split_whitespace().collect();
    words.last()?.parse().ok()
}

/// Usage by kernel, from what `ptxas -v` prints.
fn usages(log: &str) -> BTreeMap<String, Usage> {
    let (mut all, mut kernel) = (BTreeMap::<String, Usage>::new(), String::new());
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            kernel = rest.split('\'').next().unwrap_or_default().to_owned();
            all.insert(kernel.clone(), Usage::default());
        }
        let Some(usage) = all.get_mut(&kernel) else { continue };
        if let Some(bytes) = number(line, " bytes stack frame") {
            usage.stack_bytes = bytes;
            usage.spilled_bytes = number(line, " bytes spill stores").unwrap_or(u32::MAX)
                + number(line, " bytes spill loads").unwrap_or(u32::MAX);
        }
        if let Some(registers) = number(line, " registers") {
            usage.registers = registers;
            usage.shared_bytes = number(line, " bytes smem").unwrap_or(0);
        }
    }
    all
}

/// Most threads of a kernel's blocks, from the PTX.
fn most_threads(ptx: &str, kernel: &str) -> u32 {
    let body = ptx.split_once(&format!(".entry {kernel}(")).expect("an assembled kernel is in the PTX").1;
    let (_, bound) = body.split_once(".maxntid ").expect("every kernel has launch bounds");
    bound.split([',', '\n']).next().and_then(|n| n.trim().parse().ok()).expect("launch bounds are numbers")
}

fn assemble(ptxas: &Path, name: &str, ptx: &str, sm: u32) -> BTreeMap<String, Usage> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("{name}-{}-sm_{sm}.ptx", std::process::id()));
    std::fs::write(&file, ptx).expect("the target folder can be written");
    let output = Command::new(ptxas)
        .args(["-v", "--warn-on-spills", &format!("-arch=sm_{sm}"), "-o"])
        .arg(file.with_extension("cubin"))
        .arg(&file)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", ptxas.display()));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} for sm_{sm}: {log}");
    let _ = std::fs::remove_file(file.with_extension("cubin"));
    let _ = std::fs::remove_file(&file);
    usages(&log)
}

#[test]
#[ignore = "needs ptxas: cargo xtask cuda-check --rung 4"]
fn nothing_spills_and_the_table_is_current() {
    let ptxas = PathBuf::from(std::env::var_os("AMA_PTXAS").expect("AMA_PTXAS names the assembler"));
    let (major, minor) = cuda::nvrtc_version().unwrap_or_else(|error| panic!("{error}"));
    let mut rows = Vec::new();
    for source in cuda::SOURCES {
        for (capability, devices) in TARGETS {
            let ptx = cuda::compile(source, capability).unwrap_or_else(|error| panic!("{error}"));
            let version = if capability == (8, 0) { ".version 7.0\n" } else { ".version " };
            assert!(ptx.contains(version), "drivers from CUDA 11.0 on are promised");
            if let Some(folder) = std::env::var_os("AMA_CUDA_PTX").filter(|_| capability == (8, 0)) {
                let path = Path::new(&folder).join(format!("{}.ptx", source.name));
                std::fs::write(&path, &ptx).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
            for sm in devices {
                let all = assemble(&ptxas, source.name, &ptx, *sm);
                assert!(!all.is_empty(), "{}: no kernel", source.name);
                for (kernel, usage) in all {
                    assert_eq!(usage.spilled_bytes, 0, "{kernel} for sm_{sm} spills");
                    assert_eq!(usage.stack_bytes, 0, "{kernel} for sm_{sm} keeps an array in memory");
                    let threads = most_threads(&ptx, &kernel);
                    rows.push(Row { kernel, target: (capability, *sm), threads, usage });
                }
            }
        }
    }
    let table = table(&rows);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda/registers.md");
    let header = format!("NVRTC {major}.{minor}");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("AMA_UPDATE").is_some() {
        std::fs::write(&path, format!("{}{table}", introduction(&header))).expect("the table can be written");
    } else if committed.contains(&header) {
        let (got, want) = (table.lines().collect::<Vec<_>>(), committed.lines().collect::<Vec<_>>());
        assert!(
            want.ends_with(&got),
            "{} is not current; AMA_UPDATE=1 writes it anew:\n{table}",
            path.display()
        );
    }
}

fn introduction(header: &str) -> String {
    format!(
        "# Registers and shared memory\n\n\
         By {header} with the options of our own launches, and `ptxas` 12.9: bytes of static shared memory a block; then, for the PTX\n\
         and the device in the heading, registers a thread and (at the largest block that the kernel is launched with)\n\
         occupancy: the share of a multiprocessor's warps that are resident at once. Nothing spills and nothing is kept in local memory, also with the oldest NVRTC that is tested.\n\
         `cargo xtask cuda-check --rung 4` compares this table; `AMA_UPDATE=1 cargo xtask cuda-check --rung 4` writes it.\n\n"
    )
}

/// A line a kernel, a column a device.
fn table(rows: &[Row]) -> String {
    let mut out = String::from("| kernel | threads | shared bytes |");
    for ((major, minor), sm) in columns() {
        let _ = write!(out, " compute_{major}{minor} on sm_{sm} |");
    }
    let _ = write!(out, "\n|---|---|---|{}\n", "---|".repeat(columns().count()));
    let kernels: BTreeSet<&str> = rows.iter().map(|row| row.kernel.as_str()).collect();
    for kernel in kernels {
        let find = |target| rows.iter().find(|row| row.kernel == kernel && row.target == target);
        let mut cells: Vec<String> = Vec::new();
        let mut shared = BTreeSet::new();
        let mut threads = 0;
        for target in columns() {
            let row = find(target).expect("every kernel is assembled for every device");
            let device = DEVICES
                .iter()
                .find(|device| device.sm == target.1)
                .expect("limits of every device are known");
            let occupancy = 100.0 * device.occupancy(row.threads, &row.usage);
            cells.push(format!("{} ({occupancy:.0}%)", row.usage.registers));
            shared.insert(row.usage.shared_bytes);
            threads = row.threads;
        }
        assert_eq!(shared.len(), 1, "{kernel}: shared memory depends on the device: {shared:?}");
        let shared = shared.first().copied().unwrap_or(0);
        let _ = writeln!(out, "| `{kernel}` | {threads} | {shared} | {} |", cells.join(" | "));
    }
    out
}

fn columns() -> impl Iterator<Item = Target> {
    TARGETS.into_iter().flat_map(|(capability, devices)| devices.iter().map(move |sm| (capability, *sm)))
}

#[test]
fn occupancy_is_that_of_the_occupancy_calculator() {
    let usage = |registers, shared_bytes| Usage { registers, shared_bytes, ..Usage::default() };
    // H100: 512 threads of 64 registers fill half, of 32 all; of 40 three blocks; shared memory of 100 KiB two blocks.
    let h100 = &DEVICES[3];
    assert_eq!(h100.occupancy(512, &usage(64, 0)), 0.5);
    assert_eq!(h100.occupancy(512, &usage(32, 0)), 1.0);
    assert_eq!(h100.occupancy(512, &usage(40, 0)), 0.75);
    assert_eq!(h100.occupancy(256, &usage(32, 100 << 10)), 0.25);
    // Consumer Ampere holds 48 warps: three blocks of 512 at 40 registers fill it, at 48 two.
    assert_eq!(DEVICES[1].occupancy(512, &usage(40, 0)), 1.0);
    assert_eq!(DEVICES[1].occupancy(512, &usage(48, 0)), 2.0 / 3.0);
}

#[test]
fn the_assembler_is_understood() {
    let log = "ptxas info    : Compiling entry function 'a' for 'sm_80'\n\
               ptxas info    : Function properties for a\n    24 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n\
               ptxas info    : Used 40 registers, used 1 barriers, 384 bytes smem, 400 bytes cmem[0]\n\
               ptxas info    : Compiling entry function 'b' for 'sm_80'\n\
               ptxas info    : Function properties for b\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
               ptxas info    : Used 8 registers, 356 bytes cmem[0]\n";
    let all = usages(log);
    assert_eq!(all["a"], Usage { registers: 40, shared_bytes: 384, stack_bytes: 24, spilled_bytes: 20 });
    assert_eq!(all["b"], Usage { registers: 8, ..Usage::default() });
}
