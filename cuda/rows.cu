// Rows by number: gather, scatter, and the rows of the embedding table.
//
//   x (r, width), index (n)           ->  out (n, width): out[i] = x[index[i]]
//   out (r, width), index (n), rows   ->  out[index[i]] = rows[i]
//   table (v, width), ids (n)         ->  out (n, width), widened or rounded to what the activations are
//
// A block takes a row. Nothing is computed. Bytes: each row once in, once out.
#include "minivl.cuh"

#define THREADS 128
#ifndef TABLE
#define TABLE 16                                               // the table's numbers: 16 bfloat16, 32 float32
#endif

#if TABLE == 16
typedef bf16 entry;
#else
typedef float entry;
#endif

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
embed(const entry* __restrict__ table, const int* __restrict__ ids, real* __restrict__ out, int width) {
  size_t from = (size_t)ids[blockIdx.x] * width, to = (size_t)blockIdx.x * width;
  for (int i = threadIdx.x; i < width; i += THREADS) out[to + i] = narrow(widen(table[from + i]));
}
