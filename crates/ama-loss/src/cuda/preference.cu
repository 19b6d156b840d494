// Preference losses of pairs: value, gradient, excess over a cached loss, and the clipping that follows from it.
//
//   c, r           log-probability of the chosen and rejected completion under the policy, summed over tokens, nats
//   c_ref, r_ref   the same under the reference;  |c|, |r| tokens (0 counts as 1)
//   m = beta ((c - c_ref) - (r - r_ref))
//   SIGMOID   -(1 - e) ln sigmoid(m) - e ln sigmoid(-m)
//   IPO       ((c - c_ref)/|c| - (r - r_ref)/|r| - 1/(2 beta))^2
//   HINGE     max(0, 1 - m)
//   ROBUST    (-(1 - e) ln sigmoid(m) + e ln sigmoid(-m)) / (1 - 2 e)
// each plus sft_weight * (-c / |c|). Sources: `preference.rs` beside this folder, which is the same in Rust.
//
//   excess = loss                          RAW (no cached loss)
//            loss - cached                 UNCLIPPED
//            max(loss - cached, 0)         CLIPPED; at or below 0 the pair gives no gradient if clip_gradient is not 0
//
// NaN in gives NaN out: a NaN excess is neither clipped nor does it stop the gradient. All f64: a pair is a handful
// of scalars, and which pairs are clipped should not depend on the device.
//
// Parameters, each array [pairs]:
//   chosen, rejected, ref_chosen, ref_rejected   nats
//   chosen_tokens, rejected_tokens               tokens
//   cached       loss of the specialist, nats; not read with RAW
//   weight       factor on a pair's gradient (share of the mean times the task's weight); null: 1
//   loss, margin, chosen_reward, rejected_reward, excess          out, without `weight`
//   d_chosen, d_rejected                         out: weight * d loss / d c, d r; 0 for a clipped pair
//   kind, mode   the numbers below
// Grid: ceil(pairs / block) blocks.

#define SIGMOID 0u
#define IPO 1u
#define HINGE 2u
#define ROBUST 3u

#define RAW 0u
#define UNCLIPPED 1u
#define CLIPPED 2u

// ln(1 / (1 + e^-x)) without overflow or cancellation.
__device__ __forceinline__ double ln_sigmoid(double x) { return (x > 0.0 ? 0.0 : x) - log1p(exp(-fabs(x))); }

// 1 / (1 + e^-x) without overflow.
__device__ __forceinline__ double sigmoid(double x) {
  const double e = exp(-fabs(x));
  return (x >= 0.0 ? 1.0 : e) / (1.0 + e);
}

// 0 if the weight is, so that a term that is off cannot bring in 0 * inf.
__device__ __forceinline__ double weighted(double weight, double value) {
  return weight == 0.0 ? 0.0 : weight * value;
}

extern "C" __global__ void __launch_bounds__(128)
    ama_preference_f64(const double* chosen, const double* rejected, const double* ref_chosen,
                       const double* ref_rejected, const u32* chosen_tokens, const u32* rejected_tokens,
                       const double* cached, const double* weight, double* loss, double* margin, double* chosen_reward,
                       double* rejected_reward, double* excess, double* d_chosen, double* d_rejected, u32 pairs,
                       u32 kind, double beta, double label_smoothing, double sft_weight, u32 mode, u32 clip_gradient) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= pairs) return;
  const double c_ratio = chosen[i] - ref_chosen[i], r_ratio = rejected[i] - ref_rejected[i];
  const double c_tokens = chosen_tokens[i] > 0u ? (double)chosen_tokens[i] : 1.0;
  const double r_tokens = rejected_tokens[i] > 0u ? (double)rejected_tokens[i] : 1.0;
  const double m = beta * (c_ratio - r_ratio), e = label_smoothing;
  double value, d_c, d_r;
  if (kind == IPO) {
    const double gap = c_ratio / c_tokens - r_ratio / r_tokens - 1.0 / (2.0 * beta);
    value = gap * gap;
    d_c = 2.0 * gap / c_tokens;
    d_r = -2.0 * gap / r_tokens;
  } else if (kind == HINGE) {
    const double gap = 1.0 - m;
    value = gap <= 0.0 ? 0.0 : gap;
    d_c = gap != gap ? gap : (gap > 0.0 ? -beta : 0.0);
    d_r = -d_c;
  } else {
    // Smoothing that is subtracted (ROBUST) and rescaled, or added (SIGMOID).
    const double flipped = kind == ROBUST ? -e : e, scale = kind == ROBUST ? 1.0 / (1.0 - 2.0 * e) : 1.0;
    value = scale * (-(1.0 - e) * ln_sigmoid(m) - weighted(flipped, ln_sigmoid(-m)));
    d_c = beta * scale * (weighted(flipped, sigmoid(m)) - (1.0 - e) * sigmoid(-m));
    d_r = -d_c;
  }
  if (sft_weight > 0.0) {
    value -= sft_weight * chosen[i] / c_tokens;
    d_c -= sft_weight / c_tokens;
  }
  double over = value;
  double factor = weight ? weight[i] : 1.0;
  if (mode != RAW) {
    over = value - cached[i];
    // False for NaN, which stays.
    if (mode == CLIPPED && over <= 0.0) {
      over = 0.0;
      if (clip_gradient) factor = 0.0;
    }
  }
  const double c_reward = beta * c_ratio, r_reward = beta * r_ratio;
  loss[i] = value;
  margin[i] = c_reward - r_reward;
  chosen_reward[i] = c_reward;
  rejected_reward[i] = r_reward;
  excess[i] = over;
  d_chosen[i] = weighted(factor, d_c);
  d_rejected[i] = weighted(factor, d_r);
}
