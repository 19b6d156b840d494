//! Every op against dfdx's own composed ops: forward and all gradients, on the tape.
//!
//! Sizes are odd, and each op runs once below and once above the size from which it uses threads.

use std::sync::Arc;

use dfdx::prelude::*;

use super::attention::{AttentionPlan, Heads, attention, attention_forward};
use super::embedding::{embed, gather};
use super::head::{head, seed};
use super::linear::project_onto;
use super::norm_project::norm_project;
use super::rmsnorm::rmsnorm;
use super::rope::{RopeTable, rotate};
use super::swiglu::swiglu_onto;
use super::tape::{Act, Flat, Grads};
use crate::PackedView;
use crate::access::values;
use crate::profile::Op;
use crate::workspace::{Buffer, Workspace};

type Taped = OwnedTape<f32, Cpu>;
type Matrix<T = NoneTape> = Tensor<(usize, usize), f32, Cpu, T>;
type Cube<T = NoneTape> = Tensor<(usize, usize, usize), f32, Cpu, T>;

fn random(device: &Cpu, n: usize) -> Flat {
    device.sample_normal_like(&(n,))
}

fn matrix(t: &Flat, rows: usize, cols: usize) -> Matrix {
    t.device().tensor_from_vec(values(t).to_vec(), (rows, cols))
}

/// The tensor's values as an activation.
fn act(t: &Flat) -> Act {
    let home = Arc::new(Workspace::default());
    Act::new(t.device(), Buffer::adopt(&home, values(t).to_vec())).unwrap()
}

/// Gradient of an activation.
fn grad(grads: &mut Grads, of: &Act) -> Vec<f32> {
    of.name().take(grads).unwrap().to_vec()
}

/// Runs backward from `out` with a fixed pseudo-random upstream gradient.
fn unwind(mut tape: Taped, out: &Act) -> Grads {
    let upstream = Buffer::adopt(out.workspace(), upstream(out.values().len()));
    let loss = seed(&mut tape, out, upstream, Vec::new()).unwrap();
    loss.put_tape(tape).backward()
}

fn upstream(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// The same backward for a composed result of any shape.
fn unwind_composed<S: Shape>(out: Tensor<S, f32, Cpu, Taped>) -> Grads {
    let weights = out.device().tensor_from_vec(upstream(out.shape().num_elements()), *out.shape());
    (out * weights).sum::<(), _>().backward()
}

#[track_caller]
fn close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(largest > 0.0, "{what} is not all zero");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 2e-5 * largest, "{what}[{i}]: {got}, composed {want}");
    }
}

#[test]
fn gather_matches() {
    for (rows, d, n) in [(5, 3, 9), (40, 96, 400)] {
        let device = Cpu::seed_from_u64(1);
        let table = random(&device, rows * d);
        let ids: Vec<u32> = (0..n as u32).map(|i| i * i % rows as u32).collect();
        let mut tape = Taped::default();
        let home = Arc::new(Workspace::default());
        let got = embed(&mut tape, &home, &table, d, Arc::from(&ids[..])).unwrap();
        let composed = matrix(&table, rows, d);
        let index = device.tensor_from_vec(ids.iter().map(|i| *i as usize).collect(), (n,));
        let want = composed.leaky_trace().gather(index);
        close("y", got.values(), &want.as_vec());
        let (embedded, want) = (unwind(tape, &got), unwind_composed(want));
        close("g table", &embedded.get(&table).as_vec(), &want.get(&composed).as_vec());

        let (mut tape, x) = (Taped::default(), act(&table));
        let again = gather(&mut tape, x.clone(), d, Arc::from(&ids[..])).unwrap();
        assert_eq!(again.values(), got.values());
        close("gx", &grad(&mut unwind(tape, &again), &x), &want.get(&composed).as_vec());
    }
}

fn rmsnorm_composed(x: Matrix<Taped>, w: &Flat, n: usize, d: usize) -> Matrix<Taped> {
    let mean = x.with_empty_tape().square().mean::<(usize,), Axis<1>>();
    let scale = (mean + 1e-5).sqrt().recip().broadcast_like::<_, Axis<1>>(&(n, d));
    x * scale * w.retaped::<Taped>().broadcast_like::<_, Axis<0>>(&(n, d))
}

#[test]
fn rmsnorm_matches() {
    for (n, d) in [(1, 3), (7, 33), (300, 130)] {
        let device = Cpu::seed_from_u64(2);
        let (x, w) = (random(&device, n * d), random(&device, d));
        let mut tape = Taped::default();
        let on = act(&x);
        let got = rmsnorm(&mut tape, on.clone(), &w, 1e-5).unwrap();
        let composed = matrix(&x, n, d);
        let want = rmsnorm_composed(composed.leaky_trace(), &w, n, d);
        close("y", got.values(), &want.as_vec());
        let (mut got, want) = (unwind(tape, &got), unwind_composed(want));
        close("gx", &grad(&mut got, &on), &want.get(&composed).as_vec());
        close("gw", &got.get(&w).as_vec(), &want.get(&w).as_vec());
    }
}

#[test]
fn projections_match() {
    for (n, d, a) in [(1, 1, 1), (13, 7, 5), (150, 64, 96)] {
        let device = Cpu::seed_from_u64(3);
        let (x, norm) = (random(&device, n * d), random(&device, d));
        let (wa, wb, wo) = (random(&device, a * d), random(&device, d * d), random(&device, d * a));
        let (mut tape, on) = (Taped::default(), act(&x));
        let [ya, yb] = norm_project(&mut tape, Op::Qkv, &on, (&norm, 1e-5), [&wa, &wb], None).unwrap();
        // The residual stream: x goes into the norm and past it.
        let past = project_onto(&mut tape, ya, a, &wo, &on).unwrap();
        let got = project_onto(&mut tape, past, d, &random(&Cpu::seed_from_u64(9), d * d), &yb).unwrap();

        let last = matrix(&random(&Cpu::seed_from_u64(9), d * d), d, d);
        let (cx, ca, cb, co) = (matrix(&x, n, d), matrix(&wa, a, d), matrix(&wb, d, d), matrix(&wo, d, a));
        let t = |w: &Matrix| w.retaped::<Taped>().permute::<(usize, usize), Axes2<1, 0>>();
        let h = rmsnorm_composed(cx.leaky_trace(), &norm, n, d);
        let past = h.with_empty_tape().matmul(t(&ca)).matmul(t(&co)) + cx.retaped::<Taped>();
        let want = past.matmul(t(&last)) + h.matmul(t(&cb));
        close("y", got.values(), &want.as_vec());
        let (mut got, want) = (unwind(tape, &got), unwind_composed(want));
        close("gx", &grad(&mut got, &on), &want.get(&cx).as_vec());
        close("g norm", &got.get(&norm).as_vec(), &want.get(&norm).as_vec());
        for (what, flat, composed) in [("gwa", &wa, &ca), ("gwb", &wb, &cb), ("gwo", &wo, &co)] {
            close(what, &got.get(flat).as_vec(), &want.get(composed).as_vec());
        }
    }
}

#[test]
fn swiglu_matches() {
    for (n, inner, d) in [(1, 1, 1), (37, 5, 3), (400, 100, 16)] {
        let device = Cpu::seed_from_u64(4);
        let (gate, up) = (random(&device, n * inner), random(&device, n * inner));
        let (w, x) = (random(&device, d * inner), random(&device, n * d));
        let mut tape = Taped::default();
        let [g, u, residual] = [&gate, &up, &x].map(act);
        let got = swiglu_onto(&mut tape, [g.clone(), u.clone()], inner, &w, &residual).unwrap();
        let (cg, cu, cw) = (matrix(&gate, n, inner), matrix(&up, n, inner), matrix(&w, d, inner));
        let traced = cg.leaky_trace();
        let y = traced.with_empty_tape().sigmoid() * traced * cu.retaped::<Taped>();
        let want = y.matmul(cw.retaped::<Taped>().permute::<(usize, usize), Axes2<1, 0>>())
            + matrix(&x, n, d).retaped::<Taped>();
        close("y", got.values(), &want.as_vec());
        let (mut got, want) = (unwind(tape, &got), unwind_composed(want));
        close("g gate", &grad(&mut got, &g), &want.get(&cg).as_vec());
        close("g up", &grad(&mut got, &u), &want.get(&cu).as_vec());
        close("gw", &got.get(&w).as_vec(), &want.get(&cw).as_vec());
        assert_eq!(grad(&mut got, &residual), upstream(n * d), "the residual's gradient is the output's");
    }
}

#[test]
fn swiglu_is_finite_far_out() {
    let gate: Vec<f32> = [-1e30f32, -200.0, -88.0, -0.0, 88.0, 200.0, 1e30].to_vec();
    let (mut out, mut gy, mut gg, mut again) = ([0.0; 7], [1.0; 7], [0.0; 7], [0.0; 7]);
    super::swiglu::swiglu_forward(&gate, &[1.0; 7], &mut out);
    super::swiglu::swiglu_backward(&gate, &[1.0; 7], &mut gy, &mut gg, &mut again);
    for (y, again) in out.iter().zip(&again) {
        assert!((y - again).abs() <= 1e-6 * y.abs(), "{y} and {again}");
    }
    for (g, y) in gate.iter().zip(&out) {
        assert!((y - g.max(0.0)).abs() <= 1e-6 * g.abs(), "silu({g}) = {y}");
    }
    assert!(gg.iter().zip(&gate).all(|(s, g)| (s - f32::from(*g > 0.0)).abs() < 1e-6 || *g == 0.0), "{gg:?}");
    let (mut out, nan) = ([0.0], [f32::NAN]);
    super::swiglu::swiglu_forward(&nan, &[1.0], &mut out);
    assert!(out[0].is_nan());
}

fn rope_table(half: usize, positions: usize) -> RopeTable {
    RopeTable::new((0..half).map(|i| 100f64.powf(-(i as f64) / half as f64)).collect(), positions)
}

/// `x cos + rotate_half(x) sin` as `transformers` writes it; `x` `[n, heads, dim]`.
fn rope_composed(x: Cube<Taped>, positions: &[u32]) -> Cube<Taped> {
    let (n, heads, dim) = *x.shape();
    let half = dim / 2;
    let angle =
        |i: usize, j: usize| f64::from(positions[i]) * 100f64.powf(-((j % half) as f64) / half as f64);
    let table = |f: fn(f64) -> f64| -> Cube<Taped> {
        let all = (0..n * dim).map(|at| f(angle(at / dim, at % dim)) as f32).collect();
        let all: Matrix = x.device().tensor_from_vec(all, (n, dim));
        all.retaped::<Taped>().broadcast_like::<_, Axis<1>>(&(n, heads, dim))
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    // rotate_half as a product: dfdx's `slice` overwrites its operand's gradient instead of adding to it.
    let sign = |at: usize| match (at / dim, at % dim) {
        (from, to) if from == to + half => -1.0,
        (from, to) if from + half == to => 1.0,
        _ => 0.0,
    };
    let turn: Matrix = x.device().tensor_from_vec((0..dim * dim).map(sign).collect(), (dim, dim));
    let turned = x.with_empty_tape().matmul(turn.retaped::<Taped>());
    x * cos + turned * sin
}

#[test]
fn rope_matches_and_its_inverse_undoes_it() {
    for (n, heads, dim) in [(3, 1, 2), (9, 2, 6), (300, 4, 24)] {
        let device = Cpu::seed_from_u64(5);
        let x = random(&device, n * heads * dim);
        let start = values(&x).to_vec();
        let positions: Vec<u32> = (0..n as u32).map(|i| i * 5 % 41).collect();
        let table = rope_table(dim / 2, 41);
        let mut got = start.clone();
        rotate(&mut got, &positions, &table, false);
        let composed: Cube = device.tensor_from_vec(start.clone(), (n, heads, dim));
        let want = rope_composed(composed.leaky_trace(), &positions);
        close("y", &got, &want.as_vec());
        let (mut gx, want) = (upstream(start.len()), unwind_composed(want));
        rotate(&mut gx, &positions, &table, true);
        close("gx", &gx, &want.get(&composed).as_vec());
        rotate(&mut got, &positions, &table, true);
        close("there and back", &got, &start);
    }
}

#[test]
fn head_matches() {
    // Then this comparison, and whatever else runs in this process, is of the device.
    #[cfg(feature = "cuda-tests")]
    assert!(!crate::cuda::use_device(0).expect("a device, or a stand-in for its driver").is_empty());
    for (n, d, vocab, bytes) in [(1, 1, 2, 0), (9, 5, 31, 400), (60, 48, 700, 1 << 20)] {
        let device = Cpu::seed_from_u64(6);
        let (x, w) = (random(&device, n * d), random(&device, vocab * d));
        let targets: Vec<u32> = (0..n as u32).map(|i| i * 17 % vocab as u32).collect();
        let mut tape = Taped::default();
        let on = act(&x);
        let got = head(&mut tape, on.clone(), d, &w, Arc::from(&targets[..]), bytes).unwrap();
        let (cx, cw) = (matrix(&x, n, d), matrix(&w, vocab, d));
        let logits = cx.leaky_trace().matmul(cw.retaped::<Taped>().permute::<(usize, usize), Axes2<1, 0>>());
        let index = device.tensor_from_vec(targets.iter().map(|t| *t as usize).collect(), (n,));
        let want = logits.log_softmax::<Axis<1>>().select(index);
        close("logp", got.values(), &want.as_vec());
        let (mut got, want) = (unwind(tape, &got), unwind_composed(want));
        close("gx", &grad(&mut got, &on), &want.get(&cx).as_vec());
        close("gw", &got.get(&w).as_vec(), &want.get(&cw).as_vec());
    }
}

/// Segments `(length, prefix)` of two roots with completions, in mixed order, and a root alone.
const SEGMENTS: [(usize, Option<u32>); 7] =
    [(4, None), (1, None), (5, Some(0)), (3, Some(1)), (1, Some(0)), (6, None), (2, Some(1))];

fn plan_of(segments: &[(usize, Option<u32>)]) -> AttentionPlan {
    let mut offsets = vec![0u32];
    for (length, _) in segments {
        offsets.push(offsets[offsets.len() - 1] + *length as u32);
    }
    let ids = vec![0; offsets[segments.len()] as usize];
    let prefix: Vec<Option<u32>> = segments.iter().map(|s| s.1).collect();
    AttentionPlan::new(&PackedView {
        ids: &ids,
        segment_offsets: &offsets,
        segment_prefix: &prefix,
        rows: &[],
        targets: &[],
        sequence_offsets: &[0],
    })
    .unwrap()
}

/// `visible[i][j]`: token `i` sees token `j`, straight from the contract.
fn visible(segments: &[(usize, Option<u32>)]) -> Vec<Vec<bool>> {
    let of: Vec<usize> = segments.iter().enumerate().flat_map(|(s, (len, _))| vec![s; *len]).collect();
    let sees = |i: usize, j: usize| (of[i] == of[j] && j <= i) || segments[of[i]].1 == Some(of[j] as u32);
    (0..of.len()).map(|i| (0..of.len()).map(|j| sees(i, j)).collect()).collect()
}

/// Segments with a prompt and completions longer than a tile of queries.
fn long_segments() -> Vec<(usize, Option<u32>)> {
    vec![(70, None), (300, Some(0)), (3, Some(0)), (130, None)]
}

#[test]
fn attention_matches_dense_masked_softmax() {
    for (segments, heads) in [
        (SEGMENTS.to_vec(), Heads { query: 4, kv: 2, dim: 6 }),
        (SEGMENTS.to_vec(), Heads { query: 3, kv: 1, dim: 2 }),
        (SEGMENTS.to_vec(), Heads { query: 2, kv: 2, dim: 40 }),
        (long_segments(), Heads { query: 4, kv: 2, dim: 8 }),
    ] {
        let device = Cpu::seed_from_u64(7);
        let plan = Arc::new(plan_of(&segments));
        let (n, Heads { query, kv, dim }) = (plan.rows(), heads);
        let q = random(&device, n * query * dim);
        let (k, v) = (random(&device, n * kv * dim), random(&device, n * kv * dim));
        let mut tape = Taped::default();
        let on = [&q, &k, &v].map(act);
        let got = attention(&mut tape, on.clone(), heads, &plan).unwrap();

        let cube =
            |t: &Flat, heads: usize| -> Cube { device.tensor_from_vec(values(t).to_vec(), (n, heads, dim)) };
        let (cq, ck, cv) = (cube(&q, query), cube(&k, kv), cube(&v, kv));
        let by_head = |t: Cube<Taped>| t.permute::<(usize, usize, usize), Axes3<1, 0, 2>>();
        let repeated = |t: &Cube| {
            by_head(t.retaped::<Taped>())
                .broadcast_like::<(usize, usize, usize, usize), Axis<1>>(&(kv, query / kv, n, dim))
                .reshape_like(&(query, n, dim))
        };
        let scores = by_head(cq.leaky_trace()).matmul(repeated(&ck).permute::<_, Axes3<0, 2, 1>>());
        let mask =
            visible(&segments).concat().iter().map(|s| if *s { 0.0 } else { f32::NEG_INFINITY }).collect();
        let mask: Matrix = device.tensor_from_vec(mask, (n, n));
        let scores = scores * (1.0 / (dim as f32).sqrt())
            + mask.retaped::<Taped>().broadcast_like::<_, Axis<0>>(&(query, n, n));
        let mixed = scores.softmax::<Axis<2>>().matmul(repeated(&cv));
        let want = mixed.permute::<(usize, usize, usize), Axes3<1, 0, 2>>();
        close("o", got.values(), &want.as_vec());
        let (mut got, want) = (unwind(tape, &got), {
            let flat = want.reshape_like(&(n * query * dim,));
            unwind_composed(flat)
        });
        for (what, on, composed) in [("gq", &on[0], &cq), ("gk", &on[1], &ck), ("gv", &on[2], &cv)] {
            close(what, &grad(&mut got, on), &want.get(composed).as_vec());
        }
    }
}

/// `sum_i upstream_i o_i` in f64, from the definition.
fn attention_loss(q: &[f64], k: &[f64], v: &[f64], heads: Heads, sees: &[Vec<bool>]) -> f64 {
    let (n, dim, shared) = (sees.len(), heads.dim, heads.query / heads.kv);
    let weights = upstream(q.len());
    let mut loss = 0.0;
    for (i, sees) in sees.iter().enumerate() {
        for head in 0..heads.query {
            let at = (i * heads.query + head) * dim;
            let key = |j: usize| (j * heads.kv + head / shared) * dim;
            let seen: Vec<usize> = (0..n).filter(|&j| sees[j]).collect();
            let score = |j: usize| -> f64 {
                (0..dim).map(|c| q[at + c] * k[key(j) + c]).sum::<f64>() / (dim as f64).sqrt()
            };
            let total: f64 = seen.iter().map(|&j| score(j).exp()).sum();
            for &j in &seen {
                let p = score(j).exp() / total;
                loss += (0..dim).map(|c| f64::from(weights[at + c]) * p * v[key(j) + c]).sum::<f64>();
            }
        }
    }
    loss
}

#[test]
fn attention_gradients_match_central_differences() {
    let heads = Heads { query: 4, kv: 2, dim: 4 };
    let device = Cpu::seed_from_u64(8);
    let (plan, sees) = (Arc::new(plan_of(&SEGMENTS)), visible(&SEGMENTS));
    let n = plan.rows();
    let tensors = [random(&device, n * 16), random(&device, n * 8), random(&device, n * 8)];
    let mut tape = Taped::default();
    let on = tensors.each_ref().map(act);
    let got = attention(&mut tape, on.clone(), heads, &plan).unwrap();
    let mut grads = unwind(tape, &got);
    let exact = tensors.each_ref().map(|t| values(t).iter().map(|v| f64::from(*v)).collect::<Vec<f64>>());
    for (which, on) in on.iter().enumerate() {
        let difference = |i: usize| {
            let loss = |step: f64| {
                let mut moved = exact.clone();
                moved[which][i] += step;
                attention_loss(&moved[0], &moved[1], &moved[2], heads, &sees)
            };
            ((loss(1e-4) - loss(-1e-4)) / 2e-4) as f32
        };
        let want: Vec<f32> = (0..exact[which].len()).map(difference).collect();
        close(["gq", "gk", "gv"][which], &grad(&mut grads, on), &want);
    }
}

#[test]
fn a_nan_stays_in_its_segment_and_shows() {
    let heads = Heads { query: 1, kv: 1, dim: 2 };
    let plan = plan_of(&[(2, None), (3, Some(0)), (2, None)]);
    let mut k = vec![0.5; 14];
    k[2 * 2] = f32::NAN; // first token of the completion
    let (q, v, mut out) = (vec![1.0; 14], vec![1.0; 14], vec![0.0; 14]);
    attention_forward(&q, &k, &v, heads, &plan, &mut out);
    let nan: Vec<bool> = out.chunks(2).map(|o| o[0].is_nan()).collect();
    assert_eq!(nan, [false, false, true, true, true, false, false]);
}
