// A few rows times a matrix whose weights are bfloat16, float32 or integers with scales: what decoding is made of.
//
//   x (m, k), w (n, k)  ->  y (m, n) = x w^T + bias, m = ROWS of 1 to 4; and for a gated MLP, whose w (2n, k) holds
//   gate above up:          y (m, n) = silu(x gate^T) * (x up^T)
//
// and for queries, keys and values: turned by the angles of their rows and written where attention reads them. In front
// of the product the RMS norm of x can be formed, so that a layer's first half is this, attention, and this again.
//
// Operations: 2 m n k. Bytes: the weights, once: 2 n k in bfloat16, n k in int8, n k / 2 in int4. One row makes one
// operation of each byte, and a card can do a hundred: time is the bytes over the bandwidth, and all that a kernel
// can do is to keep enough loads of enough bytes under way.
//
// Rungs: naive (a thread for each row of w), warp (a warp, neighbouring lanes read neighbouring numbers), vectorised
// (16 bytes a load, two rows of w at a time, x in shared memory), and the same for gate and up.
//
// A row of bfloat16 begins at 16 bytes only where k is a multiple of 8; the tower's MLP is 3,420 wide, and every
// other row of its down matrix begins in the middle. Each row is read from its first number: single ones up to the
// next 16 bytes, whole vectors, and single ones at the end.
//
// `residual` may be `y` itself. -DROWS=1..4, -DWEIGHT: how w is kept (weights.cuh).
#include "minivl.cuh"
#include "weights.cuh"
#ifndef ROWS
#define ROWS 1
#endif

#define WARPS 8
#define THREADS (WARPS * WARP)
#define TWO 2                                                  // rows of w that a warp works on at a time

// Weights in 16 bytes.
#if WEIGHT == 16
#define IN_LOAD 8
#elif WEIGHT == 32
#define IN_LOAD 4
#elif WEIGHT == 8
#define IN_LOAD 16
#else
#define IN_LOAD 32
#endif

__device__ __forceinline__ float silu(float x) { return rounded(x / (1.f + __expf(-x))); }

// A sum as it is given: the bias added in float32, rounded once, and the residual stream's row added after that.
__device__ __forceinline__ real finished(float sum, const float* __restrict__ bias, const real* residual,
                                         int has_bias, int has_residual, int row, size_t at) {
  float y = rounded(has_bias ? sum + bias[row] : sum);
  return narrow(has_residual ? y + widen(residual[at]) : y);
}

// ---------------------------------------------------------------------------------------------- rung 1: naive
// A thread takes one row of w. Neighbouring threads read numbers that lie a whole row apart: of every 32 bytes that
// the memory gives, two are used at a time.
//   grid ceil(n / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
gemv_naive(const real* __restrict__ x, const weight* __restrict__ w, const float* __restrict__ scales,
           const float* __restrict__ zeros, const float* __restrict__ bias, const real* residual,
           real* y, int n, int k, int pitch, int has_bias, int has_residual) {
  int row = blockIdx.x * THREADS + threadIdx.x;
  if (row >= n) return;
  for (int m = 0; m < ROWS; m++) {
    float sum = 0.f;
    for (int i = 0; i < k; i++) sum += number_at(w, scales, zeros, row, i, pitch) * widen(x[(size_t)m * k + i]);
    size_t at = (size_t)m * n + row;
    y[at] = finished(sum, bias, residual, has_bias, has_residual, row, at);
  }
}

// ------------------------------------------------------------------------------------------------ rung 2: warp
// A warp takes one row of w: 32 neighbours at a time, and a sum over the lanes at the end.
//   grid ceil(n / 8), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
gemv_warp(const real* __restrict__ x, const weight* __restrict__ w, const float* __restrict__ scales,
          const float* __restrict__ zeros, const float* __restrict__ bias, const real* residual,
          real* y, int n, int k, int pitch, int has_bias, int has_residual) {
  int row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= n) return;                                        // whole warps leave: no lane is missed below
  float sum[ROWS] = {};
  for (int i = lane; i < k; i += WARP) {
    float number = number_at(w, scales, zeros, row, i, pitch);
    for (int m = 0; m < ROWS; m++) sum[m] += number * widen(x[(size_t)m * k + i]);
  }
  for (int m = 0; m < ROWS; m++) {
    float whole = warp_sum(sum[m]);
    size_t at = (size_t)m * n + row;
    if (lane == 0) y[at] = finished(whole, bias, residual, has_bias, has_residual, row, at);
  }
}

// ------------------------------------------------------------------------------------------ rung 3: vectorised

// x lies in shared memory as it is stored. A lane that loads IN_LOAD weights needs as many numbers of x, in pieces of
// 16 bytes; were they in order, lanes would read that far apart and meet in the same banks. So the first pieces of 32
// lanes lie side by side, then their second ones. Where number i of a row is:
#define PIECES (IN_LOAD < IN_VECTOR ? 1 : IN_LOAD / IN_VECTOR)
#define STRETCH (WARP * IN_LOAD)                               // numbers that a warp reads at a time
__device__ __forceinline__ int place(int i) {
  const int vector = IN_LOAD < IN_VECTOR ? IN_LOAD : IN_VECTOR;
  int load = i / IN_LOAD, piece = i % IN_LOAD / vector;
  return ((load / WARP * PIECES + piece) * WARP + load % WARP) * vector + i % vector;
}

// The first bytes of `count` rows of w from `row` on are asked for while the kernel in front of this one still runs:
// those that a block works on in its first two rounds.
#define EARLIEST 2                                             // rounds
#define AHEAD (THREADS / 2 * LINE)                             // bytes at a time, at most
__device__ __forceinline__ void ask_ahead(const weight* w, int row, int count, int pitch) {
  const size_t row_bytes = (size_t)pitch * WEIGHT / 8;
  prefetch(reinterpret_cast<const char*>(w) + row * row_bytes, min(count * row_bytes, (size_t)AHEAD));
}

// ROWS rows of x, each of `length` numbers, a multiple of STRETCH; what lies beyond k is zero. Where has_norm says so,
// what is multiplied is the RMS norm of the rows (norm.cu) with the weight `norm`: every block forms it anew, which
// costs less than a launch of its own. Here is where a kernel waits for the one in front of it. `parts`: WARPS floats of
// shared memory.
__device__ __forceinline__ void load_rows(const real* __restrict__ x, real* shared, float* parts, int k, int length,
                                          const float* __restrict__ norm, float eps, int has_norm) {
  wait_for_former();
  for (int m = 0; m < ROWS; m++) {
    const real* row = x + (size_t)m * k;
    float turn = 1.f;
    if (has_norm) {
      // 1. the mean square: of each thread, of each warp, of the block
      float sum = 0.f;
      for (int i = threadIdx.x; i < k; i += THREADS) sum += widen(row[i]) * widen(row[i]);
      sum = warp_sum(sum);
      __syncthreads();                                         // the former row's parts are no longer read
      if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = sum;
      __syncthreads();
      float mine = threadIdx.x % WARP < WARPS ? parts[threadIdx.x % WARP] : 0.f;
      turn = 1.f / sqrtf(warp_sum(mine) / (float)k + eps);
    }
    // 2. the numbers, rounded before the weight and after it
    for (int i = threadIdx.x; i < length; i += THREADS) {
      real number = i < k ? row[i] : (real)0;
      if (has_norm && i < k) number = narrow(rounded(widen(number) * turn) * norm[i]);
      shared[m * length + place(i)] = number;
    }
  }
  __syncthreads();
}

// The numbers of x that belong to a load: from number i on. `whole`: i is a multiple of IN_LOAD.
__device__ __forceinline__ void numbers_of_x(const real* shared, int i, bool whole, float* numbers) {
  if (whole && IN_LOAD >= IN_VECTOR) {
#pragma unroll
    for (int p = 0; p < PIECES; p++)
      unpack(*reinterpret_cast<const uint4*>(shared + place(i + p * IN_VECTOR)), numbers + p * IN_VECTOR, real());
  } else {
#pragma unroll
    for (int c = 0; c < IN_LOAD; c++) numbers[c] = widen(shared[place(i + c)]);
  }
}

// The weights of one 16-byte load times the numbers of x, added to the sum of each row of x.
__device__ __forceinline__ void multiply(uint4 load, const real* shared, int i, int length, bool whole, float scale,
                                         float zero, float* sum) {
#pragma unroll
  for (int m = 0; m < ROWS; m++) {
    float x[IN_LOAD];
    numbers_of_x(shared + m * length, i, whole, x);
#if WEIGHT == 16 || WEIGHT == 32
    float numbers[IN_LOAD];
    unpack(load, numbers, weight());
#pragma unroll
    for (int c = 0; c < IN_LOAD; c++) sum[m] += numbers[c] * x[c];
#else
    // Whole numbers times x; scale and zero once for all of them.
    unsigned words[4] = {load.x, load.y, load.z, load.w};
    float part = 0.f, plain = 0.f;
#pragma unroll
    for (int c = 0; c < IN_LOAD; c++) {
#if WEIGHT == 8
      part += (float)(int)(signed char)(words[c / 4] >> c % 4 * 8) * x[c];
#else
      part += (float)(words[c / 8] >> c % 8 * 4 & 15u) * x[c];
      plain += x[c];
#endif
    }
    sum[m] += scale * (part - zero * plain);
#endif
  }
}

// One slice of rows row[0] and row[1] of w times all rows of x: loads `slice`, slice + slices, ... of 32 lanes each.
__device__ __forceinline__ void two_rows(const weight* __restrict__ w, const float* __restrict__ scales,
                                         const float* __restrict__ zeros, const real* shared, const int* row, int k,
                                         int pitch, int length, int slice, int slices, float sum[TWO][ROWS]) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int r = 0; r < TWO; r++)
#pragma unroll
    for (int m = 0; m < ROWS; m++) sum[r][m] = 0.f;
#if WEIGHT == 16 || WEIGHT == 32
  // 1. single numbers up to the first 16 bytes of each row, and those after the last
  int head[TWO], loads[TWO];
#pragma unroll
  for (int r = 0; r < TWO; r++) {
    size_t start = (size_t)row[r] * pitch;
    head[r] = min((int)(-start & (IN_LOAD - 1)), k);
    loads[r] = (k - head[r]) / IN_LOAD;
    int i = lane < head[r] ? lane : loads[r] * IN_LOAD + lane;
    if (i < k && slice == 0)
      for (int m = 0; m < ROWS; m++) sum[r][m] += widen(w[start + i]) * widen(shared[m * length + place(i)]);
  }
  // 2. vectors: the loads of both rows are under way before the first is used
#pragma unroll 2
  for (int i = slice * WARP + lane; i < max(loads[0], loads[1]); i += slices * WARP) {
    uint4 load[TWO] = {};
#pragma unroll
    for (int r = 0; r < TWO; r++)
      if (i < loads[r]) load[r] = reinterpret_cast<const uint4*>(w + (size_t)row[r] * pitch + head[r])[i];
#pragma unroll
    for (int r = 0; r < TWO; r++)
      if (i < loads[r])
        multiply(load[r], shared, head[r] + i * IN_LOAD, length, head[r] == 0, 1.f, 0.f, sum[r]);
  }
#else
  // Rows are padded: all are whole vectors.
#pragma unroll 2
  for (int i = slice * WARP + lane; i < pitch / IN_LOAD; i += slices * WARP) {
    uint4 load[TWO];
#pragma unroll
    for (int r = 0; r < TWO; r++)
      load[r] = reinterpret_cast<const uint4*>(w)[(size_t)row[r] * (pitch / IN_LOAD) + i];
#pragma unroll
    for (int r = 0; r < TWO; r++) {
#if WEIGHT == 8
      multiply(load[r], shared, i * IN_LOAD, length, true, scales[row[r]], 0.f, sum[r]);
#else
      size_t group = (size_t)row[r] * (pitch / GROUP) + i * IN_LOAD / GROUP;
      multiply(load[r], shared, i * IN_LOAD, length, true, scales[group], zeros[group], sum[r]);
#endif
    }
  }
#endif
  // 3. the lanes together
#pragma unroll
  for (int r = 0; r < TWO; r++)
#pragma unroll
    for (int m = 0; m < ROWS; m++) sum[r][m] = warp_sum(sum[r][m]);
}

// Slices of the same two rows, which are in neighbouring warps, added up: the sums of warp `first` and the next ones,
// in all lanes. Every thread of the block comes here.
__device__ __forceinline__ void join_slices(float sum[TWO][ROWS], float* parts, int warp, int slices) {
  if (slices == 1) return;
  __syncthreads();                                             // the former sums are no longer read
  for (int r = 0; r < TWO; r++)
    for (int m = 0; m < ROWS; m++)
      if (threadIdx.x % WARP == 0) parts[(warp * TWO + r) * ROWS + m] = sum[r][m];
  __syncthreads();
  for (int r = 0; r < TWO; r++)
    for (int m = 0; m < ROWS; m++) {
      sum[r][m] = 0.f;
      for (int s = 0; s < slices; s++) sum[r][m] += parts[((warp / slices * slices + s) * TWO + r) * ROWS + m];
    }
}

// A warp takes a slice of two rows of w. Where w has few rows, more slices keep more loads under way: slices of 1, 2, 4
// or 8 warps work on the same two rows. A block goes on to further rows as long as there are any, so that a grid of as
// many blocks as the card holds reads x once a block.
//   grid min(ceil(n slices / 16), what the card holds), block 256,
//   shared ROWS length reals (length: k rounded up to STRETCH) and 16 ROWS floats
extern "C" __global__ void __launch_bounds__(THREADS, ROWS == 1 ? 3 : 1)
gemv_vectorised(const real* __restrict__ x, const weight* __restrict__ w, const float* __restrict__ scales,
                const float* __restrict__ zeros, const float* __restrict__ bias, const real* residual,
                real* y, int n, int k, int pitch, int has_bias, int has_residual, int slices,
                const float* __restrict__ norm, float eps, int has_norm) {
  extern __shared__ uint4 shared[];
  int length = (pitch + STRETCH - 1) / STRETCH * STRETCH;
  real* rows_of_x = reinterpret_cast<real*>(shared);
  float* parts = reinterpret_cast<float*>(rows_of_x + ROWS * length);
  int warp = threadIdx.x / WARP, pairs = WARPS / slices;       // of rows, that the block works on at a time
  int begin = blockIdx.x * pairs, step = gridDim.x * pairs;
  for (int pair = begin; pair < begin + EARLIEST * step && pair * TWO < n; pair += step)
    ask_ahead(w, pair * TWO, min(pairs * TWO, n - pair * TWO), pitch);
  load_rows(x, rows_of_x, parts, k, length, norm, eps, has_norm);
  for (int pair = begin; pair * TWO < n; pair += step) {
    if ((pair + step) * TWO >= n) let_next_begin();            // the block's last rows
    int first = (pair + warp / slices) * TWO;
    int row[TWO] = {min(first, n - 1), min(first + 1, n - 1)};       // beyond the last: worked out, not written
    float sum[TWO][ROWS];
    two_rows(w, scales, zeros, rows_of_x, row, k, pitch, length, warp % slices, slices, sum);
    join_slices(sum, parts, warp, slices);
#pragma unroll
    for (int r = 0; r < TWO; r++)
#pragma unroll
      for (int m = 0; m < ROWS; m++) {
        size_t at = (size_t)m * n + first + r;
        if (threadIdx.x % WARP == 0 && warp % slices == 0 && first + r < n)
          y[at] = finished(sum[r][m], bias, residual, has_bias, has_residual, row[r], at);
      }
  }
}

// The same for gate and up: the two rows are row i of the gate and row i of up, so that silu(gate) * up is formed
// where both are. Neither goes through memory.
//   grid min(ceil(n slices / 8), what the card holds), block 256, shared as above; w (2n, k), bias (2n)
extern "C" __global__ void __launch_bounds__(THREADS, ROWS == 1 ? 3 : 1)
gemv_gate_up(const real* __restrict__ x, const weight* __restrict__ w, const float* __restrict__ scales,
             const float* __restrict__ zeros, const float* __restrict__ bias, real* y, int n, int k,
             int pitch, int has_bias, int slices, const float* __restrict__ norm, float eps, int has_norm) {
  extern __shared__ uint4 shared[];
  int length = (pitch + STRETCH - 1) / STRETCH * STRETCH;
  real* rows_of_x = reinterpret_cast<real*>(shared);
  float* parts = reinterpret_cast<float*>(rows_of_x + ROWS * length);
  int warp = threadIdx.x / WARP, pairs = WARPS / slices;
  int begin = blockIdx.x * pairs, step = gridDim.x * pairs;
  for (int pair = begin; pair < begin + EARLIEST * step && pair < n; pair += step) {
    ask_ahead(w, pair, min(pairs, n - pair), pitch);
    ask_ahead(w, n + pair, min(pairs, n - pair), pitch);
  }
  load_rows(x, rows_of_x, parts, k, length, norm, eps, has_norm);
  for (int pair = begin; pair < n; pair += step) {
    if (pair + step >= n) let_next_begin();
    int i = pair + warp / slices, gate_row = min(i, n - 1);
    int row[TWO] = {gate_row, n + gate_row};
    float sum[TWO][ROWS];
    two_rows(w, scales, zeros, rows_of_x, row, k, pitch, length, warp % slices, slices, sum);
    join_slices(sum, parts, warp, slices);
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
      float gate = rounded(has_bias ? sum[0][m] + bias[gate_row] : sum[0][m]);
      float up = rounded(has_bias ? sum[1][m] + bias[n + gate_row] : sum[1][m]);
      if (threadIdx.x % WARP == 0 && warp % slices == 0 && i < n) y[(size_t)m * n + i] = narrow(silu(gate) * up);
    }
  }
}

// The same for queries, keys and values of a decoder's step: a warp's two rows are channels i and i + half of one head,
// which rotary embedding turns together (rotary.cu). Queries go to q, keys and values to their rows of the cache.
//   w ((heads + 2 kv_heads) 2 half, k), cos and sin (m, half), rows (m) -> q (m, heads, 2 half), key and value caches
//   grid min(ceil((heads + 2 kv_heads) half slices / 8), what the card holds), block 256, shared as above
extern "C" __global__ void __launch_bounds__(THREADS, ROWS == 1 ? 3 : 1)
gemv_qkv(const real* __restrict__ x, const weight* __restrict__ w, const float* __restrict__ scales,
         const float* __restrict__ zeros, const float* __restrict__ bias, const real* __restrict__ cos,
         const real* __restrict__ sin, const int* __restrict__ rows, real* __restrict__ q, real* __restrict__ keys,
         real* __restrict__ values, int heads, int kv_heads, int half, int k, int pitch, int has_bias, int slices,
         const float* __restrict__ norm, float eps, int has_norm) {
  extern __shared__ uint4 shared[];
  int length = (pitch + STRETCH - 1) / STRETCH * STRETCH;
  real* rows_of_x = reinterpret_cast<real*>(shared);
  float* parts = reinterpret_cast<float*>(rows_of_x + ROWS * length);
  int warp = threadIdx.x / WARP, pairs = WARPS / slices, all = (heads + 2 * kv_heads) * half;
  int begin = blockIdx.x * pairs, step = gridDim.x * pairs;
  for (int pair = begin; pair < begin + EARLIEST * step && pair < all; pair += step) {
    int row = pair / half * half + pair, count = min(pairs, half - pair % half);       // of one head
    ask_ahead(w, row, count, pitch);
    ask_ahead(w, row + half, count, pitch);
  }
  load_rows(x, rows_of_x, parts, k, length, norm, eps, has_norm);
  for (int pair = begin; pair < all; pair += step) {
    if (pair + step >= all) let_next_begin();
    // 1. which two channels these are, and their products
    int mine = pair + warp / slices, p = min(mine, all - 1);
    int head = p / half, i = p % half;
    int row[TWO] = {2 * head * half + i, 2 * head * half + i + half};
    float sum[TWO][ROWS];
    two_rows(w, scales, zeros, rows_of_x, row, k, pitch, length, warp % slices, slices, sum);
    join_slices(sum, parts, warp, slices);
    if (threadIdx.x % WARP != 0 || warp % slices != 0 || mine >= all) continue;
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
      float a = rounded(has_bias ? sum[0][m] + bias[row[0]] : sum[0][m]);
      float b = rounded(has_bias ? sum[1][m] + bias[row[1]] : sum[1][m]);
      // 2. turned, unless they are a value's
      float first = a, second = b;
      if (head < heads + kv_heads) {
        float c = widen(cos[m * half + i]), s = widen(sin[m * half + i]);
        first = rounded(a * c) - rounded(b * s), second = rounded(b * c) + rounded(a * s);
      }
      // 3. where they go
      size_t slot = rows[m];
      real* to = head < heads              ? q + ((size_t)m * heads + head) * 2 * half
                 : head < heads + kv_heads ? keys + (slot * kv_heads + head - heads) * 2 * half
                                           : values + (slot * kv_heads + head - heads - kv_heads) * 2 * half;
      to[i] = narrow(first), to[i + half] = narrow(second);
    }
  }
}
