// The residual stream: RMS norm (Zhang and Sennrich, 2019), the sum, and both in one pass.
//
//   x (n, d), w (d)             ->  y (n, d) = round(x / sqrt(mean(x^2) + eps)) * w
//   x (n, d), more (n, d), w    ->  x + more, written over x, and the norm of that
//
// A block takes a row, 16 bytes a thread and load where d allows it; a row is read twice, the second time from the
// cache. Operations: 4 n d. Bytes: x once in, y once out (and `more`): all of the time.
#include "minivl.cuh"

#define THREADS 256
#define WARPS (THREADS / WARP)

// The sum of a number of each thread of the block, in all of them. `parts`: WARPS floats of shared memory.
__device__ __forceinline__ float block_sum(float x, float* parts) {
  x = warp_sum(x);
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = x;
  __syncthreads();
  int lane = threadIdx.x % WARP;
  return warp_sum(lane < WARPS ? parts[lane] : 0.f);
}

// ---------------------------------------------------------------------------------------------- rung 1: naive
// A thread takes a row. grid ceil(n / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
rms_norm_naive(const real* __restrict__ x, const float* __restrict__ w, real* __restrict__ y, int n, int d, float eps) {
  int row = blockIdx.x * THREADS + threadIdx.x;
  if (row >= n) return;
  float sum = 0.f;
  for (int i = 0; i < d; i++) sum += widen(x[(size_t)row * d + i]) * widen(x[(size_t)row * d + i]);
  float turn = 1.f / sqrtf(sum / (float)d + eps);
  for (int i = 0; i < d; i++) y[(size_t)row * d + i] = narrow(rounded(widen(x[(size_t)row * d + i]) * turn) * w[i]);
}

// ---------------------------------------------------------------------------------------------- rung 2: a block
// grid n, block 256, shared 8 floats
extern "C" __global__ void __launch_bounds__(THREADS)
rms_norm(const real* __restrict__ x, const float* __restrict__ w, real* __restrict__ y, int d, float eps) {
  extern __shared__ float parts[];
  const real* from = x + (size_t)blockIdx.x * d;
  // 1. the mean square
  float sum = 0.f;
  for (int i = threadIdx.x; i < d; i += THREADS) sum += widen(from[i]) * widen(from[i]);
  float turn = 1.f / sqrtf(block_sum(sum, parts) / (float)d + eps);
  // 2. round, then the weight
  for (int i = threadIdx.x; i < d; i += THREADS)
    y[(size_t)blockIdx.x * d + i] = narrow(rounded(widen(from[i]) * turn) * w[i]);
}

// ----------------------------------------------------------------------------------------- rung 3: vectorised
// d is a multiple of 16 bytes' numbers, and rows begin at 16 bytes. grid n, block 256, shared 8 floats.
// `more` is added to x first, where has_more says so: the sum is rounded, written over x, and normalised.
extern "C" __global__ void __launch_bounds__(THREADS)
add_rms_norm(real* __restrict__ x, const real* __restrict__ more, const float* __restrict__ w, real* __restrict__ y,
             int d, float eps, int has_more) {
  extern __shared__ float parts[];
  uint4* row = reinterpret_cast<uint4*>(x + (size_t)blockIdx.x * d);
  uint4* out = reinterpret_cast<uint4*>(y + (size_t)blockIdx.x * d);
  const uint4* added = reinterpret_cast<const uint4*>(more + (size_t)blockIdx.x * d * has_more);
  // 1. the sum, and its mean square
  float sum = 0.f;
  for (int i = threadIdx.x; i < d / IN_VECTOR; i += THREADS) {
    float a[IN_VECTOR], b[IN_VECTOR] = {};
    unpack(row[i], a, real());
    if (has_more) {
      unpack(added[i], b, real());
      for (int c = 0; c < IN_VECTOR; c++) a[c] = rounded(a[c] + b[c]);
      row[i] = pack(a);
    }
    for (int c = 0; c < IN_VECTOR; c++) sum += a[c] * a[c];
  }
  float turn = 1.f / sqrtf(block_sum(sum, parts) / (float)d + eps);
  // 2. round, then the weight. Each thread reads again what it wrote itself.
  for (int i = threadIdx.x; i < d / IN_VECTOR; i += THREADS) {
    float a[IN_VECTOR];
    unpack(row[i], a, real());
    for (int c = 0; c < IN_VECTOR; c++) a[c] = rounded(a[c] * turn) * w[i * IN_VECTOR + c];
    out[i] = pack(a);
  }
}

// The sum alone, of any shape. grid ceil(n / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
add(const real* __restrict__ x, const real* __restrict__ y, real* __restrict__ out, long long n) {
  long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i < n) out[i] = narrow(widen(x[i]) + widen(y[i]));
}
