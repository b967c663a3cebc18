// x * Phi(x) with the exact error function, not its tanh approximation (Hendrycks and Gimpel, 2016): the merger's.
//
//   x (n) -> y (n)
//
// A thread takes one number. Operations: about 8 each. Bytes: x once in, y once out: all of the time.
#include "minivl.cuh"

#define THREADS 256

// grid ceil(n / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
gelu(const real* __restrict__ x, real* __restrict__ y, long long n) {
  long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  float a = widen(x[i]);
  y[i] = narrow(a * 0.5f * (1.f + erff(a * 0.70710678118654752f)));
}
