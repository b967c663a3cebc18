// Rotary embedding (Su et al., 2021), for both of its uses here: the tower's angles of rows and columns, and the
// decoder's MRoPE. The two differ in the angles alone, which come as cosine and sine; channel i of a head turns with
// channel i + HEAD/2.
//
//   x (n, heads, HEAD), cos (n, HEAD/2), sin (n, HEAD/2)  ->  (n, heads, HEAD)
//
// A thread takes one pair. Operations: 6 a pair. Bytes: x once in, once out; the angles are read once a head, from the
// cache. Compile with -DHEAD, -DBF16, and -DTURN=32 for angles in float32 (the tower) or 16 in bfloat16 (a decoder
// that runs in bfloat16: there each product is rounded, as the reference rounds it).
#include "minivl.cuh"
#ifndef HEAD
#define HEAD 64
#endif
#ifndef TURN
#define TURN 32
#endif

#define THREADS 256
#define HALF (HEAD / 2)

#if TURN == 16
typedef bf16 turn;
__device__ __forceinline__ float step(float x) { return widen(to_bf16(x)); }
#else
typedef float turn;
__device__ __forceinline__ float step(float x) { return x; }
#endif

// The pair (a, b) by the angle i of a row.
__device__ __forceinline__ void turn_pair(float a, float b, const turn* __restrict__ cos, const turn* __restrict__ sin,
                                          size_t i, real* first, real* second) {
  float c = widen(cos[i]), s = widen(sin[i]);
  *first = narrow(step(step(a * c) - step(b * s)));
  *second = narrow(step(step(b * c) + step(a * s)));
}

// All heads of rows that lie `stride` numbers apart. grid ceil(n heads HALF / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
rotate(const real* __restrict__ x, const turn* __restrict__ cos, const turn* __restrict__ sin, real* __restrict__ out,
       int n, int heads, int stride) {
  long long at = (long long)blockIdx.x * THREADS + threadIdx.x;
  int i = at % HALF, head = at / HALF % heads;
  long long row = at / HALF / heads;
  if (row >= n) return;
  const real* from = x + row * stride + head * HEAD;
  real* to = out + (row * heads + head) * HEAD;
  turn_pair(widen(from[i]), widen(from[i + HALF]), cos, sin, row * HALF + i, to + i, to + i + HALF);
}

// The decoder's step in one pass over what one product gave, rows of q, k and v side by side: queries turned, keys
// turned and written into the cache, values written there as they are.
//   qkv (n, (heads + 2 kv_heads) HEAD), rows (n): where each row goes in the cache
//   -> q (n, heads, HEAD), k and v (r, kv_heads, HEAD)
//   grid ceil(n (heads + 2 kv_heads) HALF / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
rotate_into_cache(const real* __restrict__ qkv, const turn* __restrict__ cos, const turn* __restrict__ sin,
                  const int* __restrict__ rows, real* __restrict__ q, real* __restrict__ k, real* __restrict__ v,
                  int n, int heads, int kv_heads) {
  int all = heads + 2 * kv_heads;
  long long at = (long long)blockIdx.x * THREADS + threadIdx.x;
  int i = at % HALF, head = at / HALF % all;
  long long row = at / HALF / all;
  if (row >= n) return;
  // 1. whose head this is, and where it goes
  const real* from = qkv + (row * all + head) * HEAD;
  size_t slot = rows[row];
  real* to = head < heads              ? q + (row * heads + head) * HEAD
             : head < heads + kv_heads ? k + (slot * kv_heads + head - heads) * HEAD
                                       : v + (slot * kv_heads + head - heads - kv_heads) * HEAD;
  // 2. turned, or moved
  if (head < heads + kv_heads)
    turn_pair(widen(from[i]), widen(from[i + HALF]), cos, sin, row * HALF + i, to + i, to + i + HALF);
  else
    to[i] = from[i], to[i + HALF] = from[i + HALF];
}
