// Tensor cores: nvcuda::wmma for tiles of 16 x 16 x 16, bfloat16 or float16 into float.
//
// Which lane holds which element is open in CUDA, so here too nobody may count on it: lane l keeps
// elements 8 l .. 8 l + 7 of its tile in rows. Products of two 16-bit numbers are exact in float; the
// order of the sum is left to right, which on a GPU is open.
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace nvcuda {
namespace wmma {
struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
  static_assert(M == 16 && N == 16 && K == 16, "the runner knows tiles of 16 x 16 x 16");
  static constexpr int num_elements = 8;
  T x[8];
};
}  // namespace wmma
}  // namespace nvcuda

namespace cuda_host {
template <class L> struct By_columns { static constexpr bool value = false; };
template <> struct By_columns<nvcuda::wmma::col_major> { static constexpr bool value = true; };

// CUDA asks for a pointer at a multiple of 32 bytes and a stride of whole 16 bytes. In the plain build arrays lie
// where NumPy put them, which says nothing about a card.
inline void check_tile(const void* p, unsigned stride_bytes, const char* what, Place at) {
#ifdef CUDA_HOST_PLACED
  if (reinterpret_cast<uintptr_t>(p) % 32) trap(what, at);
#else
  (void)p, (void)what;
#endif
  if (stride_bytes % 16) trap("wmma: the stride must be a multiple of 16 bytes", at);
}
constexpr const char* UNALIGNED_TILE = "wmma: the pointer must be a multiple of 32 bytes";

template <class T> CUDA_HOST_INLINE void load_tile(T (&x)[8], const T* p, unsigned stride, bool columns) {
  for (unsigned i = 0; i < 8; i++) {
    unsigned e = lane_index() * 8 + i, r = e / 16, c = e % 16;
    x[i] = columns ? p[c * stride + r] : p[r * stride + c];
  }
}

template <class A, class B> struct Factors { A a[8]; B b[8]; float c[8]; };
template <class A, class B> void multiply(const Lanes& lanes) {
  float a[256], b[256];
  typedef Factors<A, B> Part;
  for (int l = 0; l < 32; l++) {
    const Part* part = static_cast<const Part*>(lanes.offer[l]);
    for (int i = 0; part && i < 8; i++) a[l * 8 + i] = float(part->a[i]), b[l * 8 + i] = float(part->b[i]);
  }
  for (int l = 0; l < 32; l++) {
    const Part* part = static_cast<const Part*>(lanes.offer[l]);
    float* d = static_cast<float*>(lanes.answer[l]);
    for (int i = 0; part && i < 8; i++) {
      int r = (l * 8 + i) / 16, q = (l * 8 + i) % 16;
      float sum = 0.f;
      for (int k = 0; k < 16; k++) sum += a[r * 16 + k] * b[k * 16 + q];
      d[i] = part->c[i] + sum;
    }
  }
}
inline void whole(const char* what, Place at) { meet_warp(what, at, 0xffffffffu, false, nullptr, nullptr, nullptr); }
}  // namespace cuda_host

namespace nvcuda {
namespace wmma {
template <class F, class T> void fill_fragment(F& f, T value) {
  for (auto& element : f.x) element = value;
}
template <class Use, class T, class Layout>
CUDA_HOST_INLINE void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout>& f, const T* p, unsigned stride,
                                       CUDA_HOST_CALLER) {
  cuda_host::whole("wmma::load_matrix_sync", CUDA_HOST_AT);
  cuda_host::check_tile(p, stride * sizeof(T), cuda_host::UNALIGNED_TILE, CUDA_HOST_AT);
  cuda_host::load_tile(f.x, p, stride, cuda_host::By_columns<Layout>::value);
}
template <class T>
CUDA_HOST_INLINE void load_matrix_sync(fragment<accumulator, 16, 16, 16, T>& f, const T* p, unsigned stride,
                                       layout_t layout, CUDA_HOST_CALLER) {
  cuda_host::whole("wmma::load_matrix_sync", CUDA_HOST_AT);
  cuda_host::check_tile(p, stride * sizeof(T), cuda_host::UNALIGNED_TILE, CUDA_HOST_AT);
  cuda_host::load_tile(f.x, p, stride, layout == mem_col_major);
}
template <class T>
CUDA_HOST_INLINE void store_matrix_sync(T* p, const fragment<accumulator, 16, 16, 16, T>& f, unsigned stride,
                                        layout_t layout, CUDA_HOST_CALLER) {
  cuda_host::whole("wmma::store_matrix_sync", CUDA_HOST_AT);
  cuda_host::check_tile(p, stride * sizeof(T), cuda_host::UNALIGNED_TILE, CUDA_HOST_AT);
  for (unsigned i = 0; i < 8; i++) {
    unsigned e = cuda_host::lane_index() * 8 + i, r = e / 16, c = e % 16;
    (layout == mem_col_major ? p[c * stride + r] : p[r * stride + c]) = f.x[i];
  }
}
template <class A, class B, class LA, class LB>
CUDA_HOST_INLINE void mma_sync(fragment<accumulator, 16, 16, 16, float>& d, const fragment<matrix_a, 16, 16, 16, A, LA>& a,
                               const fragment<matrix_b, 16, 16, 16, B, LB>& b,
                               const fragment<accumulator, 16, 16, 16, float>& c,
                               CUDA_HOST_CALLER) {
  cuda_host::Factors<A, B> offer;
  for (int i = 0; i < 8; i++) offer.a[i] = a.x[i], offer.b[i] = b.x[i], offer.c[i] = c.x[i];
  cuda_host::meet_warp("wmma::mma_sync", CUDA_HOST_AT, 0xffffffffu, false, cuda_host::multiply<A, B>, &offer, d.x);
}
}  // namespace wmma
}  // namespace nvcuda
