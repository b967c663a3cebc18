// What every kernel of this folder shares: numbers as they are stored, sums over a warp, 16-byte loads.
//
// Storage is chosen when a kernel is compiled: -DBF16=1 keeps activations as bfloat16 (a `real` is its 16
// bits), -DBF16=0 as float32. Arithmetic is float32 in both. Rounding is part of what a kernel means: a
// result is rounded once, to nearest even, where the definitions in `minivl/kernels/definition.py` round.
//
// The text of this file is put in the place of its #include before a kernel is compiled.
#ifndef MINIVL_CUH
#define MINIVL_CUH
#ifndef BF16
#define BF16 0
#endif
#ifdef TENSOR
#include <cuda_bf16.h>
#include <mma.h>
#endif

typedef unsigned short bf16;                                  // the upper half of a float32
#if BF16
typedef bf16 real;
#else
typedef float real;
#endif

#define WARP 32
#define ALL_LANES 0xffffffffu
#define NEVER -1e30f                                          // a score no real one comes near; exp of it is 0

// ---- numbers

__device__ __forceinline__ float widen(bf16 x) { return __uint_as_float((unsigned)x << 16); }
__device__ __forceinline__ float widen(float x) { return x; }

// Nearest even. A NaN keeps its upper bits and is made quiet, so that rounding never turns it into infinity.
__device__ __forceinline__ bf16 to_bf16(float x) {
  unsigned bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bf16)((bits | 0x400000u) >> 16);
  return (bf16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#if BF16
__device__ __forceinline__ real narrow(float x) { return to_bf16(x); }
__device__ __forceinline__ float rounded(float x) { return widen(to_bf16(x)); }
#else
__device__ __forceinline__ real narrow(float x) { return x; }
__device__ __forceinline__ float rounded(float x) { return x; }
#endif

// Two bfloat16 in one word, the first in the lower half.
__device__ __forceinline__ float low_half(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_half(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

// ---- sums and maxima over the 32 lanes of a warp; every lane gets the result

__device__ __forceinline__ float warp_sum(float x) {
  for (int step = WARP / 2; step > 0; step >>= 1) x += __shfl_xor_sync(ALL_LANES, x, step);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
  for (int step = WARP / 2; step > 0; step >>= 1) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
  return x;
}

// ---- kernels that overlap: one may begin before the one in front of it has ended, where the launch says so
// (programmatic dependent launch, cards from sm_90 on; elsewhere these do nothing, and kernels follow each other)

// Called by every block: the next kernel may begin as soon as there is room.
__device__ __forceinline__ void let_next_begin() {
#if !defined(MINIVL_CPU) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// All kernels in front have ended, and what they wrote is seen. Nothing of an argument is touched before this, and
// every thread comes here: then whoever waits for this kernel has waited for those in front of it, too.
__device__ __forceinline__ void wait_for_former() {
#ifdef MINIVL_CPU
  cuda_host::wait_for_former();
#elif __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

#define LINE 128                                               // bytes that come from memory at a time

// Ask for `bytes` bytes to be brought into the card's second cache, a line for each of the first threads: while a kernel
// waits, its first weights are on their way. This is advice: nothing is read.
__device__ __forceinline__ void prefetch(const void* from, size_t bytes) {
  const char* line = static_cast<const char*>(from) + (size_t)threadIdx.x * LINE;
  if ((size_t)threadIdx.x * LINE >= bytes) return;
#ifdef MINIVL_CPU
  cuda_host::before_prefetch(line, 1);
#elif __CUDA_ARCH__ >= 900
  asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
#endif
}

// ---- vectors of 16 bytes: 8 bfloat16 or 4 float32

#define IN_VECTOR (16 / (int)sizeof(real))

__device__ __forceinline__ void unpack(uint4 from, float* to, bf16) {
  to[0] = low_half(from.x), to[1] = high_half(from.x), to[2] = low_half(from.y), to[3] = high_half(from.y);
  to[4] = low_half(from.z), to[5] = high_half(from.z), to[6] = low_half(from.w), to[7] = high_half(from.w);
}

__device__ __forceinline__ void unpack(uint4 from, float* to, float) {
  to[0] = __uint_as_float(from.x), to[1] = __uint_as_float(from.y);
  to[2] = __uint_as_float(from.z), to[3] = __uint_as_float(from.w);
}

// Rounded, the other way.
__device__ __forceinline__ uint4 pack(const float* from) {
  uint4 to;
#if BF16
  to.x = to_bf16(from[0]) | (unsigned)to_bf16(from[1]) << 16, to.y = to_bf16(from[2]) | (unsigned)to_bf16(from[3]) << 16;
  to.z = to_bf16(from[4]) | (unsigned)to_bf16(from[5]) << 16, to.w = to_bf16(from[6]) | (unsigned)to_bf16(from[7]) << 16;
#else
  to.x = __float_as_uint(from[0]), to.y = __float_as_uint(from[1]);
  to.z = __float_as_uint(from[2]), to.w = __float_as_uint(from[3]);
#endif
  return to;
}

#endif
