// Greedy decoding on the device: the penalty on what was written before, the likeliest token of each row, and a note
// of it, so that a step hands the host one number.
//
//   scores (n, v), seen (n, v) int32       ->  penalised (n, v) float32 (Keskar et al., 2019, section 4.1)
//   scores (n, v)                          ->  ids (n): the highest score, the first among equals; -1 where a score of
//                                              the row is infinite or NaN
//   ids (n), seen (n, v)                   ->  seen with the ids marked
//
// The highest of a row is found in two steps: PARTS blocks take their share of it, one warp the best of those.
// Operations: 2 n v. Bytes: scores once.
#include "minivl.cuh"

#define THREADS 256
#define WARPS (THREADS / WARP)
#define PARTS 32                                               // shares of a row

struct Best { float score; int id; };                          // id -1: a score was no number

// The better one of two; one that is no number stays.
__device__ __forceinline__ Best better(Best a, Best b) {
  if (a.id < 0 || b.id < 0) return a.id < 0 ? a : b;
  return b.score > a.score || (b.score == a.score && b.id < a.id) ? b : a;
}

__device__ __forceinline__ Best warp_best(Best best) {
  for (int step = WARP / 2; step > 0; step >>= 1) {
    Best other = {__shfl_xor_sync(ALL_LANES, best.score, step), __shfl_xor_sync(ALL_LANES, best.id, step)};
    best = better(best, other);
  }
  return best;
}

// grid (PARTS, n), block 256, shared 8 floats and 8 ints. best_score, best_id (n, PARTS)
extern "C" __global__ void __launch_bounds__(THREADS)
best_of_parts(const real* __restrict__ scores, float* __restrict__ best_score, int* __restrict__ best_id, int v) {
  extern __shared__ float parts[];
  int* ids = reinterpret_cast<int*>(parts + WARPS);
  const real* row = scores + (size_t)blockIdx.y * v;
  // 1. each thread its numbers; one that has none stands for the lowest score of all, with an id beyond all
  Best best = {-3.402823466e38f, v};
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < v; i += PARTS * THREADS) {
    float score = widen(row[i]);
    Best mine = {score, fabsf(score) <= 3.402823466e38f ? i : -1};
    best = better(best, mine);
  }
  // 2. the warp, then the block
  best = warp_best(best);
  int lane = threadIdx.x % WARP;
  if (lane == 0) parts[threadIdx.x / WARP] = best.score, ids[threadIdx.x / WARP] = best.id;
  __syncthreads();
  if (threadIdx.x >= WARP) return;
  Best its = {-3.402823466e38f, v};
  if (lane < WARPS) its.score = parts[lane], its.id = ids[lane];
  its = warp_best(its);
  size_t at = (size_t)blockIdx.y * PARTS + blockIdx.x;
  if (lane == 0) best_score[at] = its.score, best_id[at] = its.id;
}

// grid n, block 32
extern "C" __global__ void __launch_bounds__(WARP)
best_of_row(const float* __restrict__ best_score, const int* __restrict__ best_id, int* __restrict__ ids) {
  size_t at = (size_t)blockIdx.x * PARTS + threadIdx.x;
  Best best = {best_score[at], best_id[at]};
  best = warp_best(best);
  if (threadIdx.x == 0) ids[blockIdx.x] = best.id;
}

// Seen scores times the penalty below zero, divided by it above. grid ceil(n v / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
penalise(const real* __restrict__ scores, const int* __restrict__ seen, float* __restrict__ out, long long n, float penalty) {
  long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  float score = widen(scores[i]);
  out[i] = !seen[i] ? score : score < 0.f ? score * penalty : score / penalty;
}

// row (m), ids (m): one more for seen[row[i], ids[i]]; several may name the same. grid ceil(m / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
mark(const int* __restrict__ row, const int* __restrict__ ids, int* __restrict__ seen, int m, int v) {
  int i = blockIdx.x * THREADS + threadIdx.x;
  if (i < m && ids[i] >= 0) atomicAdd(seen + (size_t)row[i] * v + ids[i], 1);
}
