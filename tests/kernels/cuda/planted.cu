// Kernels with a mistake each, and without it: `bug` is the number of the mistake, 0 for none.

// Sums of tiles: every thread sums a whole tile that the block has loaded.
extern "C" __global__ void tiles(const float* x, float* y, int n, int bug) {
  __shared__ float tile[64];
  int t = threadIdx.x;
  float sum = 0.f;
  for (int start = 0; start < n; start += 64) {
    if (bug != 1) __syncthreads();
    if (bug == 3 || start + t < n) tile[t] = x[start + t];
    else tile[t] = 0.f;
    if (bug != 2) __syncthreads();
    for (int i = 0; i < 64; i++) sum += tile[i];
  }
  y[t] = sum;
}

// Rows of a matrix times a vector, columns split over blocks.
extern "C" __global__ void split(const float* w, const float* x, float* y, int n, int k, int bug) {
  int row = blockIdx.x, lane = threadIdx.x, size = k / gridDim.y;
  float sum = 0.f;
  for (int i = blockIdx.y * size + lane; i < (int)(blockIdx.y + 1) * size; i += 32) sum += w[row * k + i] * x[i];
  for (int by = 16; by > 0; by >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, by);
  if (lane) return;
  if (bug == 4) y[row] += sum;
  else atomicAdd(y + row, sum);
}

// Numbers of a warp in reverse, through shared memory.
extern "C" __global__ void mirror(const float* x, float* y, int bug) {
  __shared__ float line[64];
  int t = threadIdx.x, lane = t & 31;
  line[t] = x[t];
  float one = 1.f;
  if (bug == 6) one = __shfl_xor_sync(0xffffffffu, one, 1);           // no fence
  else if (bug != 5) __syncwarp();
  y[t] = one * line[t - lane + 31 - lane];
}

extern "C" __global__ void vector_load(const float* x, float* y, int bug) {
  const float4* from = reinterpret_cast<const float4*>(x + (bug == 7 ? 1 : 0));
  float4 v = from[threadIdx.x];
  y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

extern "C" __global__ void branch(float* y, int bug) {
  if (bug == 8 && threadIdx.x < 16) __syncthreads();
  if (bug != 8) __syncthreads();
  y[threadIdx.x] = 1.f;
}

extern "C" __global__ void half_warp(float* y, int bug) {
  float v = y[threadIdx.x];
  if (threadIdx.x < 16) v = __shfl_xor_sync(bug == 9 ? 0xffffffffu : 0x0000ffffu, v, 1);
  y[threadIdx.x] = v;
}

extern "C" __global__ void scaled(float* y, int n, float factor) {
  if ((int)threadIdx.x < n) y[threadIdx.x] *= factor;
}

extern "C" __global__ void shifted(float* y, int bug) {
  __shared__ float line[32];
  int t = threadIdx.x, to = bug == 11 ? t + 1 : t;
  line[to] = y[t];
  __syncthreads();
  y[t] = line[t];
}

extern "C" __global__ void half_written(float* y, int bug) {
  __shared__ float line[64];
  int t = threadIdx.x;
  line[t] = 1.f;
  if (bug != 12) line[32 + t] = 1.f;
  __syncthreads();
  y[t] = line[63 - t];
}

extern "C" __global__ void one_cell(float* y, int bug) {
  if (threadIdx.x == 0) y[bug == 13 ? 0 : blockIdx.x] = (float)blockIdx.x;
}

extern "C" __global__ void copied(const float4* x, float4* y, int n, int bug) {
  for (int i = threadIdx.x; bug == 14 ? i <= n : i < n; i += blockDim.x) y[i] = x[i];
}

extern "C" __global__ void stranger(float* y, int bug) {
  y[threadIdx.x] = __shfl_xor_sync(bug == 15 ? 0xfffffffeu : 0xffffffffu, y[threadIdx.x], 1);
}

// Dynamic shared memory of blockDim.x floats.
extern "C" __global__ void dynamic(float* y, int bug) {
  extern __shared__ float room[];
  int t = threadIdx.x;
  room[bug == 16 ? t + 1 : t] = y[t];
  __syncthreads();
  y[t] = room[t];
}

// Neighbours in one word of 4 bytes: a bfloat16 each, or a byte each.
extern "C" __global__ void narrow(const unsigned short* x, unsigned short* y, unsigned char* z, int bug) {
  __shared__ unsigned short halves[64];
  __shared__ unsigned char bytes[64];
  int t = threadIdx.x;
  halves[t] = x[t];
  bytes[bug == 17 ? t / 2 : t] = (unsigned char)t;                      // two threads, one byte
  if (bug != 18) __syncthreads();
  y[t] = halves[t ^ 1];
  z[t] = bytes[t];
}

extern "C" __global__ void endless(float* y, int bug) {
  volatile int go = bug == 19;
  while (go) {}
  y[threadIdx.x] = 0.f;
}

extern "C" __global__ void counted(int* y, int bug) {
  __shared__ int total;
  if (bug != 20 && threadIdx.x == 0) total = 0;
  __syncthreads();
  atomicAdd(&total, 1);
  __syncthreads();
  if (threadIdx.x == 0) *y = bug == 21 ? total / (total - total) : total;
}

extern "C" __global__ void constant(const float* x, float* y, int bug) {
  y[threadIdx.x] = x[threadIdx.x];
  if (bug == 22) const_cast<float*>(x)[threadIdx.x] = 0.f;
}

extern "C" __global__ void far_away(float* y, int bug) {
  float* p = bug == 23 ? nullptr : y;
  p[threadIdx.x] = 1.f;
}

extern "C" __global__ void own_array(float* y, int bug) {
  float own[4];
  for (int i = 0; i < 4; i++) own[i] = (float)i;
  y[threadIdx.x] = own[bug == 24 ? threadIdx.x & 7 : threadIdx.x & 3];
}

extern "C" __global__ void asserted(float* y, int bug) {
  assert(bug != 25 || threadIdx.x < 31);
  y[threadIdx.x] = 1.f;
}

// Barriers in two branches: the block never meets.
extern "C" __global__ void two_places(float* y, int bug) {
  y[threadIdx.x] = 1.f;
  if (bug == 26 && threadIdx.x >= 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

// Numbers of each block, summed up by the block that counts itself last.
extern "C" __global__ void handed_on(const float* x, float* parts, unsigned* count, float* y, int bug) {
  __shared__ unsigned before_me;
  parts[blockIdx.x * 64 + threadIdx.x] = 2.f * x[blockIdx.x * 64 + threadIdx.x];
  if (bug != 27) __syncthreads();
  if (threadIdx.x == 0) {
    if (bug != 28) __threadfence();
    if (bug == 29) parts[blockIdx.x * 64] = 2.f * x[blockIdx.x * 64];
    before_me = atomicInc(count, gridDim.x - 1);
    if (bug != 30) __threadfence();
  }
  __syncthreads();
  if (before_me != gridDim.x - 1) return;
  float sum = 0.f;
  for (unsigned b = 0; b < gridDim.x; b++) sum += parts[b * 64 + threadIdx.x];
  y[threadIdx.x] = sum;
}

// Launched early: it waits for the kernel in front of it before it touches memory, in every thread.
extern "C" __global__ void hasty(const float* x, float* y, int bug) {
  float one = bug == 31 ? x[threadIdx.x] : 1.f;
  if (bug != 32 || threadIdx.x != 5) cuda_host::wait_for_former();
  else return;
  y[threadIdx.x] = x[threadIdx.x] * (bug == 31 ? 1.f : one);
}
