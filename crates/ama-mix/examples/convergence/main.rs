//! The convergence certificate: duality gap against the number of steps, for AMA-R and AMA-S on two convex games.
//!
//! `cargo run --release -p ama-mix --example convergence` prints CSV; `cargo xtask convergence` draws it. A row is one
//! horizon `T` (the step sizes depend on it, so each is a run of its own): the mean gap over the seeds, the 95 %
//! confidence interval of that mean, and the bound of the theory. AMA-R is deterministic here and has one seed.

#![allow(clippy::print_stdout, reason = "an example shows what it finds")]

mod closed_form;
mod linear_dpo;
mod play;

use ama_mix::{AmaR, AmaS, ExcessScale, MixError};
use closed_form::ClosedForm;
use linear_dpo::LinearDpo;
use play::{Game, bound_of_ama_r, bound_of_ama_s, play};

const HORIZONS: [u64; 9] = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600];
const SEEDS: u64 = 32;
/// 97.5 % quantile of Student's t with 31 degrees of freedom.
const QUANTILE: f64 = 2.0395;

fn main() -> Result<(), MixError> {
    println!("game,mixer,steps,seeds,gap,gap_low,gap_high,bound");
    let games: [(&str, Box<dyn Game>); 2] = [
        ("closed-form", Box::new(ClosedForm::reference())),
        ("linear-dpo", Box::new(LinearDpo::random(1, 24, &[1.0, 0.8, 0.6]))),
    ];
    for (name, game) in &games {
        let (game, k) = (&**game, game.tasks());
        let scale = ExcessScale::Fixed(game.max_excess());
        for steps in HORIZONS {
            let mut mixer = AmaR::new(k, AmaR::hedge_eta(k, steps), scale)?;
            let gap = play(game, &mut mixer, steps, 0);
            println!("{name},ama-r,{steps},1,{gap},{gap},{gap},{}", bound_of_ama_r(game, steps));
        }
        for steps in HORIZONS {
            let c = AmaS::horizon_c(k, steps);
            let mut gaps = Vec::new();
            for seed in 0..SEEDS {
                let mut mixer = AmaS::new(k, c, c / k as f64, scale)?;
                gaps.push(play(game, &mut mixer, steps, seed));
            }
            let count = SEEDS as f64;
            let mean = gaps.iter().sum::<f64>() / count;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let half = QUANTILE * (variance / count).sqrt();
            let (low, high, bound) = (mean - half, mean + half, bound_of_ama_s(game, steps));
            println!("{name},ama-s,{steps},{SEEDS},{mean},{low},{high},{bound}");
        }
    }
    Ok(())
}
