// Sums over sequences of rows, the same in every run, and the way back.
//
//   sum_s = sum_{i = offsets[s]}^{offsets[s + 1] - 1} x_i
//
// Two stages, no atomics: `piece` adds up PIECE rows of one sequence per block, `total` a sequence's pieces in order.
// Pieces count from the sequence's own start, so a sequence's sum is the same wherever in the batch it lies. Sums are
// f64: log-probabilities of a long sequence add up to thousands of nats, their differences matter at 1e-4.
//
// Parameters:
//   values     [rows]
//   offsets    [sequences + 1], not decreasing, the last at most `rows`; what lies behind `rows` is not read
//   partial    [sequences][pieces], out of `piece`, in to `total`
//   sums       [sequences] out
//   d_sums     [sequences]: d loss / d sum
//   d_values   [rows] out: d_sums of the sequence that a row lies in; rows of no sequence are not written
//   pieces     ceil(longest sequence / PIECE), at least 1
// Grids: `piece` and `spread` sequences * pieces blocks of 256; `total` ceil(sequences / block).

#define PIECE 1024u

struct Span {
  u32 first, end;
};

// The rows that this block has to do with.
__device__ __forceinline__ Span piece_of_block(const u32* offsets, u32 sequence, u32 piece, u32 rows) {
  u32 end = offsets[sequence + 1u];
  end = end < rows ? end : rows;
  const u64 first = (u64)offsets[sequence] + (u64)piece * PIECE;
  Span span;
  span.first = first < end ? (u32)first : end;
  span.end = end - span.first < PIECE ? end : span.first + PIECE;
  return span;
}

extern "C" __global__ void __launch_bounds__(256)
    ama_segment_sum_piece_f32(const float* values, const u32* offsets, double* partial, u32 sequences, u32 pieces,
                              u32 rows) {
  const u32 sequence = blockIdx.x / pieces, piece = blockIdx.x % pieces;
  if (sequence >= sequences) return;
  const Span span = piece_of_block(offsets, sequence, piece, rows);
  double sum = 0.0;
  for (u32 i = threadIdx.x; i < span.end - span.first; i += blockDim.x) sum += (double)values[span.first + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0u) partial[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256)
    ama_segment_sum_total_f64(const double* partial, double* sums, u32 sequences, u32 pieces) {
  const u32 sequence = blockIdx.x * blockDim.x + threadIdx.x;
  if (sequence >= sequences) return;
  double sum = 0.0;
  for (u32 i = 0u; i < pieces; ++i) sum += partial[(u64)sequence * pieces + i];
  sums[sequence] = sum;
}

extern "C" __global__ void __launch_bounds__(256)
    ama_segment_spread_f32(const double* d_sums, const u32* offsets, float* d_values, u32 sequences, u32 pieces,
                           u32 rows) {
  const u32 sequence = blockIdx.x / pieces, piece = blockIdx.x % pieces;
  if (sequence >= sequences) return;
  const Span span = piece_of_block(offsets, sequence, piece, rows);
  const float value = (float)d_sums[sequence];
  for (u32 i = threadIdx.x; i < span.end - span.first; i += blockDim.x) d_values[span.first + i] = value;
}
