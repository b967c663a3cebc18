// Attention inside segments, in three rungs. o = softmax(q k^T / sqrt(e)) v, query head a with key-value head
// a / (a per k).
//
//   q (n, heads, HEAD)   k, v (r, kv_heads, HEAD)   ->   o (n, heads, HEAD)
//   Rows of q, k and v may lie further apart than they are long (parts of one product): a stride for each.
//
// tiles (g, 5): first, last, k0, k1, shift: rows first..last of q, all of one segment, at most the rung's QUERIES
// of them; row r sees the keys k0 .. min(k1, r + shift + 1). Causal or not is a matter of `shift` alone, so
// windows, frames, packed prompts and conversations are one kernel, and nothing is padded.
//
// The softmax is *online* (Milakov and Gimelshein, 2018; Dao et al., 2022): a row keeps its largest score m, the
// sum l of exp(score - m), and the weighted sum of values; when a larger score comes, l and the sum are scaled by
// exp(old m - new m). Scores are never stored.
//
// Operations: 4 HEAD for each query, key and head. Bytes: naive reads k and v once a *query*, the others once a
// tile of queries: 32 times fewer.
//
// Compile with -DHEAD=48 (64, 80, 128), -DBF16=0 or 1.
#include "minivl.cuh"
#ifndef HEAD
#define HEAD 64
#endif

#define WARPS 4
#define THREADS (WARPS * WARP)
#define OWN 8                                                  // queries of one warp
#define QUERIES (WARPS * OWN)                                  // of a block
#define KEYS 32                                                // of a tile: one for each lane
#define PARTS ((HEAD + WARP - 1) / WARP)                       // channels of one lane: lane, lane + 32, ...

struct Tile { int first, last, k0, k1, shift; };

__device__ __forceinline__ Tile tile_of(const int* __restrict__ tiles) {
  const int* row = tiles + (size_t)blockIdx.x * 5;
  Tile t = {row[0], row[1], row[2], row[3], row[4]};
  return t;
}

// The first key that no row of the tile sees.
__device__ __forceinline__ int key_end(Tile t) { return min(t.k1, t.last + t.shift); }

// ---------------------------------------------------------------------------------------------- rung 1: naive
// A warp takes one query of one head at a time. Its lanes share out the channels; every key is a product of
// lanes, a sum over the warp, and an update. Nothing is shared between queries: all read all keys.
//   grid (tiles, heads), block 128
extern "C" __global__ void __launch_bounds__(THREADS)
attend_naive(const real* __restrict__ q, const real* __restrict__ k, const real* __restrict__ v,
             real* __restrict__ o, const int* __restrict__ tiles, int q_stride, int k_stride, int v_stride,
             int group, float scale) {
  Tile t = tile_of(tiles);
  int lane = threadIdx.x % WARP, head = blockIdx.y;
  for (int row = t.first + threadIdx.x / WARP; row < t.last; row += WARPS) {
    // 1. this lane's channels of the query
    float query[PARTS], sum[PARTS], most = NEVER, total = 0.f;
    for (int c = 0; c < PARTS; c++) {
      int e = c * WARP + lane;
      query[c] = e < HEAD ? widen(q[(size_t)row * q_stride + head * HEAD + e]) : 0.f;
      sum[c] = 0.f;
    }
    int end = min(t.k1, row + t.shift + 1);
    for (int key = t.k0; key < end; key++) {
      // 2. the score: every lane its channels, then all lanes
      size_t at_k = (size_t)key * k_stride + head / group * HEAD, at_v = (size_t)key * v_stride + head / group * HEAD;
      float score = 0.f;
      for (int c = 0; c < PARTS; c++)
        if (c * WARP + lane < HEAD) score += query[c] * widen(k[at_k + c * WARP + lane]);
      score = warp_sum(score) * scale;
      // 3. the row's largest score may grow: what was summed before is scaled
      float now = fmaxf(most, score), keep = __expf(most - now), weight = __expf(score - now);
      most = now, total = total * keep + weight;
      for (int c = 0; c < PARTS; c++)
        if (c * WARP + lane < HEAD) sum[c] = sum[c] * keep + weight * widen(v[at_v + c * WARP + lane]);
    }
    // 4. out, rounded once; a row that sees no key is zero
    for (int c = 0; c < PARTS; c++)
      if (c * WARP + lane < HEAD)
        o[((size_t)row * gridDim.y + head) * HEAD + c * WARP + lane] = narrow(total > 0.f ? sum[c] / total : 0.f);
  }
}

// ---------------------------------------------------------------------------------------------- rung 2: tiled
// A block takes 32 queries, 8 for each warp. It goes through the keys in tiles of 32, which lie in shared memory:
// read once, used 32 times. In a score the lanes are keys, in the weighted sum they are channels.
//   grid (tiles, heads), block 128, shared (32 HEAD + 32 (HEAD + 1) + 32 HEAD) floats
extern "C" __global__ void __launch_bounds__(THREADS, 3)
attend_tiled(const real* __restrict__ q, const real* __restrict__ k, const real* __restrict__ v,
             real* __restrict__ o, const int* __restrict__ tiles, int q_stride, int k_stride, int v_stride,
             int group, float scale) {
  extern __shared__ float shared[];
  float* queries = shared;                                     // QUERIES HEAD
  float* keys = queries + QUERIES * HEAD;                      // KEYS (HEAD + 1): lanes read rows, so no two meet
  float* values = keys + KEYS * (HEAD + 1);                    // KEYS HEAD
  Tile t = tile_of(tiles);
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, head = blockIdx.y, kv = head / group;
  // 1. the queries; rows beyond the last are zero and are not written
  for (int i = threadIdx.x; i < QUERIES * HEAD; i += THREADS) {
    int row = t.first + i / HEAD;
    queries[i] = row < t.last ? widen(q[(size_t)row * q_stride + head * HEAD + i % HEAD]) : 0.f;
  }
  float most[OWN], total[OWN], sum[OWN][PARTS];
  for (int j = 0; j < OWN; j++) {
    most[j] = NEVER, total[j] = 0.f;
    for (int c = 0; c < PARTS; c++) sum[j][c] = 0.f;
  }
  for (int k0 = t.k0; k0 < key_end(t); k0 += KEYS) {
    // 2. the next tile, once nobody reads the former one
    __syncthreads();
    for (int i = threadIdx.x; i < KEYS * HEAD; i += THREADS) {
      int key = k0 + i / HEAD, e = i % HEAD;
      keys[i / HEAD * (HEAD + 1) + e] = key < t.k1 ? widen(k[(size_t)key * k_stride + kv * HEAD + e]) : 0.f;
      values[i] = key < t.k1 ? widen(v[(size_t)key * v_stride + kv * HEAD + e]) : 0.f;
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < OWN; j++) {
      // 3. lane's key times query j
      int row = t.first + warp * OWN + j;
      float score = 0.f;
#pragma unroll 8
      for (int e = 0; e < HEAD; e++) score += queries[(warp * OWN + j) * HEAD + e] * keys[lane * (HEAD + 1) + e];
      bool seen = k0 + lane < min(t.k1, row + t.shift + 1);
      score = seen ? score * scale : NEVER;
      // 4. the online softmax, for 32 keys at once
      float now = fmaxf(most[j], warp_max(score)), keep = __expf(most[j] - now);
      float weight = seen ? __expf(score - now) : 0.f;
      most[j] = now, total[j] = total[j] * keep + warp_sum(weight);
      // 5. lane's channels of the weighted sum: each key's weight comes from the lane that has it
      for (int c = 0; c < PARTS; c++) sum[j][c] *= keep;
#pragma unroll 4
      for (int key = 0; key < KEYS; key++) {
        float its = __shfl_sync(ALL_LANES, weight, key);
        for (int c = 0; c < PARTS; c++)
          if (c * WARP + lane < HEAD) sum[j][c] += its * values[key * HEAD + c * WARP + lane];
      }
    }
  }
  // 6. out, rounded once
#pragma unroll
  for (int j = 0; j < OWN; j++) {
    int row = t.first + warp * OWN + j;
    for (int c = 0; c < PARTS; c++)
      if (row < t.last && c * WARP + lane < HEAD)
        o[((size_t)row * gridDim.y + head) * HEAD + c * WARP + lane] =
            narrow(total[j] > 0.f ? sum[j][c] / total[j] : 0.f);
  }
}

// ----------------------------------------------------------------------------------------- rung 3: vectorised
// The same tiles. Memory is read 16 bytes at a time, and a warp works on its 8 queries together: a key's four
// channels are read once from shared memory for 8 products each, a value once for 8 sums. Weights go through
// shared memory, four keys in one read.
//   Every row of q, k and v begins at 16 bytes. grid (tiles, heads), block 128,
//   shared (32 HEAD + 32 (HEAD + 4) + 32 HEAD + 32 32) floats
extern "C" __global__ void __launch_bounds__(THREADS, 3)
attend_vectorised(const real* __restrict__ q, const real* __restrict__ k, const real* __restrict__ v,
                  real* __restrict__ o, const int* __restrict__ tiles, int q_stride, int k_stride, int v_stride,
                  int group, float scale) {
  extern __shared__ float4 shared4[];
  float* queries = reinterpret_cast<float*>(shared4);          // QUERIES HEAD
  float* keys = queries + QUERIES * HEAD;                      // KEYS (HEAD + 4): rows begin 4 banks apart
  float* values = keys + KEYS * (HEAD + 4);                    // KEYS HEAD
  float* weights = values + KEYS * HEAD;                       // QUERIES KEYS
  Tile t = tile_of(tiles);
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, head = blockIdx.y, kv = head / group;
  const int VECTORS = HEAD / IN_VECTOR;                        // of a row
  // 1. the queries, times the scale
  for (int i = threadIdx.x; i < QUERIES * VECTORS; i += THREADS) {
    int row = t.first + i / VECTORS, e = i % VECTORS * IN_VECTOR;
    float x[IN_VECTOR] = {};
    if (row < t.last) unpack(*reinterpret_cast<const uint4*>(q + (size_t)row * q_stride + head * HEAD + e), x, real());
    for (int c = 0; c < IN_VECTOR; c++) queries[i / VECTORS * HEAD + e + c] = x[c] * scale;
  }
  float most[OWN], total[OWN], sum[OWN][PARTS];
#pragma unroll
  for (int j = 0; j < OWN; j++) {
    most[j] = NEVER, total[j] = 0.f;
    for (int c = 0; c < PARTS; c++) sum[j][c] = 0.f;
  }
  for (int k0 = t.k0; k0 < key_end(t); k0 += KEYS) {
    // 2. the next tile, once nobody reads the former one
    __syncthreads();
    for (int i = threadIdx.x; i < KEYS * VECTORS; i += THREADS) {
      int key = k0 + i / VECTORS, e = i % VECTORS * IN_VECTOR;
      float x[IN_VECTOR] = {}, y[IN_VECTOR] = {};
      if (key < t.k1) {
        unpack(*reinterpret_cast<const uint4*>(k + (size_t)key * k_stride + kv * HEAD + e), x, real());
        unpack(*reinterpret_cast<const uint4*>(v + (size_t)key * v_stride + kv * HEAD + e), y, real());
      }
      float4* to_k = reinterpret_cast<float4*>(keys + i / VECTORS * (HEAD + 4) + e);
      float4* to_v = reinterpret_cast<float4*>(values + i / VECTORS * HEAD + e);
      for (int c = 0; c < IN_VECTOR; c += 4) {
        to_k[c / 4] = make_float4(x[c], x[c + 1], x[c + 2], x[c + 3]);
        to_v[c / 4] = make_float4(y[c], y[c + 1], y[c + 2], y[c + 3]);
      }
    }
    __syncthreads();
    // 3. lane's key times all 8 queries
    float score[OWN] = {};
    const float4* mine = reinterpret_cast<const float4*>(keys + lane * (HEAD + 4));
    const float4* theirs = reinterpret_cast<const float4*>(queries + warp * OWN * HEAD);
#pragma unroll 4
    for (int e = 0; e < HEAD / 4; e++) {
      float4 b = mine[e];
#pragma unroll
      for (int j = 0; j < OWN; j++) {
        float4 a = theirs[j * (HEAD / 4) + e];
        score[j] += a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
      }
    }
    // 4. the online softmax of each
#pragma unroll
    for (int j = 0; j < OWN; j++) {
      bool seen = k0 + lane < min(t.k1, t.first + warp * OWN + j + t.shift + 1);
      float now = fmaxf(most[j], warp_max(seen ? score[j] : NEVER)), keep = __expf(most[j] - now);
      float weight = seen ? __expf(score[j] - now) : 0.f;
      most[j] = now, total[j] = total[j] * keep + warp_sum(weight);
      weights[(warp * OWN + j) * KEYS + lane] = weight;
      for (int c = 0; c < PARTS; c++) sum[j][c] *= keep;
    }
    __syncwarp();                                              // only this warp reads its weights
    // 5. lane's channels of the 8 weighted sums, four keys at a time
    const float4* its = reinterpret_cast<const float4*>(weights + warp * OWN * KEYS);
#pragma unroll 2
    for (int key = 0; key < KEYS; key += 4) {
#pragma unroll
      for (int c = 0; c < PARTS; c++) {
        int e = c * WARP + lane;
        float x[4];
#pragma unroll
        for (int i = 0; i < 4; i++) x[i] = e < HEAD ? values[(key + i) * HEAD + e] : 0.f;
#pragma unroll
        for (int j = 0; j < OWN; j++) {
          float4 w = its[j * (KEYS / 4) + key / 4];
          sum[j][c] += w.x * x[0] + w.y * x[1] + w.z * x[2] + w.w * x[3];
        }
      }
    }
  }
  // 6. out, rounded once
#pragma unroll
  for (int j = 0; j < OWN; j++) {
    int row = t.first + warp * OWN + j;
    for (int c = 0; c < PARTS; c++)
      if (row < t.last && c * WARP + lane < HEAD)
        o[((size_t)row * gridDim.y + head) * HEAD + c * WARP + lane] =
            narrow(total[j] > 0.f ? sum[j][c] / total[j] : 0.f);
  }
}
