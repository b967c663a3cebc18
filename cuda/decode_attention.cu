// Attention of one new token of each conversation over its rows in the cache: split along the keys, because one token
// has too few heads to fill a card, and combined by the split that is ready last.
//
//   q (n, heads, HEAD), k and v (r, kv_heads, HEAD), spans (n, 2): rows k0 .. k1 of the cache of each conversation
//   -> parts: most and total (n, heads, splits), sums (n, heads, splits, HEAD) float32 -> o (n, heads, HEAD)
//   arrived (n, kv_heads): zeros before and after, how many splits have left their parts
//
// A block takes one split of one key-value head of one conversation, and all SHARE query heads that read it: each key
// and value is read from memory once, not once a query head. Its four warps take 32 keys each at a time. A warp loads
// its keys 16 bytes a lane into shared memory; in a score lanes are keys, in the weighted sum they are channels, four
// neighbours each, read from memory as they lie. Which block is the last one is known by a counter: a block makes its
// parts visible to the card (__threadfence), then counts itself; who counts the last one sees the parts of all.
//
// Operations: 4 HEAD a key and query head. Bytes: the conversation's rows of k and v, once: the time.
// Compile with -DHEAD, -DBF16, -DSHARE (query heads of a key-value head, 1 to 8).
#include "minivl.cuh"
#ifndef HEAD
#define HEAD 64
#endif
#ifndef SHARE
#define SHARE 2
#endif

#define WARPS 4
#define THREADS (WARPS * WARP)
#define KEYS 32                                                // of a warp's tile
#define PITCH (HEAD + IN_VECTOR)                               // of a key in shared memory: rows begin 4 banks apart
#define VECTORS (HEAD / IN_VECTOR)
#define OWN 4                                                  // neighbouring channels of a lane; HEAD / 4 lanes work

// Four neighbouring numbers.
__device__ __forceinline__ void four(const bf16* from, float* to) {
  uint2 x = *reinterpret_cast<const uint2*>(from);
  to[0] = low_half(x.x), to[1] = high_half(x.x), to[2] = low_half(x.y), to[3] = high_half(x.y);
}
__device__ __forceinline__ void four(const float* from, float* to) {
  float4 x = *reinterpret_cast<const float4*>(from);
  to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
}

// The parts of all splits together, for the SHARE heads from `first_head` on. A split without keys has the total 0.
__device__ __forceinline__ void combine(const float* part_most, const float* part_total, const float* part_sum, real* o,
                                        size_t first_head, int splits) {
  for (int i = threadIdx.x; i < SHARE * HEAD; i += THREADS) {
    size_t head = first_head + i / HEAD;
    float largest = NEVER, all = 0.f, whole = 0.f;
    for (int s = 0; s < splits; s++) largest = fmaxf(largest, part_most[head * splits + s]);
    for (int s = 0; s < splits; s++) {
      float keep = __expf(part_most[head * splits + s] - largest);
      all += keep * part_total[head * splits + s];
      whole += keep * part_sum[(head * splits + s) * HEAD + i % HEAD];
    }
    o[head * HEAD + i % HEAD] = narrow(all > 0.f ? whole / all : 0.f);
  }
}

// grid (splits, kv_heads, n), block 128; rows of q, k and v begin at 16 bytes.
// shared: SHARE HEAD + WARPS SHARE (KEYS + 2 + HEAD) + 1 floats, and WARPS KEYS PITCH reals
// Parts are written and read by other blocks here: their pointers are neither const nor __restrict__.
extern "C" __global__ void __launch_bounds__(THREADS, 3)
decode_attend(const real* __restrict__ q, const real* __restrict__ k, const real* __restrict__ v,
              const int* __restrict__ spans, float* part_most, float* part_total, float* part_sum, unsigned* arrived,
              real* __restrict__ o, int kv_heads, float scale) {
  extern __shared__ uint4 shared[];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, kv = blockIdx.y, one = blockIdx.z;
  real* keys = reinterpret_cast<real*>(shared) + warp * KEYS * PITCH;               // of this warp: KEYS PITCH
  float* queries = reinterpret_cast<float*>(reinterpret_cast<real*>(shared) + WARPS * KEYS * PITCH);  // SHARE HEAD
  float* weights = queries + SHARE * HEAD;                                          // WARPS SHARE KEYS
  float* mosts = weights + WARPS * SHARE * KEYS;                                    // WARPS SHARE
  float* totals = mosts + WARPS * SHARE;                                            // WARPS SHARE
  float* sums = totals + WARPS * SHARE;                                             // WARPS SHARE HEAD
  unsigned* before_me = reinterpret_cast<unsigned*>(sums + WARPS * SHARE * HEAD);   // 1
  // 1. the queries of this key-value head, times the scale
  size_t first_head = ((size_t)one * kv_heads + kv) * SHARE;
  let_next_begin();
  wait_for_former();
  for (int i = threadIdx.x; i < SHARE * HEAD; i += THREADS) queries[i] = widen(q[first_head * HEAD + i]) * scale;
  __syncthreads();
  // 2. this split's keys: whole tiles of 128, shared out as evenly as they go
  int k0 = spans[one * 2], k1 = spans[one * 2 + 1];
  int tiles = (k1 - k0 + THREADS - 1) / THREADS, each = (tiles + gridDim.x - 1) / gridDim.x;
  int begin = k0 + blockIdx.x * each * THREADS, end = min(k1, begin + each * THREADS);
  float most[SHARE], total[SHARE], sum[SHARE][OWN];
#pragma unroll
  for (int g = 0; g < SHARE; g++) {
    most[g] = NEVER, total[g] = 0.f;
    for (int c = 0; c < OWN; c++) sum[g][c] = 0.f;
  }
  for (int at = begin + warp * KEYS; at < end; at += THREADS) {
    // 3. 32 keys of this warp
    __syncwarp();                                              // the former ones are no longer read
    for (int i = lane; i < KEYS * VECTORS; i += WARP) {
      int key = at + i / VECTORS, e = i % VECTORS * IN_VECTOR;
      uint4 x = {0u, 0u, 0u, 0u};
      if (key < end) x = *reinterpret_cast<const uint4*>(k + ((size_t)key * kv_heads + kv) * HEAD + e);
      *reinterpret_cast<uint4*>(keys + i / VECTORS * PITCH + e) = x;
    }
    __syncwarp();
    // 4. lane's key times all queries
    float score[SHARE] = {};
#pragma unroll 2
    for (int e = 0; e < HEAD; e += IN_VECTOR) {
      float x[IN_VECTOR];
      unpack(*reinterpret_cast<const uint4*>(keys + lane * PITCH + e), x, real());
#pragma unroll
      for (int g = 0; g < SHARE; g++)
#pragma unroll
        for (int c = 0; c < IN_VECTOR; c += 4) {
          float4 a = *reinterpret_cast<const float4*>(queries + g * HEAD + e + c);
          score[g] += a.x * x[c] + a.y * x[c + 1] + a.z * x[c + 2] + a.w * x[c + 3];
        }
    }
    // 5. the online softmax of each query head
    bool seen = at + lane < end;
#pragma unroll
    for (int g = 0; g < SHARE; g++) {
      float now = fmaxf(most[g], warp_max(seen ? score[g] : NEVER)), keep = __expf(most[g] - now);
      float weight = seen ? __expf(score[g] - now) : 0.f;
      most[g] = now, total[g] = total[g] * keep + warp_sum(weight);
      weights[(warp * SHARE + g) * KEYS + lane] = weight;
#pragma unroll
      for (int c = 0; c < OWN; c++) sum[g][c] *= keep;
    }
    __syncwarp();
    // 6. lane's four channels of the weighted sums
    if (lane < HEAD / OWN)
#pragma unroll 4
      for (int key = 0; key < min(KEYS, end - at); key++) {
        float x[OWN];
        four(v + ((size_t)(at + key) * kv_heads + kv) * HEAD + lane * OWN, x);
#pragma unroll
        for (int g = 0; g < SHARE; g++) {
          float weight = weights[(warp * SHARE + g) * KEYS + key];
#pragma unroll
          for (int c = 0; c < OWN; c++) sum[g][c] += weight * x[c];
        }
      }
  }
  // 7. the four warps together: each scales its sums to the largest score of all
#pragma unroll
  for (int g = 0; g < SHARE; g++) {
    if (lane == 0) mosts[warp * SHARE + g] = most[g], totals[warp * SHARE + g] = total[g];
    if (lane < HEAD / OWN)
#pragma unroll
      for (int c = 0; c < OWN; c++) sums[(warp * SHARE + g) * HEAD + lane * OWN + c] = sum[g][c];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < SHARE * HEAD; i += THREADS) {
    int g = i / HEAD;
    float largest = NEVER, all = 0.f, whole = 0.f;
    for (int w = 0; w < WARPS; w++) largest = fmaxf(largest, mosts[w * SHARE + g]);
    for (int w = 0; w < WARPS; w++) {
      float keep = __expf(mosts[w * SHARE + g] - largest);
      all += keep * totals[w * SHARE + g];
      whole += keep * sums[w * SHARE * HEAD + i];
    }
    size_t part = (first_head + g) * gridDim.x + blockIdx.x;
    part_sum[part * HEAD + i % HEAD] = whole;
    if (i % HEAD == 0) part_most[part] = largest, part_total[part] = all;
  }
  // 8. who comes last combines; the counter is zero again
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();                                           // the block's parts, before the count
    *before_me = atomicInc(arrived + (size_t)one * kv_heads + kv, gridDim.x - 1);
    __threadfence();                                           // the count, before the parts of the others
  }
  __syncthreads();
  if (*before_me == gridDim.x - 1) combine(part_most, part_total, part_sum, o, first_head, gridDim.x);
}
