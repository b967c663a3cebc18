// Rows by number: gather, scatter, and the rows of the embedding table.
//
//   x (r, width), index (n)           ->  out (n, width): out[i] = x[index[i]]
//   out (r, width), index (n), rows   ->  out[index[i]] = rows[i]
//   table (v, width), ids (n)         ->  out (n, width), widened or rounded to what the activations are
//   w (n, width)                      ->  out (n, width), the same for all rows
//
// A block takes a row. Nothing is computed, but for tables of whole numbers (weights.cuh), which are scaled. Bytes: each
// row once in, once out.
#include "minivl.cuh"
#include "weights.cuh"

#define THREADS 128

// grid n, block 128. Rows are of any numbers of `real`'s size.
extern "C" __global__ void __launch_bounds__(THREADS)
take_rows(const real* __restrict__ x, const int* __restrict__ index, real* __restrict__ out, int width) {
  size_t from = (size_t)index[blockIdx.x] * width, to = (size_t)blockIdx.x * width;
  for (int i = threadIdx.x; i < width; i += THREADS) out[to + i] = x[from + i];
}

// grid n, block 128. No two rows have the same number. Rows of `rows` lie `stride` numbers apart.
extern "C" __global__ void __launch_bounds__(THREADS)
put_rows(real* __restrict__ out, const int* __restrict__ index, const real* __restrict__ rows, int width, int stride) {
  size_t to = (size_t)index[blockIdx.x] * width, from = (size_t)blockIdx.x * stride;
  for (int i = threadIdx.x; i < width; i += THREADS) out[to + i] = rows[from + i];
}

// grid n, block 128
extern "C" __global__ void __launch_bounds__(THREADS)
embed(const weight* __restrict__ table, const float* __restrict__ scales, const float* __restrict__ zeros,
      const int* __restrict__ ids, real* __restrict__ out, int width, int pitch) {
  size_t from = ids[blockIdx.x], to = (size_t)blockIdx.x * width;
  for (int i = threadIdx.x; i < width; i += THREADS) out[to + i] = narrow(number_at(table, scales, zeros, from, i, pitch));
}

// All rows of a matrix, as a product of a library takes them: `embed` of the rows in order, a number a thread.
// grid ceil(n width / 128), block 128
extern "C" __global__ void __launch_bounds__(THREADS)
expand(const weight* __restrict__ w, const float* __restrict__ scales, const float* __restrict__ zeros,
       real* __restrict__ out, int n, int width, int pitch) {
  long long at = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (at < (long long)n * width) out[at] = narrow(number_at(w, scales, zeros, at / width, at % width, pitch));
}
