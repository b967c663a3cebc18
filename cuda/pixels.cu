// From the pixels of a picture to rows for the tower: bicubic resize, bit for bit Pillow's, and patches of normalised
// colours.
//
//   rows (n, inner) bytes, first (o), weights (o, taps) int32  ->  (o, inner) bytes: one axis of a resize
//   pixels (n, area, 3) bytes, levels (3, 256)                 ->  (n, 3, area) float32
//   frames (t, 3, h, u) float32                                ->  patches (p, 1176) float32, in 2x2 blocks
//
// Fixed point: weights in units of 2^-22, a half added before the shift, clipped; one axis after the other and whole
// bytes between the two, so that the order of the axes shows. See `minivl/passes/picture.py`.
// A thread takes one number. Operations: 2 taps each. Bytes: about taps in (from the cache), 1 out.
#include "minivl.cuh"

#define THREADS 256
#define FRACTION_BITS 22

// An axis with `outer` whole blocks before it and `inner` bytes behind it: pixels (outer, n, inner) -> (outer, o,
// inner). Beyond the edge a weight is zero.   grid ceil(outer o inner / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
resize_axis(const unsigned char* __restrict__ pixels, const int* __restrict__ first, const int* __restrict__ weights,
            unsigned char* __restrict__ out, int outer, int n, int inner, int o, int taps) {
  long long at = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (at >= (long long)outer * o * inner) return;
  int i = at % inner, to = at / inner % o;
  size_t block = at / inner / o;
  int sum = 1 << (FRACTION_BITS - 1);
  for (int t = 0; t < taps; t++) {
    int from = min(first[to] + t, n - 1);
    sum += pixels[(block * n + from) * inner + i] * weights[(size_t)to * taps + t];
  }
  sum >>= FRACTION_BITS;
  out[at] = (unsigned char)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

// Colours by a table of their 256 levels, so that they have the definition's bits, and colour first.
//   grid ceil(n 3 area / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
standardise(const unsigned char* __restrict__ pixels, const float* __restrict__ levels, float* __restrict__ out,
            long long n, int area) {
  long long at = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (at >= n * 3 * area) return;
  int i = at % area, colour = at / area % 3;
  long long frame = at / area / 3;
  out[at] = levels[colour * 256 + pixels[(frame * area + i) * 3 + colour]];
}

// Cut into patches of size x size pixels and `pair` frames: rows t, block row, block column, row in the block, column in
// the block; within a row colour, frame of the pair, pixel row, pixel column. The last frame is repeated until the pair
// is whole.
//   grid ceil(p 3 pair size size / 256), block 256
extern "C" __global__ void __launch_bounds__(THREADS)
patchify(const float* __restrict__ frames, float* __restrict__ out, int n, int gh, int gw, int size, int pair, int merge) {
  long long at = (long long)blockIdx.x * THREADS + threadIdx.x;
  int t = (n + pair - 1) / pair;
  if (at >= (long long)t * gh * gw * 3 * pair * size * size) return;
  // 1. where in the row
  int px = at % size, py = at / size % size, frame = at / size / size % pair, colour = at / size / size / pair % 3;
  // 2. which row: the patch in its block, the block in its frame
  long long row = at / size / size / pair / 3;
  int in_column = row % merge, in_row = row / merge % merge;
  int column = row / merge / merge % (gw / merge), line = row / merge / gw % (gh / merge);
  int pairs = row / gw / gh;
  // 3. which pixel that is
  int y = (line * merge + in_row) * size + py, x = (column * merge + in_column) * size + px;
  int f = min(pairs * pair + frame, n - 1);
  out[at] = frames[(((size_t)f * 3 + colour) * gh * size + y) * gw * size + x];
}
