//! The excess of one pair over its specialist.

/// What of a pair's loss the players of the game see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExcessMode {
    /// `max(L(theta, z) - L(theta_i, z), 0)`, clipped for each pair (arXiv:2506.00569).
    #[default]
    Clipped,
    /// `L(theta, z) - L(theta_i, z)`: a pair better than its specialist counts against the others.
    Unclipped,
    /// `L(theta, z)`: no specialist (the targets of Group DRO).
    Raw,
}

/// Whether a clipped pair still trains the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GradientClip {
    /// A pair at or below its specialist gives no gradient (the paper).
    #[default]
    Pair,
    /// Only the mixer sees the clipping; the gradient of every pair flows.
    WeightsOnly,
}

/// The excess of one pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairExcess {
    /// The excess, nats. NaN when an input was NaN: [`Mixer::update`](crate::Mixer::update) refuses it.
    pub value_nats: f64,
    /// Whether the gradient of the pair's loss flows.
    pub active: bool,
}

/// Excess of a pair whose loss is `loss_nats` over its specialist's `specialist_loss_nats`.
///
/// `e = max(L(theta, z) - L(theta_i, z), 0)` with [`ExcessMode::Clipped`]. `clip` matters in that mode only;
/// `specialist_loss_nats` is not read with [`ExcessMode::Raw`].
pub fn pair_excess(
    mode: ExcessMode,
    clip: GradientClip,
    loss_nats: f64,
    specialist_loss_nats: f64,
) -> PairExcess {
    let difference = loss_nats - specialist_loss_nats;
    match mode {
        ExcessMode::Raw => PairExcess { value_nats: loss_nats, active: true },
        ExcessMode::Unclipped => PairExcess { value_nats: difference, active: true },
        // `<=` is false for NaN, so NaN stays NaN; `f64::max` would turn it into a clean 0.
        ExcessMode::Clipped if difference <= 0.0 => {
            PairExcess { value_nats: 0.0, active: clip == GradientClip::WeightsOnly }
        }
        ExcessMode::Clipped => PairExcess { value_nats: difference, active: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_modes() {
        use ExcessMode::*;
        use GradientClip::*;
        // mode, clip, loss, specialist, excess, gradient flows
        for (mode, clip, loss, specialist, value_nats, active) in [
            (Clipped, Pair, 0.75, 0.5, 0.25, true),
            (Clipped, Pair, 0.5, 0.5, 0.0, false),
            (Clipped, Pair, 0.25, 0.5, 0.0, false),
            (Clipped, WeightsOnly, 0.25, 0.5, 0.0, true),
            (Clipped, WeightsOnly, 0.75, 0.5, 0.25, true),
            (Unclipped, Pair, 0.25, 0.5, -0.25, true),
            (Unclipped, WeightsOnly, 0.75, 0.5, 0.25, true),
            (Raw, Pair, 0.25, 0.5, 0.25, true),
            (Raw, Pair, 0.25, f64::NAN, 0.25, true),
        ] {
            let got = pair_excess(mode, clip, loss, specialist);
            assert_eq!(got, PairExcess { value_nats, active }, "{mode:?} {clip:?} {loss} {specialist}");
        }
    }

    #[test]
    fn nan_is_not_clipped_away() {
        for (loss, specialist) in [(f64::NAN, 0.0), (0.0, f64::NAN), (f64::INFINITY, f64::INFINITY)] {
            assert!(
                pair_excess(ExcessMode::Clipped, GradientClip::Pair, loss, specialist).value_nats.is_nan()
            );
        }
    }
}
