// silu(gate) * up, of rows that hold gate and up side by side, gate first (Shazeer, 2020): for many rows, whose gate
// and up are one product of a library. For a few rows see `gemv_gate_up` in gemv.cu.
//
//   x (n, 2h) -> y (n, h);  y = round(round(gate / (1 + exp(-gate))) * up)
//
// A thread takes one number. Operations: 5 each. Bytes: x once in, y once out: all of the time.
#include "minivl.cuh"

#define THREADS 256

// grid ceil(n h / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
swiglu(const real* __restrict__ x, real* __restrict__ y, int n, int h) {
  long long at = (long long)blockIdx.x * THREADS + threadIdx.x;
  long long row = at / h;
  int i = at % h;
  if (row >= n) return;
  float gate = widen(x[row * 2 * h + i]), up = widen(x[row * 2 * h + h + i]);
  y[at] = narrow(rounded(gate / (1.f + expf(-gate))) * up);    // expf may be infinite: gate / inf is -0
}
