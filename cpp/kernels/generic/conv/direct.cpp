// The register tiles of direct convolution: pixels x vectors of output channels for the forward direction and
// for backward data, reduction rows x vectors of output channels for backward weights.
#include "kernels/conv.h"
#include "kernels/generic/conv/parts.h"
#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  using type = Indices<I...>;
};

template <int NV>
constexpr int kTile = kAccumulators / NV;

// Tiles of four vectors read 11 operands for 28 multiply-adds where those of two read 16: a core whose other
// hardware thread is busy runs them 12 % faster, an undisturbed one as fast.
constexpr bool kWide = kAccumulators >= 28;

// Five pixels per base pointer: x86 addresses base + {0, 1, 2, 4} * stride for free and 3 * stride from a
// register.
template <int NP, int NV>
void row_tile(const ConvRow& r, const float* in, float* out) {
  constexpr int kBases = (NP + 4) / 5;
  Vec acc[NP][NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) {
    const Vec b = r.bias ? load_first(r.bias + v * kWidth, r.oc - v * kWidth) : zero();
#pragma GCC unroll 28
    for (int p = 0; p < NP; ++p) acc[p][v] = b;
  }
  const std::ptrdiff_t ps = r.in_pixel, ps3 = 3 * ps;
  const float* w = r.w;
  for (int i = 0; i < r.n_runs; ++i) {
    const float* base[kBases];
#pragma GCC unroll 6
    for (int b = 0; b < kBases; ++b) base[b] = in + r.runs[i].offset + 5 * b * ps;
    for (std::ptrdiff_t k = r.runs[i].length; k > 0; --k) {
      Vec wv[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) wv[v] = load(w + v * kWidth);
      w += NV * kWidth;
#pragma GCC unroll 28
      for (int p = 0; p < NP; ++p) {
        const float* const at = base[p / 5] + (p % 5 == 3 ? ps3 : p % 5 * ps);
        if (NV == 2 && p % 2) {  // every second pixel as a memory operand: fewer instructions, more loads
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) acc[p][v] = fma_at(at, wv[v], acc[p][v]);
        } else {
          const Vec x = broadcast(*at);
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) acc[p][v] = fma(x, wv[v], acc[p][v]);
        }
      }
#pragma GCC unroll 6
      for (int b = 0; b < kBases; ++b) ++base[b];
    }
  }
  // Read once: a vector store may alias anything.
  const std::ptrdiff_t os = r.out_pixel;
  const int oc = r.oc;
  const bool whole = oc == NV * kWidth;
  if (r.accumulate) {
#pragma GCC unroll 28
    for (int p = 0; p < NP; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        const float* o = out + p * os + v * kWidth;
        acc[p][v] = acc[p][v] + (whole ? load(o) : load_first(o, oc - v * kWidth));
      }
  }
  if (whole) {
#pragma GCC unroll 28
    for (int p = 0; p < NP; ++p)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) store(out + p * os + v * kWidth, acc[p][v]);
    return;
  }
#pragma GCC unroll 28
  for (int p = 0; p < NP; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store_first(out + p * os + v * kWidth, acc[p][v], oc - v * kWidth);
}

using RowTile = void (*)(const ConvRow&, const float*, float*);

template <int NV, int... I>
FASTCNN_INLINE RowTile row_tile_of(int pixels, Indices<I...>) {
  static constexpr RowTile tiles[] = {&row_tile<I + 1, NV>...};
  return tiles[pixels - 1];
}

// As many input channels as lanes, pixel after pixel: a product of one vector's Winograd tiles. The weights
// stay in registers.
constexpr int kSquarePixels = kAccumulators >= 28 ? 8 : 4;

bool is_square(const ConvRow& r) {
  return r.n_runs == 1 && r.runs[0].length == kWidth && r.in_pixel == kWidth && r.oc == kWidth && !r.bias &&
         !r.accumulate;
}

template <int NP>
FASTCNN_INLINE void square_tile(const Vec (&w)[kWidth], const float* in, float* out, std::ptrdiff_t step) {
  Vec acc[NP];
#pragma GCC unroll 16
  for (int c = 0; c < kWidth; ++c)
#pragma GCC unroll 8
    for (int p = 0; p < NP; ++p) {
      const Vec x = broadcast(in[p * kWidth + c]);
      acc[p] = c ? fma(x, w[c], acc[p]) : x * w[c];
    }
#pragma GCC unroll 8
  for (int p = 0; p < NP; ++p) store(out + p * step, acc[p]);
}

void square_row(const ConvRow& r) {
  Vec w[kWidth];
#pragma GCC unroll 16
  for (int c = 0; c < kWidth; ++c) w[c] = load(r.w + c * kWidth);
  const float* in = r.in + r.runs[0].offset;
  float* out = r.out;
  int left = r.pixels;
  for (; left >= kSquarePixels; left -= kSquarePixels) {
    square_tile<kSquarePixels>(w, in, out, r.out_pixel);
    in += kSquarePixels * kWidth;
    out += kSquarePixels * r.out_pixel;
  }
  for (; left > 0; --left, in += kWidth, out += r.out_pixel) square_tile<1>(w, in, out, r.out_pixel);
}

// Tiles of nearly equal size: the last one is never a sliver.
template <int NV>
void row(const ConvRow& r) {
  if (NV == 1 && is_square(r)) return square_row(r);
  const int tiles = (r.pixels + kTile<NV> - 1) / kTile<NV>;
  int p = 0;
  for (int t = 0; t < tiles; ++t) {
    const int n = (r.pixels - p) / (tiles - t);
    row_tile_of<NV>(n, typename MakeIndices<kTile<NV>>::type())(r, r.in + p * r.in_pixel,
                                                                r.out + p * r.out_pixel);
    p += n;
  }
}

template <int M, int NV>
void outer_tile(const ConvOuter& o, const float* x, float* dw) {
  Vec acc[M][NV];
#pragma GCC unroll 28
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[m][v] = zero();
  for (int r = 0; r < o.rows; ++r) {
    const float* a = x + r * o.x_row;
    const float* d = o.dy + r * o.dy_row;
    for (int q = o.pixels; q > 0; --q) {
      Vec dv[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) dv[v] = load(d + v * kWidth);
#pragma GCC unroll 28
      for (int m = 0; m < M; ++m) {
        if (NV == 2 && m % 2) {
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) acc[m][v] = fma_at(a + m, dv[v], acc[m][v]);
        } else {
          const Vec b = broadcast(a[m]);
#pragma GCC unroll 4
          for (int v = 0; v < NV; ++v) acc[m][v] = fma(b, dv[v], acc[m][v]);
        }
      }
      a += o.x_pixel;
      d += o.dy_pixel;
    }
  }
#pragma GCC unroll 28
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      float* p = dw + (m * NV + v) * kWidth;
      store(p, acc[m][v] + load(p));
    }
}

using OuterTile = void (*)(const ConvOuter&, const float*, float*);

template <int NV, int... I>
FASTCNN_INLINE OuterTile outer_tile_of(int m, Indices<I...>) {
  static constexpr OuterTile tiles[] = {&outer_tile<I + 1, NV>...};
  return tiles[m - 1];
}

template <int NV>
void outer(const ConvOuter& o) {
  const int tiles = (o.m + kTile<NV> - 1) / kTile<NV>;
  int m = 0;
  for (int t = 0; t < tiles; ++t) {
    const int n = (o.m - m) / (tiles - t);
    outer_tile_of<NV>(n, typename MakeIndices<kTile<NV>>::type())(o, o.x + m, o.dw + m * NV * kWidth);
    m += n;
  }
}

template <int NV>
constexpr auto row_kernel() {
  if constexpr (NV <= 2 || kWide)
    return &row<NV>;
  else
    return nullptr;
}

template <int NV>
constexpr auto outer_kernel() {
  if constexpr (NV <= 2 || kWide)
    return &outer<NV>;
  else
    return nullptr;
}

}  // namespace

extern const ConvKernels kConv;
const ConvKernels kConv = {{0, kTile<1>, kTile<2>, 0, kWide ? kTile<4> : 0},
                           {nullptr, row_kernel<1>(), row_kernel<2>(), nullptr, row_kernel<4>()},
                           {nullptr, outer_kernel<1>(), outer_kernel<2>(), nullptr, outer_kernel<4>()},
                           conv_patch,
                           conv_finish,
                           conv_moments,
                           conv_pool,
                           conv_copy_pixels,
                           conv_channel_sums,
                           conv_pack_weights,
                           conv_unpack_weights,
                           depthwise_row,
                           depthwise_outer};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
