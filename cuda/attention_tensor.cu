// Attention inside segments on tensor cores: the fourth rung; the same arguments and the same meaning as the three of
// attention.cu. Storage is bfloat16 (-DBF16=1), products of bfloat16 are summed up in float32, and weights are rounded
// to bfloat16 before they meet the values, as every fused attention does.
//
// A block takes 64 queries, 16 for each warp, and goes through the keys in tiles of 32. A tile of 16 x 16 x 16 is one
// instruction of a warp (`mma_sync`), and its numbers lie in the warp's registers in an order that nobody promises. So
// scores go through shared memory to the softmax, where two lanes have a row; and for scaling the sums by row, every
// register is asked once in which row it is: a tile of row numbers is loaded the same way (`row_of`).
//
// Operations: 4 HEAD for each query, key and head, on tensor cores. Bytes: k and v once for each 64 queries.
// Compile with -DHEAD=48 (64, 80, 128: any multiple of 16), for sm_80 or later.
#define TENSOR 1
#include "minivl.cuh"
#ifndef HEAD
#define HEAD 64
#endif

#define WARPS 4
#define THREADS (WARPS * WARP)
#define SIDE 16                                                // of a tile
#define QUERIES (WARPS * SIDE)
#define KEYS 32
#define PITCH (HEAD + 8)                                       // of a row in shared memory: 4 banks apart
#define SCORES (KEYS + 4)                                      // of a row of scores
#define WEIGHTS (KEYS + 8)                                     // of a row of weights
#define TILES (HEAD / SIDE)

using namespace nvcuda;
typedef wmma::fragment<wmma::matrix_a, SIDE, SIDE, SIDE, __nv_bfloat16, wmma::row_major> Left;
typedef wmma::fragment<wmma::matrix_b, SIDE, SIDE, SIDE, __nv_bfloat16, wmma::col_major> Turned;
typedef wmma::fragment<wmma::matrix_b, SIDE, SIDE, SIDE, __nv_bfloat16, wmma::row_major> Right;
typedef wmma::fragment<wmma::accumulator, SIDE, SIDE, SIDE, float> Sum;

__device__ __forceinline__ const __nv_bfloat16* tile_at(const bf16* x) {
  return reinterpret_cast<const __nv_bfloat16*>(x);
}

// `count` rows of a head from row `first` on into shared memory; rows from `last` on are zero.
__device__ __forceinline__ void load_rows(const bf16* __restrict__ x, bf16* to, int first, int last, int count,
                                          size_t stride) {
  const int VECTORS = HEAD / 8;
  for (int i = threadIdx.x; i < count * VECTORS; i += THREADS) {
    int row = i / VECTORS, e = i % VECTORS * 8;
    uint4 vector = {0u, 0u, 0u, 0u};
    if (first + row < last) vector = *reinterpret_cast<const uint4*>(x + (first + row) * stride + e);
    *reinterpret_cast<uint4*>(to + row * PITCH + e) = vector;
  }
}

// Every row of q, k and v begins at 16 bytes. grid (tiles, heads), block 128,
// shared (64 + 32 + 32) (HEAD + 8) bfloat16, 64 36 + 64 floats
extern "C" __global__ void __launch_bounds__(THREADS, 2)
attend_tensor(const real* __restrict__ q, const real* __restrict__ k, const real* __restrict__ v,
              real* __restrict__ o, const int* __restrict__ tiles, int q_stride, int k_stride, int v_stride, int group,
              float scale) {
  extern __shared__ uint4 shared[];
  bf16* queries = reinterpret_cast<bf16*>(shared);             // QUERIES PITCH
  bf16* keys = queries + QUERIES * PITCH;                      // KEYS PITCH
  bf16* values = keys + KEYS * PITCH;                          // KEYS PITCH
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, head = blockIdx.y, kv = head / group;
  float* all_scores = reinterpret_cast<float*>(values + KEYS * PITCH);
  float* scores = all_scores + warp * SIDE * SCORES;           // of this warp: SIDE SCORES
  bf16* weights = reinterpret_cast<bf16*>(scores);             // in the same place, once they have been read
  float* factors = all_scores + QUERIES * SCORES + warp * SIDE;
  const int* tile = tiles + (size_t)blockIdx.x * 5;
  int first = tile[0], last = tile[1], k0 = tile[2], k1 = tile[3], shift = tile[4];
  // 1. the queries; then, in registers, this warp's 16 of them
  load_rows(q + head * HEAD, queries, first, last, QUERIES, q_stride);
  for (int i = lane; i < SIDE * SIDE; i += WARP) scores[i] = (float)(i / SIDE);
  __syncthreads();
  Left query[TILES];
  Sum sum[TILES], row_of;
#pragma unroll
  for (int c = 0; c < TILES; c++) {
    wmma::load_matrix_sync(query[c], tile_at(queries + warp * SIDE * PITCH + c * SIDE), PITCH);
    wmma::fill_fragment(sum[c], 0.f);
  }
  wmma::load_matrix_sync(row_of, scores, SIDE, wmma::mem_row_major);
  int row = lane / 2, half = lane % 2 * (KEYS / 2);            // in the softmax two lanes have a row
  int seen_by_row = min(k1, first + warp * SIDE + row + shift + 1);
  float most = NEVER, total = 0.f;
  for (int at = k0; at < min(k1, last + shift); at += KEYS) {
    // 2. the next tile, once nobody reads the former one
    __syncthreads();
    load_rows(k + kv * HEAD, keys, at, k1, KEYS, k_stride);
    load_rows(v + kv * HEAD, values, at, k1, KEYS, v_stride);
    __syncthreads();
    // 3. 16 queries times 32 keys
#pragma unroll
    for (int n = 0; n < KEYS / SIDE; n++) {
      Sum score;
      wmma::fill_fragment(score, 0.f);
#pragma unroll
      for (int c = 0; c < TILES; c++) {
        Turned key;
        wmma::load_matrix_sync(key, tile_at(keys + n * SIDE * PITCH + c * SIDE), PITCH);
        wmma::mma_sync(score, query[c], key, score);
      }
      wmma::store_matrix_sync(scores + n * SIDE, score, SCORES, wmma::mem_row_major);
    }
    __syncwarp();
    // 4. the online softmax: half a row a lane
    float mine[KEYS / 2], largest = NEVER;
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
      bool seen = at + half + i < seen_by_row;
      mine[i] = seen ? scores[row * SCORES + half + i] * scale : NEVER;
      largest = fmaxf(largest, mine[i]);
    }
    largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 1));
    float now = fmaxf(most, largest), keep = __expf(most - now), part = 0.f;
    __syncwarp();                                              // scores are read: weights take their place
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
      bf16 weight = to_bf16(mine[i] > NEVER ? __expf(mine[i] - now) : 0.f);
      weights[row * WEIGHTS + half + i] = weight;
      part += widen(weight);                                   // what is summed is what is multiplied
    }
    total = total * keep + part + __shfl_xor_sync(ALL_LANES, part, 1);
    most = now;
    if (lane % 2 == 0) factors[row] = keep;
    __syncwarp();
    // 5. what was summed is scaled, and 32 values are added
#pragma unroll
    for (int c = 0; c < TILES; c++)
#pragma unroll
      for (int i = 0; i < row_of.num_elements; i++) sum[c].x[i] *= factors[(int)row_of.x[i]];
#pragma unroll
    for (int n = 0; n < KEYS / SIDE; n++) {
      Left weight;
      wmma::load_matrix_sync(weight, tile_at(weights + n * SIDE), WEIGHTS);
#pragma unroll
      for (int c = 0; c < TILES; c++) {
        Right value;
        wmma::load_matrix_sync(value, tile_at(values + n * SIDE * PITCH + c * SIDE), PITCH);
        wmma::mma_sync(sum[c], weight, value, sum[c]);
      }
    }
    __syncwarp();                                              // weights are read: scores take their place
  }
  // 6. out, through shared memory, rounded once; a row that sees no key is zero
  if (lane % 2 == 0) factors[row] = total > 0.f ? 1.f / total : 0.f;
  __syncwarp();
#pragma unroll
  for (int c = 0; c < TILES; c++) {
    wmma::store_matrix_sync(scores, sum[c], SCORES, wmma::mem_row_major);
    __syncwarp();
    for (int i = lane; i < SIDE * SIDE; i += WARP) {
      int r = i / SIDE, at = first + warp * SIDE + r;
      if (at < last)
        o[((size_t)at * gridDim.y + head) * HEAD + c * SIDE + i % SIDE] = to_bf16(scores[r * SCORES + i % SIDE] * factors[r]);
    }
    __syncwarp();
  }
}
