// Direct convolution. The register tiles: pixels x vectors of output channels for the forward direction and
// for backward data, reduction rows x vectors of output channels for backward weights.
#include "kernels/conv.h"
#include "kernels/generic/functions.h"
#include "kernels/generic/lanes.h"
#include "kernels/generic/tiles.h"

namespace fastcnn::FASTCNN_ISA {

// depthwise.cpp
void depthwise_row(const DepthwiseRow& r);
void depthwise_outer(const DepthwiseOuter& o);

namespace {

// Tiles of four vectors read 11 operands for 28 multiply-adds where those of two read 16: a core whose other
// hardware thread is busy runs them 12 % faster, an undisturbed one as fast.
constexpr bool kWide = kAccumulators >= 28;

struct Tiles {  // vectors of output channels x pixels, or rows of the sum
  static constexpr int kRows = 4, kColumns = kAccumulators;
  static constexpr bool fits(int vectors, int n) {
    return (vectors <= 2 || (vectors == 4 && kWide)) && n <= kAccumulators / vectors;
  }
};

// acc += x w. in_memory: a memory operand for each product, which means fewer instructions and more loads.
template <int NV>
FASTCNN_INLINE void add_products(const float* x, const Vec (&w)[NV], bool in_memory, Vec (&acc)[NV]) {
  if (in_memory) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[v] = fma_at(x, w[v], acc[v]);
  } else {
    const Vec b = broadcast(*x);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[v] = fma(b, w[v], acc[v]);
  }
}

// Five pixels per base pointer: x86 addresses base + {0, 1, 2, 4} * stride for free and 3 * stride from a
// register.
struct RowTiles : Tiles {
  template <int NV, int NP>
  static void tile(const ConvRow& r, const float* in, float* out) {
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
          add_products(at, wv, NV == 2 && p % 2, acc[p]);
        }
#pragma GCC unroll 6
        for (int b = 0; b < kBases; ++b) ++base[b];
      }
    }
    // Read once: a vector store may alias anything.
    const std::ptrdiff_t os = r.out_pixel;
    const int oc = r.oc;
    const bool whole = oc == NV * kWidth;
    if (r.accumulate)
      each_register<NP, NV>([&](int p, int v) {
        const float* o = out + p * os + v * kWidth;
        acc[p][v] = acc[p][v] + (whole ? load(o) : load_first(o, oc - v * kWidth));
      });
    if (whole)
      each_register<NP, NV>([&](int p, int v) { store(out + p * os + v * kWidth, acc[p][v]); });
    else
      each_register<NP, NV>(
          [&](int p, int v) { store_first(out + p * os + v * kWidth, acc[p][v], oc - v * kWidth); });
  }
};
constexpr auto kRowTiles = make_tiles<RowTiles>();

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

void row(const ConvRow& r) {
  if (r.vectors == 1 && is_square(r)) return square_row(r);
  Parts(r.pixels, kAccumulators / r.vectors).each([&](std::int64_t first, int n) {
    kRowTiles.at[r.vectors][n](r, r.in + first * r.in_pixel, r.out + first * r.out_pixel);
  });
}

struct OuterTiles : Tiles {
  template <int NV, int M>
  static void tile(const ConvOuter& o, const float* x, float* dw) {
    Vec acc[M][NV];
    each_register<M, NV>([&](int m, int v) { acc[m][v] = zero(); });
    for (int r = 0; r < o.rows; ++r) {
      const float* a = x + r * o.x_row;
      const float* d = o.dy + r * o.dy_row;
      for (int q = o.pixels; q > 0; --q) {
        Vec dv[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) dv[v] = load(d + v * kWidth);
#pragma GCC unroll 28
        for (int m = 0; m < M; ++m) add_products(a + m, dv, NV == 2 && m % 2, acc[m]);
        a += o.x_pixel;
        d += o.dy_pixel;
      }
    }
    each_register<M, NV>([&](int m, int v) {
      float* p = dw + (m * NV + v) * kWidth;
      store(p, acc[m][v] + load(p));
    });
  }
};
constexpr auto kOuterTiles = make_tiles<OuterTiles>();

void outer(const ConvOuter& o) {
  Parts(o.m, kAccumulators / o.vectors).each([&](std::int64_t first, int n) {
    kOuterTiles.at[o.vectors][n](o, o.x + first, o.dw + first * o.vectors * kWidth);
  });
}

// ---- What surrounds the tiles: padded patches, packed weights, and epilogues over rows still in cache -----

FASTCNN_INLINE void copy(const float* s, float* d, std::ptrdiff_t n) {
  for_lanes(n, [&](std::ptrdiff_t i, auto lanes) { store_first(d + i, load_first(s + i, lanes), lanes); });
}
FASTCNN_INLINE void clear(float* d, std::ptrdiff_t n) {
  for_lanes(n, [&](std::ptrdiff_t i, auto lanes) { store_first(d + i, zero(), lanes); });
}
FASTCNN_INLINE std::int64_t clamp(std::int64_t x, std::int64_t lo, std::int64_t hi) {
  return x < lo ? lo : x > hi ? hi : x;
}

// kH = kW = 0: sizes known only at run time.
template <bool kAverage, int kH, int kW>
void pool_row(const ConvPool& p, const float* in, float* out) {
  const std::int64_t kh = kH ? kH : p.kh, kw = kW ? kW : p.kw;
  const Vec share = broadcast(1.0f / (float)(kh * kw));
  const std::ptrdiff_t in_row = p.in_row, in_pixel = p.in_pixel, out_pixel = p.out_pixel;
  const std::int64_t step = p.sw * in_pixel, cols = p.cols, c = p.c;
  const auto pixel = [&](std::int64_t q, std::int64_t i, auto n) {
    const float* window = in + q * step + i;
    Vec v = load_first(window, n);
#pragma GCC unroll 2
    for (std::int64_t y = 0; y < kh; ++y)
#pragma GCC unroll 2
      for (std::int64_t x = 0; x < kw; ++x) {
        if (y == 0 && x == 0) continue;
        const Vec t = load_first(window + y * in_row + x * in_pixel, n);
        v = kAverage ? v + t : larger(v, t);
      }
    store_first(out + q * out_pixel + i, kAverage ? v * share : v, n);
  };
  if (c == kWidth)  // a batch-interleaved block: the loop over channels would cost as much as the pixel
    for (std::int64_t q = 0; q < cols; ++q) pixel(q, 0, Full{});
  else
    for (std::int64_t q = 0; q < cols; ++q) for_lanes(c, [&](std::int64_t i, auto n) { pixel(q, i, n); });
}

void patch(const ConvPatch& p) {
  const std::int64_t first = clamp(-p.x0, 0, p.cols), last = clamp(p.iw - p.x0, first, p.cols);
  for (std::int64_t r = 0; r < p.rows; ++r) {
    float* d = p.out + r * p.cols * p.out_c;
    const std::int64_t y = p.y0 + r;
    if (y < 0 || y >= p.ih) {
      clear(d, p.cols * p.out_c);
      continue;
    }
    clear(d, first * p.out_c);
    clear(d + last * p.out_c, (p.cols - last) * p.out_c);
    const float* s = p.image + y * p.image_row + (p.x0 + first) * p.image_pixel;
    d += first * p.out_c;
    // Pixels without gaps are one long run.
    const bool dense = p.image_pixel == p.c && p.out_c == p.c;
    const std::int64_t runs = dense ? 1 : last - first, length = dense ? (last - first) * p.c : p.c;
    for (std::int64_t x = 0; x < runs; ++x, s += p.image_pixel, d += p.out_c)
      if (p.out_c == p.c)
        copy(s, d, length);
      else
        for (std::int64_t i = 0; i < p.out_c; i += kWidth) store(d + i, load_first(s + i, p.c - i));
  }
}

void finish(const ConvFinish& f) {
  // Pixels without gaps are one long run.
  const bool dense =
      f.pixel == f.c && (!f.residual || f.residual_pixel == f.c) && (!f.kept || f.kept_pixel == f.c);
  const std::int64_t runs = dense ? 1 : f.pixels, length = dense ? f.pixels * f.c : f.c;
  with_function(f.function, [&](auto fn) {
    for (std::int64_t r = 0; r < runs; ++r) {
      float* y = f.y + r * f.pixel;
      const float* residual = f.residual ? f.residual + r * f.residual_pixel : nullptr;
      float* kept = f.kept ? f.kept + r * f.kept_pixel : nullptr;
      if (!residual && !kept) {
        for_lanes(length, [&](std::int64_t i, auto n) { store_first(y + i, fn(load_first(y + i, n)), n); });
        continue;
      }
      for_lanes(length, [&](std::int64_t i, auto n) {
        Vec v = load_first(y + i, n);
        if (residual) v = v + load_first(residual + i, n);
        if (kept) store_first(kept + i, v, n);
        store_first(y + i, fn(v), n);
      });
    }
  });
}

void moments(const float* y, std::ptrdiff_t pixel, std::int64_t pixels, std::int64_t c, bool first,
             float* shift, float* sum, float* square) {
  for_lanes(c, [&](std::int64_t i, auto n) {
    const float* p = y + i;
    const Vec s = load_first(first ? p : shift + i, n);
    // Two sums of each kind: one alone waits for its own additions.
    Vec s1[2] = {zero(), zero()}, s2[2] = {zero(), zero()};
    if (!first) s1[0] = load_first(sum + i, n), s2[0] = load_first(square + i, n);
    std::int64_t q = 0;
    if (n == kWidth) {
      for (; q + 2 <= pixels; q += 2, p += 2 * pixel)
#pragma GCC unroll 2
        for (int u = 0; u < 2; ++u) {
          const Vec d = load(p + u * pixel) - s;
          s1[u] = s1[u] + d;
          s2[u] = fma(d, d, s2[u]);
        }
    }
    for (; q < pixels; ++q, p += pixel) {
      const Vec d = load_first(p, n) - s;
      s1[0] = s1[0] + d;
      s2[0] = fma(d, d, s2[0]);
    }
    if (first) store_first(shift + i, s, n);
    store_first(sum + i, s1[0] + s1[1], n);
    store_first(square + i, s2[0] + s2[1], n);
  });
}

void pool(const ConvPool& p) {
  const bool two = p.kh == 2 && p.kw == 2;
  const auto row = p.average ? (two ? pool_row<true, 2, 2> : pool_row<true, 0, 0>)
                             : (two ? pool_row<false, 2, 2> : pool_row<false, 0, 0>);
  for (std::int64_t r = 0; r < p.runs; ++r) row(p, p.in + r * p.in_run, p.out + r * p.out_run);
}

void channel_sums(const float* y, std::ptrdiff_t pixel, std::int64_t pixels, std::int64_t c, float* sums) {
  for_lanes(c, [&](std::int64_t i, auto n) {
    const float* p = y + i;
    Vec s[4] = {zero(), zero(), zero(), zero()};
    std::int64_t q = 0;
    if (n == kWidth)
      for (; q + 4 <= pixels; q += 4, p += 4 * pixel)
#pragma GCC unroll 4
        for (int u = 0; u < 4; ++u) s[u] = s[u] + load(p + u * pixel);
    for (; q < pixels; ++q, p += pixel) s[0] = s[0] + load_first(p, n);
    store_first(sums + i, load_first(sums + i, n) + ((s[0] + s[1]) + (s[2] + s[3])), n);
  });
}

void pack_weights(const ConvWeights& s, const float* w, float* packed) {
  const int block = s.vectors * kWidth;
  for (int t = 0; t < s.n_taps; ++t)
    for (int c = 0; c < s.ic; ++c) {
      const float* from = w + c * s.ic_stride + s.taps[t];
      float* to = packed + t * s.packed_tap + c * block;
      int k = 0;
      for (; k < s.oc; ++k) to[k] = from[k * s.oc_stride];
      for (; k < block; ++k) to[k] = 0;
    }
}

void unpack_weights(const ConvWeights& s, const float* packed, std::ptrdiff_t group_stride, int groups,
                    float* w) {
  const int block = s.vectors * kWidth;
  for (int c = 0; c < s.ic; ++c)
    for (int t = 0; t < s.n_taps; ++t)
      for (int v = 0; v * kWidth < s.oc; ++v) {
        const float* from = packed + t * s.packed_tap + c * block + v * kWidth;
        Vec sum = load(from);
        for (int g = 1; g < groups; ++g) sum = sum + load(from + g * group_stride);
        float lane[kWidth];
        store(lane, sum);
        float* to = w + v * kWidth * s.oc_stride + c * s.ic_stride + s.taps[t];
        const int n = lanes_of(s.oc - v * kWidth);
        for (int k = 0; k < n; ++k) to[k * s.oc_stride] = lane[k];
      }
}

}  // namespace

extern const ConvKernels kConv = {{0, kAccumulators, kAccumulators / 2, 0, kWide ? kAccumulators / 4 : 0},
                                  row,
                                  outer,
                                  patch,
                                  finish,
                                  moments,
                                  pool,
                                  channel_sums,
                                  pack_weights,
                                  unpack_weights,
                                  depthwise_row,
                                  depthwise_outer};

}  // namespace fastcnn::FASTCNN_ISA
