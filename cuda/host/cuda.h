// CUDA C++ on the CPU: the words of a kernel, each with the meaning that it has on a GPU. Included before a
// kernel's own text when the text is compiled for the machine of machine.h.
//
// Where CUDA leaves something open, this file takes the strict side: a mask that names a lane which has ended,
// or a barrier that some threads of a block never reach, is an error, though some cards would go on.
//
// Not here: launching (launch.h). Read next: cuda_bf16.h, mma.h.
#pragma once
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

#define MINIVL_CPU 1                      // so that a kernel can tell: #ifdef MINIVL_CPU
#define __CUDA_ARCH__ 800
#define __global__ __attribute__((noinline))
#define __device__ __attribute__((unused))
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__
// The only static variables of functions are shared arrays: that is how Python finds them in the compiled file.
#define __shared__ static

// Who calls: the last two parameters of what a kernel calls, and the place that they make.
#define CUDA_HOST_CALLER const char* file = __builtin_FILE(), int line = __builtin_LINE()
#define CUDA_HOST_AT cuda_host::Place{file, line}
#define CUDA_HOST_INLINE inline __attribute__((always_inline))

// ---- 1. where a thread is

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
#define threadIdx (cuda_host::thread_index())
#define blockIdx (cuda_host::block_index())
#define blockDim (cuda_host::block_size())
#define gridDim (cuda_host::grid_size())
constexpr int warpSize = 32;

// ---- 2. vectors: loads of 8 and 16 bytes at once, aligned as on a GPU

#define VECTOR2(name, type, align)                                     \
  struct alignas(align) name##2 { type x, y; };                        \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }
#define VECTOR4(name, type, align)                                     \
  struct alignas(align) name##4 { type x, y, z, w; };                  \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
#define VECTOR3(name, type)                                            \
  struct name##3 { type x, y, z; };                                    \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }
VECTOR2(char, signed char, 2) VECTOR4(char, signed char, 4)
VECTOR2(uchar, unsigned char, 2) VECTOR4(uchar, unsigned char, 4)
VECTOR2(short, short, 4) VECTOR4(short, short, 8)
VECTOR2(ushort, unsigned short, 4) VECTOR4(ushort, unsigned short, 8)
VECTOR2(int, int, 8) VECTOR3(int, int) VECTOR4(int, int, 16)
VECTOR2(uint, unsigned, 8) VECTOR4(uint, unsigned, 16)
VECTOR2(float, float, 8) VECTOR3(float, float) VECTOR4(float, float, 16)
VECTOR2(double, double, 16)
VECTOR2(longlong, long long, 16) VECTOR2(ulonglong, unsigned long long, 16)
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
#undef VECTOR2
#undef VECTOR3
#undef VECTOR4

// ---- 3. barriers

CUDA_HOST_INLINE void __syncthreads(CUDA_HOST_CALLER) { cuda_host::meet_block("__syncthreads", CUDA_HOST_AT); }
CUDA_HOST_INLINE int __syncthreads_count(int p, CUDA_HOST_CALLER) {
  return cuda_host::meet_block("__syncthreads_count", CUDA_HOST_AT, cuda_host::COUNT, p);
}
CUDA_HOST_INLINE int __syncthreads_and(int p, CUDA_HOST_CALLER) {
  return cuda_host::meet_block("__syncthreads_and", CUDA_HOST_AT, cuda_host::AND, p);
}
CUDA_HOST_INLINE int __syncthreads_or(int p, CUDA_HOST_CALLER) {
  return cuda_host::meet_block("__syncthreads_or", CUDA_HOST_AT, cuda_host::OR, p);
}
CUDA_HOST_INLINE void __syncwarp(unsigned mask = 0xffffffffu, CUDA_HOST_CALLER) {
  cuda_host::meet_warp("__syncwarp", CUDA_HOST_AT, mask, true, nullptr, nullptr, nullptr);
}
CUDA_HOST_INLINE void __threadfence() { cuda_host::fence(); }
inline void __threadfence_block() {}

// ---- 4. values from lane to lane

namespace cuda_host {
template <class T> struct Same { typedef T type; };
template <class T> struct Offer { T value; unsigned source; };

template <class T> void deliver(const Lanes& lanes) {
  for (int l = 0; l < 32; l++) {
    if (!lanes.answer[l]) continue;
    unsigned source = static_cast<const Offer<T>*>(lanes.offer[l])->source;
    if (lanes.offer[source]) memcpy(lanes.answer[l], lanes.offer[source], sizeof(T));
    else memset(lanes.answer[l], 0xff, sizeof(T));        // of a lane that is not there: anything, so NaN
  }
}

template <class T> T shuffled(const char* what, Place at, unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  Offer<T> offer{value, source & 31};
  T answer;
  meet_warp(what, at, mask, false, deliver<T>, &offer, &answer);
  return answer;
}

typedef void (*Gather)(const Lanes&);
template <class T, class Fold> void fold(const Lanes& lanes) {
  T total{};
  bool first = true;
  for (int l = 0; l < 32; l++) {
    if (!lanes.offer[l]) continue;
    T value = *static_cast<const T*>(lanes.offer[l]);
    total = first ? value : Fold::of(total, value);
    first = false;
  }
  for (int l = 0; l < 32; l++)
    if (lanes.answer[l]) memcpy(lanes.answer[l], &total, sizeof(T));
}
template <class Fold, class T> T reduced(const char* what, Place at, unsigned mask, T value) {
  T answer;
  meet_warp(what, at, mask, false, fold<T, Fold>, &value, &answer);
  return answer;
}
struct Plus { template <class T> static T of(T a, T b) { return a + b; } };
struct Least { template <class T> static T of(T a, T b) { return b < a ? b : a; } };
struct Most { template <class T> static T of(T a, T b) { return a < b ? b : a; } };
struct Both { template <class T> static T of(T a, T b) { return a & b; } };
struct Either { template <class T> static T of(T a, T b) { return a | b; } };
struct Odd { template <class T> static T of(T a, T b) { return a ^ b; } };
}  // namespace cuda_host

template <class T>
CUDA_HOST_INLINE T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDA_HOST_CALLER) {
  unsigned lane = cuda_host::lane_index(), start = lane & ~(width - 1);
  return cuda_host::shuffled("__shfl_sync", CUDA_HOST_AT, mask, value, start + (source & (width - 1)));
}
template <class T>
CUDA_HOST_INLINE T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, CUDA_HOST_CALLER) {
  unsigned lane = cuda_host::lane_index(), from = lane ^ with, end = lane | (width - 1);
  return cuda_host::shuffled("__shfl_xor_sync", CUDA_HOST_AT, mask, value, from <= end ? from : lane);
}
template <class T>
CUDA_HOST_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, CUDA_HOST_CALLER) {
  unsigned lane = cuda_host::lane_index(), end = lane | (width - 1);
  return cuda_host::shuffled("__shfl_down_sync", CUDA_HOST_AT, mask, value, lane + by <= end ? lane + by : lane);
}
template <class T>
CUDA_HOST_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, CUDA_HOST_CALLER) {
  unsigned lane = cuda_host::lane_index(), start = lane & ~(width - 1);
  return cuda_host::shuffled("__shfl_up_sync", CUDA_HOST_AT, mask, value, lane >= start + by ? lane - by : lane);
}

CUDA_HOST_INLINE unsigned __ballot_sync(unsigned mask, int p, CUDA_HOST_CALLER) {
  return cuda_host::reduced<cuda_host::Either>("__ballot_sync", CUDA_HOST_AT, mask, p ? 1u << cuda_host::lane_index() : 0u);
}
CUDA_HOST_INLINE int __any_sync(unsigned mask, int p, CUDA_HOST_CALLER) {
  return cuda_host::reduced<cuda_host::Either>("__any_sync", CUDA_HOST_AT, mask, p != 0 ? 1 : 0);
}
CUDA_HOST_INLINE int __all_sync(unsigned mask, int p, CUDA_HOST_CALLER) {
  return cuda_host::reduced<cuda_host::Both>("__all_sync", CUDA_HOST_AT, mask, p != 0 ? 1 : 0);
}
#define REDUCTION(name, type, fold)                                                                  \
  CUDA_HOST_INLINE type name(unsigned mask, type value, CUDA_HOST_CALLER) {      \
    return cuda_host::reduced<cuda_host::fold>(#name, CUDA_HOST_AT, mask, value);                              \
  }
REDUCTION(__reduce_add_sync, int, Plus) REDUCTION(__reduce_add_sync, unsigned, Plus)
REDUCTION(__reduce_min_sync, int, Least) REDUCTION(__reduce_min_sync, unsigned, Least)
REDUCTION(__reduce_max_sync, int, Most) REDUCTION(__reduce_max_sync, unsigned, Most)
REDUCTION(__reduce_and_sync, unsigned, Both) REDUCTION(__reduce_or_sync, unsigned, Either)
REDUCTION(__reduce_xor_sync, unsigned, Odd)
#undef REDUCTION

// ---- 5. atomics: one thread at a time, in the order of the schedule

namespace cuda_host {
template <class T, class Change>
__attribute__((noinline, no_sanitize("thread"))) T changed(T* p, Change change) {
  T old = *p;
  *p = change(old);
  return old;
}
// Seen by the checks first, with the place of the caller.
#define CUDA_HOST_ATOMIC(name, reads, formula)                                                \
  template <class T> CUDA_HOST_INLINE T name(T* p, typename cuda_host::Same<T>::type v) {     \
    cuda_host::before_atomic(p, sizeof(T), reads);                                            \
    return cuda_host::changed(p, [v](T old) -> T { (void)old; return formula; });             \
  }
}  // namespace cuda_host
CUDA_HOST_ATOMIC(atomicAdd, true, old + v)
CUDA_HOST_ATOMIC(atomicSub, true, old - v)
CUDA_HOST_ATOMIC(atomicMin, true, v < old ? v : old)
CUDA_HOST_ATOMIC(atomicMax, true, old < v ? v : old)
CUDA_HOST_ATOMIC(atomicAnd, true, old & v)
CUDA_HOST_ATOMIC(atomicOr, true, old | v)
CUDA_HOST_ATOMIC(atomicXor, true, old ^ v)
CUDA_HOST_ATOMIC(atomicExch, false, v)
CUDA_HOST_ATOMIC(atomicInc, true, old >= v ? 0 : old + 1)
CUDA_HOST_ATOMIC(atomicDec, true, old == 0 || old > v ? v : old - 1)
#undef CUDA_HOST_ATOMIC
void atomicMin(float*, float) = delete;                    // CUDA has none
void atomicMax(float*, float) = delete;
template <class T>
CUDA_HOST_INLINE T atomicCAS(T* p, typename cuda_host::Same<T>::type compare, typename cuda_host::Same<T>::type v) {
  cuda_host::before_atomic(p, sizeof(T), true);
  return cuda_host::changed(p, [=](T old) -> T { return old == compare ? v : old; });
}

// ---- 6. arithmetic. The fast forms (__expf, ...) are exact here: their rounding on a GPU is another matter.

namespace cuda_host {
template <class To, class From> To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From), "of one size");
  To made;
  memcpy(&made, &value, sizeof made);
  return made;
}
}  // namespace cuda_host
inline float __int_as_float(int v) { return cuda_host::bits_of<float>(v); }
inline float __uint_as_float(unsigned v) { return cuda_host::bits_of<float>(v); }
inline int __float_as_int(float v) { return cuda_host::bits_of<int>(v); }
inline unsigned __float_as_uint(float v) { return cuda_host::bits_of<unsigned>(v); }

#define LESSER_AND_GREATER(type)                                       \
  inline type min(type a, type b) { return b < a ? b : a; }            \
  inline type max(type a, type b) { return a < b ? b : a; }
LESSER_AND_GREATER(int) LESSER_AND_GREATER(unsigned) LESSER_AND_GREATER(long) LESSER_AND_GREATER(unsigned long)
LESSER_AND_GREATER(long long) LESSER_AND_GREATER(unsigned long long)
#undef LESSER_AND_GREATER
inline unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
inline unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
inline unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
inline unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float rsqrtf(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.f, x); }
inline float exp10f(float x) { return powf(10.f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline void __sincosf(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
#ifndef __USE_GNU
inline void sincosf(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
#endif
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frsqrt_rn(float a) { return rsqrtf(a); }
inline float __saturatef(float x) { return x > 0.f ? fminf(x, 1.f) : 0.f; }
// Rounded apart: the compiler may not join them to a fused multiply-add.
inline __attribute__((noinline)) float __fmul_rn(float a, float b) { return a * b; }
inline __attribute__((noinline)) float __fadd_rn(float a, float b) { return a + b; }
inline __attribute__((noinline)) float __fsub_rn(float a, float b) { return a - b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(truncf(x)); }
inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
inline int __float2int_ru(float x) { return static_cast<int>(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(rintf(x)); }
inline unsigned __float2uint_rz(float x) { return static_cast<unsigned>(truncf(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; i++) y |= (x >> i & 1u) << (31 - i);
  return y;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned long long>(a) * b >> 32; }
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline int __mul24(int a, int b) { return static_cast<int>(static_cast<unsigned>((a << 8) >> 8) * ((b << 8) >> 8)); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  unsigned long long both = static_cast<unsigned long long>(y) << 32 | x;
  unsigned made = 0;
  for (int i = 0; i < 4; i++) {
    unsigned how = selector >> (4 * i) & 15, byte = both >> (8 * (how & 7)) & 255;
    if (how & 8) byte = byte & 128 ? 255 : 0;             // the sign, eight times
    made |= byte << (8 * i);
  }
  return made;
}
inline int __dp4a(int a, int b, int c) {                   // four products of signed bytes
  unsigned sum = static_cast<unsigned>(c);
  for (int i = 0; i < 32; i += 8) sum += static_cast<signed char>(a >> i) * static_cast<signed char>(b >> i);
  return static_cast<int>(sum);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += (a >> i & 255u) * (b >> i & 255u);
  return c;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  by &= 31;
  return by ? high << by | low >> (32 - by) : high;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  by &= 31;
  return by ? high << (32 - by) | low >> by : low;
}

// ---- 7. loads and stores with advice for the cache; the clock

template <class T> CUDA_HOST_INLINE T __ldg(const T* p) { return *p; }
template <class T> CUDA_HOST_INLINE T __ldcs(const T* p) { return *p; }
template <class T> CUDA_HOST_INLINE T __ldcg(const T* p) { return *p; }
template <class T> CUDA_HOST_INLINE T __ldca(const T* p) { return *p; }
template <class T> CUDA_HOST_INLINE void __stcs(T* p, T v) { *p = v; }
template <class T> CUDA_HOST_INLINE void __stcg(T* p, T v) { *p = v; }
inline long long clock64() { return static_cast<long long>(__builtin_ia32_rdtsc()); }
inline int clock() { return static_cast<int>(clock64()); }
CUDA_HOST_INLINE void __trap(CUDA_HOST_CALLER) { cuda_host::trap("__trap", CUDA_HOST_AT); }
#define assert(condition) ((condition) ? (void)0 : cuda_host::trap("assert(" #condition ")", cuda_host::Place{__FILE__, __LINE__}))

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "mma.h"
#include "launch.h"
