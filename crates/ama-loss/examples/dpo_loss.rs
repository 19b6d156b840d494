//! One DPO step on a head alone: log-probabilities, loss, gradients, and a step that lowers the loss.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use ama_loss::{
    HeadShape, LinearLogp, LossError, PairLogps, PairLoss, PreferenceKind, PreferenceLoss, Recompute,
};

const SHAPE: HeadShape = HeadShape { rows: 5, hidden: 4, vocab: 6 };
/// The first 3 rows predict the chosen completion, the other 2 the rejected one.
const CHOSEN: usize = 3;

fn main() -> Result<(), LossError> {
    // What a transformer would hand over: the last hidden state before each completion token.
    let hidden: Vec<f32> = (0..SHAPE.rows * SHAPE.hidden).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut weight: Vec<f32> = (0..SHAPE.vocab * SHAPE.hidden).map(|i| (i as f32 * 1.3).cos()).collect();
    let targets = [1, 4, 0, 2, 0];
    let dpo = PreferenceLoss::new(PreferenceKind::Sigmoid { label_smoothing: 0.0 }, 0.1, 0.0)?;

    // The policy starts as the reference, so the margin is 0 and the loss ln 2.
    let reference = sums(&hidden, &weight, &targets)?;
    let (first, gradient) = step(&hidden, &weight, &targets, reference, &dpo)?;
    println!("before: loss {:.6} nats, margin {:+.6}", first.loss_nats, first.margin);
    assert!((first.loss_nats - std::f64::consts::LN_2).abs() < 1e-12);

    for (w, g) in weight.iter_mut().zip(&gradient) {
        *w -= 0.5 * g;
    }
    let (second, _) = step(&hidden, &weight, &targets, reference, &dpo)?;
    println!("after:  loss {:.6} nats, margin {:+.6}", second.loss_nats, second.margin);
    assert!(second.loss_nats < first.loss_nats && second.margin > 0.0);
    Ok(())
}

fn head<'a>(hidden: &'a [f32], weight: &'a [f32], targets: &'a [u32]) -> LinearLogp<'a> {
    LinearLogp { hidden, weight, targets, shape: SHAPE, budget_bytes: 64 << 20 }
}

/// Summed log-probabilities of both completions.
fn sums(hidden: &[f32], weight: &[f32], targets: &[u32]) -> Result<(f64, f64), LossError> {
    let (forward, _) = head(hidden, weight, targets).forward(Recompute::Always)?;
    Ok(split(&forward.logp))
}

fn split(logp: &[f32]) -> (f64, f64) {
    let sum = |part: &[f32]| part.iter().map(|x| f64::from(*x)).sum();
    (sum(&logp[..CHOSEN]), sum(&logp[CHOSEN..]))
}

/// The pair's loss and its gradient with respect to the head's weight.
fn step(
    hidden: &[f32],
    weight: &[f32],
    targets: &[u32],
    (ref_chosen, ref_rejected): (f64, f64),
    dpo: &PreferenceLoss,
) -> Result<(PairLoss, Vec<f32>), LossError> {
    let head = head(hidden, weight, targets);
    let (forward, kept) = head.forward(Recompute::OverBudget)?;
    let (chosen, rejected) = split(&forward.logp);
    let (chosen_tokens, rejected_tokens) = (CHOSEN as u32, (SHAPE.rows - CHOSEN) as u32);
    let pair = PairLogps { chosen, rejected, ref_chosen, ref_rejected, chosen_tokens, rejected_tokens };
    let loss = dpo.evaluate(&pair);
    // Every token's log-probability has the gradient of the sum that it is in.
    let mut upstream = vec![loss.d_chosen as f32; CHOSEN];
    upstream.resize(SHAPE.rows, loss.d_rejected as f32);
    let (mut d_hidden, mut d_weight) = (vec![0.0; hidden.len()], vec![0.0; weight.len()]);
    head.backward(&forward.lse, kept, &upstream, &mut d_hidden, Some(&mut d_weight))?;
    Ok((loss, d_weight))
}
