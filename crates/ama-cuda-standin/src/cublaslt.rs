//! The functions of `libcublasLt.so.12` that a matrix product needs: `D = alpha op(A) op(B) + beta C`.
//!
//! f32, bf16 and f16 operands, f32 accumulation, f32 or sixteen-bit results; strided batches; anything else is
//! `NOT_SUPPORTED`. Every matrix has to lie inside a live allocation as far as its layout reaches, and each pointer
//! has to be aligned as the heuristic was told (256 bytes unless the preference says less, as in the real library).
#![allow(unsafe_code)] // reason: exported symbols; the accesses to host memory are in `ffi`

use std::collections::HashMap;
use std::ffi::{c_int, c_uint};

use crate::driver::driver;
use crate::errors::Code;
use crate::ffi::{Out, Sink, Source};
use crate::ptx::float::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::state::{State, enter};

/// `CUBLAS_STATUS_INVALID_VALUE`.
const INVALID_VALUE: Code = 7;
/// `CUBLAS_STATUS_EXECUTION_FAILED`.
pub(crate) const EXECUTION_FAILED: Code = 13;
/// `CUBLAS_STATUS_INTERNAL_ERROR`.
pub(crate) const INTERNAL_ERROR: Code = 14;
/// `CUBLAS_STATUS_NOT_SUPPORTED`.
const NOT_SUPPORTED: Code = 15;
/// First word of every algorithm that the heuristic gives out.
const MAGIC: u64 = 0x616d_612d_7374_616e;

/// Element type (`cudaDataType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    F32,
    F16,
    Bf16,
}

impl Element {
    fn parse(ty: c_uint) -> Result<Self, Code> {
        match ty {
            0 => Ok(Self::F32),
            2 => Ok(Self::F16),
            14 => Ok(Self::Bf16),
            _ => Err(NOT_SUPPORTED),
        }
    }

    fn bytes(self) -> u64 {
        if self == Self::F32 { 4 } else { 2 }
    }

    fn read(self, data: &[u8]) -> f32 {
        match (self, data) {
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F16, &[a, b]) => f16_to_f32(u16::from_le_bytes([a, b])),
            (Self::Bf16, &[a, b]) => bf16_to_f32(u16::from_le_bytes([a, b])),
            _ => f32::NAN,
        }
    }

    fn write(self, value: f32, data: &mut [u8]) {
        match self {
            Self::F32 => data.copy_from_slice(&value.to_le_bytes()),
            Self::F16 => data.copy_from_slice(&f32_to_f16(value).to_le_bytes()),
            Self::Bf16 => data.copy_from_slice(&f32_to_bf16(value).to_le_bytes()),
        }
    }
}

/// A matrix layout.
#[derive(Debug, Clone, Copy)]
struct Layout {
    element: Element,
    rows: u64,
    cols: u64,
    ld: u64,
    by_rows: bool,
    batch: u64,
    stride: i64,
}

impl Layout {
    fn at(&self, row: u64, col: u64) -> usize {
        (if self.by_rows { row * self.ld + col } else { col * self.ld + row }) as usize
    }

    /// Elements from the first to the last of one matrix; an error if the leading dimension is too short.
    fn extent(&self) -> Result<u64, Code> {
        let (long, short) = if self.by_rows { (self.rows, self.cols) } else { (self.cols, self.rows) };
        if self.ld < short || long == 0 || short == 0 {
            return Err(INVALID_VALUE);
        }
        (long - 1).checked_mul(self.ld).and_then(|n| n.checked_add(short)).ok_or(INVALID_VALUE)
    }

    fn shape(&self, transposed: bool) -> (u64, u64) {
        if transposed { (self.cols, self.rows) } else { (self.rows, self.cols) }
    }
}

/// A product descriptor.
#[derive(Debug, Clone, Copy, Default)]
struct Desc {
    transpose_a: bool,
    transpose_b: bool,
}

/// What the heuristic may assume.
#[derive(Debug, Clone, Copy)]
struct Preference {
    workspace: u64,
    /// Alignment of A, B, C and D in bytes.
    align: [u32; 4],
}

/// All live handles and descriptors.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    libraries: HashMap<u64, ()>,
    layouts: HashMap<u64, Layout>,
    descs: HashMap<u64, Desc>,
    preferences: HashMap<u64, Preference>,
}

impl Handles {
    pub(crate) fn alive(&self) -> usize {
        self.libraries.len() + self.layouts.len() + self.descs.len() + self.preferences.len()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Stores a new object and hands out its handle.
fn create<T>(
    s: &mut State,
    out: Out<u64>,
    table: impl FnOnce(&mut Handles) -> &mut HashMap<u64, T>,
    value: T,
) -> Result<(), Code> {
    let handle = s.handle();
    out.set(handle).map_err(|_| INVALID_VALUE)?;
    table(&mut s.blas).insert(handle, value);
    Ok(())
}

fn destroy<T>(table: &mut HashMap<u64, T>, handle: u64) -> Result<(), Code> {
    table.remove(&handle).map(drop).ok_or(INVALID_VALUE)
}

/// An attribute's value, little endian.
fn attribute(value: Source, bytes: usize) -> Result<u64, Code> {
    if bytes == 0 || bytes > 8 {
        return Err(INVALID_VALUE);
    }
    let data = value.read(bytes).map_err(|_| INVALID_VALUE)?;
    Ok(data.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
}

driver! {
    fn cublasLtCreate(handle: Out<u64>) |s| {
        s.context().map_err(|_| 1)?;
        create(s, handle, |h| &mut h.libraries, ())
    };
    fn cublasLtDestroy(handle: u64) |s| destroy(&mut s.blas.libraries, handle);
    fn cublasLtMatmulDescCreate(desc: Out<u64>, compute: c_uint, scale: c_uint) |s| {
        // f32 accumulation, plain, pedantic or through faster formats; f32 scalars.
        if !matches!(compute, 68 | 69 | 74 | 75 | 77) || scale != 0 {
            return Err(NOT_SUPPORTED);
        }
        create(s, desc, |h| &mut h.descs, Desc::default())
    };
    fn cublasLtMatmulDescDestroy(desc: u64) |s| destroy(&mut s.blas.descs, desc);
    fn cublasLtMatmulDescSetAttribute(desc: u64, name: c_uint, value: Source, bytes: usize) |s| {
        let value = attribute(value, bytes)?;
        s.note(format_args!("{name} = {value}"));
        let desc = s.blas.descs.get_mut(&desc).ok_or(INVALID_VALUE)?;
        match (name, value) {
            (3, 0 | 1) if bytes == 4 => desc.transpose_a = value == 1,
            (4, 0 | 1) if bytes == 4 => desc.transpose_b = value == 1,
            // Scalars on the host, C as it is, no epilogue: the defaults, said again.
            (2 | 5, 0) | (7, 1) => {}
            (2..=5, _) => return Err(INVALID_VALUE),
            _ => return Err(NOT_SUPPORTED),
        }
        Ok(())
    };
    fn cublasLtMatrixLayoutCreate(layout: Out<u64>, ty: c_uint, rows: u64, cols: u64, ld: i64) |s| {
        s.note(format_args!("{rows} x {cols}, ld {ld}, type {ty}"));
        let ld = u64::try_from(ld).map_err(|_| INVALID_VALUE)?;
        let element = Element::parse(ty)?;
        let value = Layout { element, rows, cols, ld, by_rows: false, batch: 1, stride: 0 };
        create(s, layout, |h| &mut h.layouts, value)
    };
    fn cublasLtMatrixLayoutDestroy(layout: u64) |s| destroy(&mut s.blas.layouts, layout);
    fn cublasLtMatrixLayoutSetAttribute(layout: u64, name: c_uint, value: Source, bytes: usize) |s| {
        let value = attribute(value, bytes)?;
        let layout = s.blas.layouts.get_mut(&layout).ok_or(INVALID_VALUE)?;
        match name {
            0 => layout.element = Element::parse(value as c_uint)?,
            1 if value <= 1 => layout.by_rows = value == 1,
            2 => layout.rows = value,
            3 => layout.cols = value,
            4 => layout.ld = value,
            5 if value >= 1 => layout.batch = value,
            6 => layout.stride = value as i64,
            _ => return Err(NOT_SUPPORTED),
        }
        Ok(())
    };
    fn cublasLtMatmulPreferenceCreate(preference: Out<u64>) |s| {
        create(s, preference, |h| &mut h.preferences, Preference { workspace: 0, align: [256; 4] })
    };
    fn cublasLtMatmulPreferenceDestroy(preference: u64) |s| destroy(&mut s.blas.preferences, preference);
    fn cublasLtMatmulPreferenceSetAttribute(preference: u64, name: c_uint, value: Source, bytes: usize) |s| {
        let value = attribute(value, bytes)?;
        let preference = s.blas.preferences.get_mut(&preference).ok_or(INVALID_VALUE)?;
        match name {
            1 if bytes == 8 => preference.workspace = value,
            5..=8 if bytes == 4 => preference.align[name as usize - 5] = value as u32,
            // Search mode and masks of algorithms change nothing here.
            0 | 2 | 3 | 9..=13 => {}
            _ => return Err(NOT_SUPPORTED),
        }
        Ok(())
    };
    fn cublasLtMatmulAlgoGetHeuristic(
        handle: u64, desc: u64, a: u64, b: u64, c: u64, d: u64, preference: u64,
        wanted: c_int, results: Sink, found: Out<c_int>,
    ) |s| {
        if !s.blas.libraries.contains_key(&handle) || wanted < 1 {
            return Err(INVALID_VALUE);
        }
        Product::new(s, desc, [a, b, c, d])?;
        let preference = s.blas.preferences.get(&preference).ok_or(INVALID_VALUE)?;
        // `cublasLtMatmulHeuristicResult_t`: an opaque algorithm of 64 bytes, its workspace, status, waves, reserve.
        let [a, b, c, d] = preference.align.map(u64::from);
        let mut result = Vec::new();
        for word in [MAGIC, a, b, c, d, preference.workspace, 0, 0, preference.workspace] {
            result.extend_from_slice(&word.to_le_bytes());
        }
        result.extend_from_slice(&0u32.to_le_bytes());
        result.extend_from_slice(&1f32.to_le_bytes());
        result.extend_from_slice(&[0; 16]);
        results.write(&result).map_err(|_| INVALID_VALUE)?;
        found.set(1).map_err(|_| INVALID_VALUE)
    };
    fn cublasLtMatmul(
        handle: u64, desc: u64, alpha: Source, a: u64, a_layout: u64, b: u64, b_layout: u64, beta: Source,
        c: u64, c_layout: u64, d: u64, d_layout: u64, algorithm: Source, workspace: u64, workspace_bytes: usize,
        stream: u64,
    ) |s| {
        s.stream(stream).map_err(|_| INVALID_VALUE)?;
        if !s.blas.libraries.contains_key(&handle) {
            return Err(INVALID_VALUE);
        }
        let product = Product::new(s, desc, [a_layout, b_layout, c_layout, d_layout])?;
        let scalar = |source: Source| {
            let data = source.read(4).map_err(|_| INVALID_VALUE)?;
            Ok::<f32, Code>(Element::F32.read(&data))
        };
        let (alpha, beta) = (scalar(alpha)?, scalar(beta)?);
        s.note(format_args!("{} x {} x {}, alpha {alpha}, beta {beta}", product.m, product.n, product.k));
        let mut align = [256; 4];
        if algorithm.address() != 0 {
            let data = algorithm.read(48).map_err(|_| INVALID_VALUE)?;
            let word = |i: usize| data[8 * i..8 * i + 8].iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
            if word(0) != MAGIC || word(5) > workspace_bytes as u64 {
                return Err(INVALID_VALUE);
            }
            align = std::array::from_fn(|i| word(1 + i));
        }
        if workspace_bytes > 0 && s.memory.get(workspace, workspace_bytes as u64).is_err() {
            let blame = s.memory.blame(workspace, workspace_bytes as u64);
            s.problem(&format!("cublasLtMatmul: workspace of {workspace_bytes} bytes at {workspace:#x}: {blame}"));
            return Err(INVALID_VALUE);
        }
        product.run(s, alpha, beta, [a, b, c, d], align)
    };
}

/// A version of the library that fits a 12.9 driver.
// SAFETY: the name is the library's; nothing else in a process that loads the stand-in defines it.
#[unsafe(no_mangle)]
extern "C" fn cublasLtGetVersion() -> usize {
    120_901
}

/// A product whose shapes agree.
#[derive(Debug, Clone, Copy)]
struct Product {
    desc: Desc,
    /// Of A, B, C and D.
    layouts: [Layout; 4],
    m: u64,
    n: u64,
    k: u64,
}

impl Product {
    fn new(s: &mut State, desc: u64, layouts: [u64; 4]) -> Result<Self, Code> {
        let desc = *s.blas.descs.get(&desc).ok_or(INVALID_VALUE)?;
        let mut found = [None; 4];
        for (found, handle) in found.iter_mut().zip(layouts) {
            *found = s.blas.layouts.get(&handle).copied();
        }
        let [Some(a), Some(b), Some(c), Some(d)] = found else { return Err(INVALID_VALUE) };
        let ((m, k), (k2, n)) = (a.shape(desc.transpose_a), b.shape(desc.transpose_b));
        let shapes = [(k, k2), (m, c.rows), (n, c.cols), (m, d.rows), (n, d.cols)];
        if shapes.iter().any(|(x, y)| x != y) {
            s.problem(&format!(
                "cublasLtMatmul: op(A) is {m} x {k}, op(B) {k2} x {n}, C {} x {}, D {} x {}",
                c.rows, c.cols, d.rows, d.cols
            ));
            return Err(INVALID_VALUE);
        }
        if a.element != b.element || c.element != d.element || [b, c, d].iter().any(|l| l.batch != a.batch) {
            return Err(NOT_SUPPORTED);
        }
        for layout in [a, b, c, d] {
            layout.extent()?;
        }
        Ok(Self { desc, layouts: [a, b, c, d], m, n, k })
    }

    fn run(
        &self,
        s: &mut State,
        alpha: f32,
        beta: f32,
        pointers: [u64; 4],
        align: [u64; 4],
    ) -> Result<(), Code> {
        for batch in 0..self.layouts[0].batch as i64 {
            let mut at = [0; 4];
            for (i, layout) in self.layouts.iter().enumerate() {
                let name = ["A", "B", "C", "D"][i];
                let bytes = layout.element.bytes();
                at[i] = pointers[i].wrapping_add_signed(batch * layout.stride * bytes as i64);
                // Without beta, C is not touched.
                if i == 2 && beta == 0.0 {
                    continue;
                }
                let length = layout.extent()? * bytes;
                if let Err(blame) = s.memory.get(at[i], length) {
                    s.problem(&format!("cublasLtMatmul: {name} of {length} bytes at {:#x}: {blame}", at[i]));
                    return Err(EXECUTION_FAILED);
                }
                if !at[i].is_multiple_of(align[i].max(bytes)) {
                    s.problem(&format!(
                        "cublasLtMatmul: {name} at {:#x} is not aligned to the {} bytes that the heuristic was told",
                        at[i], align[i]
                    ));
                    return Err(EXECUTION_FAILED);
                }
            }
            let [a, b, c, d] = self.layouts;
            if at[2] == at[3] && beta != 0.0 && (c.ld != d.ld || c.by_rows != d.by_rows) {
                return Err(INVALID_VALUE);
            }
            if !s.settings.dry_run {
                // op(A) by rows and op(B) by columns: both are read along k.
                let left = self.pack(s, at[0], &a, self.desc.transpose_a, self.m)?;
                let right = self.pack(s, at[1], &b, !self.desc.transpose_b, self.n)?;
                self.multiply(s, alpha, beta, at[2], at[3], &left, &right)?;
            }
        }
        Ok(())
    }

    /// `rows` vectors of length `k`: the matrix's rows, or its columns if it is transposed.
    fn pack(
        &self,
        s: &State,
        at: u64,
        layout: &Layout,
        transposed: bool,
        rows: u64,
    ) -> Result<Vec<f32>, Code> {
        let bytes = layout.element.bytes() as usize;
        let data = s.memory.get(at, layout.extent()? * bytes as u64).map_err(|_| EXECUTION_FAILED)?;
        let mut packed = Vec::with_capacity((rows * self.k) as usize);
        for i in 0..rows {
            for j in 0..self.k {
                let start = bytes * if transposed { layout.at(j, i) } else { layout.at(i, j) };
                packed.push(layout.element.read(&data[start..start + bytes]));
            }
        }
        Ok(packed)
    }

    #[allow(clippy::too_many_arguments)] // reason: the operands of the product, named as in the manual
    fn multiply(
        &self,
        s: &mut State,
        alpha: f32,
        beta: f32,
        c_at: u64,
        d_at: u64,
        left: &[f32],
        right: &[f32],
    ) -> Result<(), Code> {
        let [_, _, c, d] = self.layouts;
        let (bytes, k) = (d.element.bytes() as usize, self.k as usize);
        let old = match beta {
            0.0 => Vec::new(),
            _ => s.memory.get(c_at, c.extent()? * bytes as u64).map_err(|_| EXECUTION_FAILED)?.to_vec(),
        };
        let data = s.memory.get_mut(d_at, d.extent()? * bytes as u64).map_err(|_| EXECUTION_FAILED)?;
        for (j, column) in right.chunks_exact(k).enumerate() {
            for (i, row) in left.chunks_exact(k).enumerate() {
                let mut value = alpha * dot(row, column);
                if beta != 0.0 {
                    let start = bytes * c.at(i as u64, j as u64);
                    value += beta * c.element.read(&old[start..start + bytes]);
                }
                let start = bytes * d.at(i as u64, j as u64);
                d.element.write(value, &mut data[start..start + bytes]);
            }
        }
        Ok(())
    }
}

/// Dot product with f32 accumulation in sixteen strands, summed at the end.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (whole_a, rest_a) = a.as_chunks::<16>();
    let (whole_b, rest_b) = b.as_chunks::<16>();
    for (x, y) in whole_a.iter().zip(whole_b) {
        for l in 0..16 {
            sums[l] += x[l] * y[l];
        }
    }
    sums.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(x, y)| x * y).sum::<f32>()
}
