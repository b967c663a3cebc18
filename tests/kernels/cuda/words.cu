// CUDA's words, each with what it gives written out, for NumPy to judge.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>
using namespace nvcuda;

extern "C" __global__ void to_bf16(const float* x, __nv_bfloat16* near, unsigned short* zero, float* back, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  near[i] = __float2bfloat16(x[i]);
  zero[i] = __bfloat16_as_ushort(__float2bfloat16_rz(x[i]));
  back[i] = __bfloat162float(near[i]);
}

extern "C" __global__ void to_half(const float* x, __half* y, float* back, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = __float2half(x[i]);
  back[i] = __half2float(y[i]);
}

extern "C" __global__ void shuffles(const int* x, int* y, int by, int width) {
  int t = threadIdx.x, n = blockDim.x;
  y[t] = __shfl_sync(0xffffffffu, x[t], by, width);
  y[n + t] = __shfl_xor_sync(0xffffffffu, x[t], by, width);
  y[2 * n + t] = __shfl_up_sync(0xffffffffu, x[t], by, width);
  y[3 * n + t] = __shfl_down_sync(0xffffffffu, x[t], by, width);
  double wide = __shfl_xor_sync(0xffffffffu, 0.5 * x[t], 1);
  y[4 * n + t] = (int)(2 * wide);
  y[5 * n + t] = (int)(float)__shfl_xor_sync(0xffffffffu, __float2half((float)t), 2);
}

extern "C" __global__ void votes(const int* x, unsigned* y, unsigned mask) {
  int t = threadIdx.x, n = blockDim.x;
  y[t] = 0u;
  if (mask >> (t & 31) & 1u) {
    y[t] = __ballot_sync(mask, x[t] > 0);
    y[n + t] = (unsigned)(__any_sync(mask, x[t] > 90) * 2 + __all_sync(mask, x[t] > -90));
    y[2 * n + t] = (unsigned)__reduce_add_sync(mask, x[t]);
    y[3 * n + t] = (unsigned)__reduce_max_sync(mask, x[t]);
    y[4 * n + t] = (unsigned)__reduce_min_sync(mask, x[t]);
  }
  __syncthreads();
  y[5 * n + t] = (unsigned)__syncthreads_count(x[t] > 0);
  y[6 * n + t] = (unsigned)(__syncthreads_or(x[t] > 90) * 2 + __syncthreads_and(x[t] > -90));
}

extern "C" __global__ void atomics(const int* x, int* y, float* f, unsigned* u, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicAdd(y + 0, x[i]);
  atomicSub(y + 1, x[i]);
  atomicMax(y + 2, x[i]);
  atomicMin(y + 3, x[i]);
  atomicOr(y + 4, x[i]);
  atomicAnd(y + 5, x[i]);
  atomicXor(y + 6, x[i]);
  atomicAdd(f, (float)x[i]);
  atomicExch(y + 7, 42);
  atomicCAS(y + 8, 0, 7);
  atomicInc(u, 9u);
  atomicDec(u + 1, 9u);
}

extern "C" __global__ void bits(const int* x, const int* z, int* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int v = x[i], w = z[i];
  y[i] = __popc(v);
  y[n + i] = __clz(v);
  y[2 * n + i] = __ffs(v);
  y[3 * n + i] = (int)__brev(v);
  y[4 * n + i] = __dp4a(v, w, 5);
  y[5 * n + i] = (int)__dp4a((unsigned)v, (unsigned)w, 5u);
  y[6 * n + i] = (int)__byte_perm(v, w, 0x7160u);
  y[7 * n + i] = __mulhi(v, w);
  y[8 * n + i] = (int)__umulhi(v, w);
  y[9 * n + i] = (int)__funnelshift_l(v, w, 7);
  y[10 * n + i] = (int)__funnelshift_r(v, w, 7);
  y[11 * n + i] = min(v, w);
  y[12 * n + i] = __float_as_int(__int_as_float(v));
  y[13 * n + i] = __float2int_rn(__int2float_rn(w >> 9) * 0.5f);
}

extern "C" __global__ void floats(const float* a, const float* b, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = __fadd_rn(__fmul_rn(a[i], b[i]), a[i]);
  y[n + i] = fmaf(a[i], b[i], a[i]);
  y[2 * n + i] = rsqrtf(fabsf(a[i]));
  y[3 * n + i] = max(a[i], b[i]);
  y[4 * n + i] = fminf(a[i], NAN);
  y[5 * n + i] = __saturatef(a[i]);
  y[6 * n + i] = __frcp_rn(b[i]);
  y[7 * n + i] = exp2f(a[i]);
}

extern "C" __global__ void place(int* y) {
  int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  int size = blockDim.x * blockDim.y * blockDim.z;
  y[block * size + thread] = 10000 * block + 100 * (int)threadIdx.z + 10 * (int)threadIdx.y + (int)threadIdx.x;
}

template <class L> struct in_columns { static constexpr bool value = false; };
template <> struct in_columns<wmma::col_major> { static constexpr bool value = true; };

template <class T, class B_layout> __device__ void product(const T* a, const T* b, float* c, int m, int n, int k) {
  wmma::fragment<wmma::matrix_a, 16, 16, 16, T, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, T, B_layout> fb;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
  const bool columns = in_columns<B_layout>::value;
  wmma::fill_fragment(fc, 0.f);
  for (int i = 0; i < k; i += 16) {
    wmma::load_matrix_sync(fa, a + blockIdx.y * 16 * k + i, k);
    wmma::load_matrix_sync(fb, columns ? b + blockIdx.x * 16 * k + i : b + i * n + blockIdx.x * 16, columns ? k : n);
    wmma::mma_sync(fc, fa, fb, fc);
  }
  for (int i = 0; i < fc.num_elements; i++) fc.x[i] *= 0.5f;
  wmma::store_matrix_sync(c + blockIdx.y * 16 * n + blockIdx.x * 16, fc, n, wmma::mem_row_major);
}
extern "C" __global__ void product_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) {
  product<__nv_bfloat16, wmma::col_major>(a, b, c, m, n, k);
}
extern "C" __global__ void product_half(const half* a, const half* b, float* c, int m, int n, int k) {
  product<half, wmma::row_major>(a, b, c, m, n, k);
}
