// Numbers from one storage to the other: what a product of a library takes is made from what a kernel gave.
//
//   x (n) bfloat16 -> y (n) float32, exact;  x (n) float32 -> y (n) bfloat16, to nearest even
//
// A thread takes one number. Bytes: x once in, y once out.
#include "minivl.cuh"

#define THREADS 256

// grid ceil(n / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
to_float32(const bf16* __restrict__ x, float* __restrict__ y, long long n) {
  long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i < n) y[i] = widen(x[i]);
}

// grid ceil(n / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
to_bfloat16(const float* __restrict__ x, bf16* __restrict__ y, long long n) {
  long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i < n) y[i] = to_bf16(x[i]);
}

// What a product of a library gave in float32: the bias added, rounded once. x (n, d), bias (d)
//   grid ceil(n d / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
finish(const float* __restrict__ x, const float* __restrict__ bias, real* __restrict__ y, long long n, int d,
       int has_bias) {
  long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i < n * d) y[i] = narrow(has_bias ? x[i] + bias[i % d] : x[i]);
}
