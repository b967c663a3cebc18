// float16 as CUDA has it: rounded to nearest, ties to even, with subnormal numbers.
#pragma once
#include "cuda.h"

struct alignas(2) __half {
  unsigned short bits;
  __half() = default;
  inline __half(float f);
  inline operator float() const;
};
struct alignas(4) __half2 { __half x, y; };
typedef __half half;
typedef __half2 half2;

inline __half __ushort_as_half(unsigned short u) {
  __half h;
  h.bits = u;
  return h;
}
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline float __half2float(__half h) {
  unsigned sign = (h.bits & 0x8000u) << 16, exponent = h.bits >> 10 & 31, fraction = h.bits & 1023u;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
  if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
  float small = static_cast<float>(fraction) * 0x1p-24f;                  // zero and subnormal numbers
  return sign ? -small : small;
}
inline __half __float2half(float f) {
  unsigned u = __float_as_uint(f), sign = u >> 16 & 0x8000u, size = u & 0x7fffffffu;
  if (size > 0x7f800000u) return __ushort_as_half(0x7fff);                // NaN
  if (size >= 0x477ff000u) return __ushort_as_half(sign | 0x7c00u);       // rounds to infinity
  if (size < 0x38800000u) {                                               // a subnormal number, in steps of 2^-24
    float steps = rintf(__uint_as_float(size) * 0x1p24f);
    return __ushort_as_half(sign | static_cast<unsigned>(steps));
  }
  unsigned rounded = size - (112u << 23) + 0xfffu + (size >> 13 & 1u);
  return __ushort_as_half(sign | rounded >> 13);
}
inline __half __float2half_rn(float f) { return __float2half(f); }
inline __half::__half(float f) { bits = __float2half(f).bits; }
inline __half::operator float() const { return __half2float(*this); }
inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }
inline __half2 __floats2half2_rn(float a, float b) { return {__float2half(a), __float2half(b)}; }
inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
