// How a matrix of weights is kept, and one number of it. Stands behind minivl.cuh in the kernels that read weights.
//
// -DWEIGHT=16: w is bfloat16, 32: float32, 8: int8 with a scale for each row (w = number * scale), 4: int4, groups of
// 128 neighbours along k (w = (number - zero) * scale; eight numbers in a word, the lowest k in the lowest bits).
// int8 rows are padded to 16 numbers, int4 rows to 128: `pitch` is the length of a row in numbers. scales: (n) for int8,
// (n, pitch / 128) for int4; zeros: as scales for int4; else both are not read.
#ifndef WEIGHTS_CUH
#define WEIGHTS_CUH
#ifndef WEIGHT
#define WEIGHT 16
#endif

#define GROUP 128                                              // neighbours along k with one scale in int4

#if WEIGHT == 16
typedef bf16 weight;
#elif WEIGHT == 32
typedef float weight;
#elif WEIGHT == 8
typedef signed char weight;
#else
typedef unsigned weight;                                       // eight numbers
#endif

// One weight as a number.
__device__ __forceinline__ float number_at(const weight* __restrict__ w, const float* __restrict__ scales,
                                           const float* __restrict__ zeros, size_t row, int i, int pitch) {
#if WEIGHT == 16 || WEIGHT == 32
  return widen(w[row * pitch + i]);
#elif WEIGHT == 8
  return (float)w[row * pitch + i] * scales[row];
#else
  size_t at = row * pitch + i, group = row * (pitch / GROUP) + i / GROUP;
  return ((float)(w[at / 8] >> at % 8 * 4 & 15u) - zeros[group]) * scales[group];
#endif
}

#endif
