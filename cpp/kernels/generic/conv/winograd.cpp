// F(4x4, 3x3) by Toom-Cook with six points: transforms of activations and weights, lanes along channels.
// Lavin & Gray 2016, "Fast algorithms for convolutional neural networks", section 4.3; the choice of points:
// Barabasz et al. 2020, "Error analysis and improving the accuracy of Winograd convolution for deep neural
// networks".
#include "kernels/winograd.h"

#include "kernels/generic/functions.h"
#include "kernels/generic/lanes.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

// Makes the compiler compute an address here and now: it would otherwise work out all 36 before the loop over
// channels and keep them in memory.
template <class T>
FASTCNN_INLINE T* here(T* p) {
  __asm__ volatile("" : "+r"(p));
  return p;
}

// The finite points besides 0 are +-kA and +-kB. With 5/8 and 3/2 rounding errors are less than half those of
// the usual 1 and 2, and every constant of B and A is still exact.
constexpr float kA = 0.625f, kA2 = kA * kA, kA3 = kA2 * kA;
constexpr float kB = 1.5f, kB2 = kB * kB, kB3 = kB2 * kB;
constexpr float kG0 = 1 / (kA2 * kB2);              // G's row of 0
constexpr float kGA = 1 / (2 * kA2 * (kA2 - kB2));  // of +-kA, times (1, +-kA, kA2)
constexpr float kGB = 1 / (2 * kB2 * (kB2 - kA2));  // of +-kB

// o = B^T d
FASTCNN_INLINE void input_1d(const Vec (&d)[6], Vec (&o)[6]) {
  const Vec a = broadcast(kA), b = broadcast(kB), a2 = broadcast(kA2), b2 = broadcast(kB2);
  const Vec sum = broadcast(kA2 + kB2), product = broadcast(kA2 * kB2);
  const Vec e = fma(-b2, d[2], d[4]), f = fma(-b2, d[1], d[3]);
  const Vec g = fma(-a2, d[2], d[4]), h = fma(-a2, d[1], d[3]);
  o[0] = fma(product, d[0], fma(-sum, d[2], d[4]));
  o[1] = fma(a, f, e);
  o[2] = fma(-a, f, e);
  o[3] = fma(b, h, g);
  o[4] = fma(-b, h, g);
  o[5] = fma(product, d[1], fma(-sum, d[3], d[5]));
}

// o = A^T m
FASTCNN_INLINE void output_1d(const Vec (&m)[6], Vec (&o)[4]) {
  const Vec s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
  o[0] = m[0] + s1 + s2;
  o[1] = fma(broadcast(kB), d2, d1 * kA);
  o[2] = fma(broadcast(kB2), s2, s1 * kA2);
  o[3] = fma(broadcast(kB3), d2, fma(broadcast(kA3), d1, m[5]));
}

// The values at 0, +-kA, +-kB and infinity, from the even and odd parts of those between.
FASTCNN_INLINE void at_points(Vec zero, Vec a_even, Vec a_odd, Vec b_even, Vec b_odd, Vec infinity,
                              Vec (&o)[6]) {
  o[0] = zero;
  o[1] = a_even + a_odd;
  o[2] = a_even - a_odd;
  o[3] = b_even + b_odd;
  o[4] = b_even - b_odd;
  o[5] = infinity;
}

// o = A y
FASTCNN_INLINE void gradient_1d(const Vec (&y)[4], Vec (&o)[6]) {
  const Vec e = fma(broadcast(kA2), y[2], y[0]), f = fma(broadcast(kA3), y[3], y[1] * kA);
  const Vec g = fma(broadcast(kB2), y[2], y[0]), h = fma(broadcast(kB3), y[3], y[1] * kB);
  at_points(y[0], e, f, g, h, y[3], o);
}

// o = G g
FASTCNN_INLINE void weight_1d(const Vec (&g)[3], Vec (&o)[6]) {
  const Vec e = fma(broadcast(kA2), g[2], g[0]) * kGA, f = g[1] * (kA * kGA);
  const Vec h = fma(broadcast(kB2), g[2], g[0]) * kGB, i = g[1] * (kB * kGB);
  at_points(g[0] * kG0, e, f, h, i, g[2], o);
}

// o = G^T m
FASTCNN_INLINE void weight_gradient_1d(const Vec (&m)[6], Vec (&o)[3]) {
  const Vec s1 = (m[1] + m[2]) * kGA, d1 = (m[1] - m[2]) * (kA * kGA);
  const Vec s2 = (m[3] + m[4]) * kGB, d2 = (m[3] - m[4]) * (kB * kGB);
  o[0] = fma(broadcast(kG0), m[0], s1 + s2);
  o[1] = d1 + d2;
  o[2] = fma(broadcast(kA2), s1, fma(broadcast(kB2), s2, m[5]));
}

// f(image, row, col, i) for every tile of the run; i counts from 0.
template <class F>
FASTCNN_INLINE void for_tiles(const WinogradTiles& t, F&& f) {
  const std::int64_t per_image = t.rows * t.cols;
  std::int64_t image = t.first / per_image, rest = t.first % per_image;
  std::int64_t row = rest / t.cols, col = rest % t.cols;
  for (std::int64_t i = 0; i < t.count; ++i) {
    f(image, row, col, i);
    if (++col < t.cols) continue;
    col = 0;
    if (++row < t.rows) continue;
    row = 0;
    ++image;
  }
}

// A transform of rows, then of columns (or the other way round): load(i, d) gives the vectors of line i of
// kIn, store(j, o) takes those of line j of kTo across.
template <int kIn, int kTo, class T, class Load, class Store>
FASTCNN_INLINE void transform_2d(T transform, Load load, Store store) {
  Vec half[kIn][kTo];
#pragma GCC unroll 6
  for (int i = 0; i < kIn; ++i) {
    Vec d[kIn];
    load(i, d);
    transform(d, half[i]);
  }
#pragma GCC unroll 6
  for (int j = 0; j < kTo; ++j) {
    Vec d[kIn], o[kTo];
#pragma GCC unroll 6
    for (int i = 0; i < kIn; ++i) d[i] = half[i][j];
    transform(d, o);
    store(j, o);
  }
}

// A column of the 6 x 6 products.
FASTCNN_INLINE void store_column(const Vec (&o)[6], float* to, std::ptrdiff_t product) {
  to = here(to);
  float* below = here(to + 18 * product);
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    store(to + i * 6 * product, o[i]);
    store(below + i * 6 * product, o[3 + i]);
  }
}

// row(i, c, at): the addresses of channel c of the six pixels in row i of the patch.
template <class Row, class N>
FASTCNN_INLINE void input_tile(Row row, std::ptrdiff_t c, N n, float* v, std::ptrdiff_t product) {
  // Written out: as a call of transform_2d it is a tenth slower.
  Vec half[6][6];
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    const float* at[6];
    row(i, c, at);
    Vec d[6];
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) d[j] = load_first(at[j], n);
    input_1d(d, half[i]);
  }
  v += c;
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    Vec d[6], o[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) d[i] = half[i][j];
    input_1d(d, o);
    store_column(o, v + j * product, product);
  }
}

template <class Row>
FASTCNN_INLINE void input_channels(Row row, std::int64_t channels, float* v, std::ptrdiff_t product) {
  for_lanes(channels, [&](std::ptrdiff_t c, auto n) { input_tile(row, c, n, v, product); });
}

// -1 where 0 <= at + i < n, else 0.
FASTCNN_INLINE void inside(std::int64_t at, std::int64_t n, std::intptr_t (&mask)[6]) {
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) mask[i] = -(std::intptr_t)((std::uint64_t)(at + i) < (std::uint64_t)n);
}

void input(const WinogradInput& a) {
  const WinogradImages& im = a.images;
  for_tiles(a.tiles, [&](std::int64_t image, std::int64_t ty, std::int64_t tx, std::int64_t index) {
    const std::int64_t y = ty * 4 - a.top, x = tx * 4 - a.left;
    const float* base = a.x + image * im.image + y * im.row + x * im.pixel;
    float* v = a.v.data + index * a.v.tile;
    if (y >= 0 && x >= 0 && y + 6 <= im.h && x + 6 <= im.w) {
      input_channels(
          [&](int i, std::ptrdiff_t c, const float*(&at)[6]) {
            const float* left = here(base + i * im.row + c);
            const float* right = left + 3 * im.pixel;
#pragma GCC unroll 3
            for (int j = 0; j < 3; ++j) at[j] = left + j * im.pixel, at[3 + j] = right + j * im.pixel;
          },
          a.c, v, a.v.product);
      return;
    }
    // Pixels outside are read from the zeros.
    std::intptr_t rows[6], cols[6], offset[36];
    inside(y, im.h, rows);
    inside(x, im.w, cols);
    const std::intptr_t zeros = (std::intptr_t)a.zeros;
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < 6; ++j)
        offset[i * 6 + j] = ((std::intptr_t)(base + i * im.row + j * im.pixel) - zeros) & rows[i] & cols[j];
    input_channels(
        [&](int i, std::ptrdiff_t c, const float*(&at)[6]) {
          const char* from = (const char*)(a.zeros + c);
#pragma GCC unroll 6
          for (int j = 0; j < 6; ++j) at[j] = (const float*)(from + offset[i * 6 + j]);
        },
        a.c, v, a.v.product);
  });
}

struct OutputTile {
  std::ptrdiff_t y, residual;  // of its first pixel
  int rows, cols;              // inside the image
  bool first;                  // of the statistics
  float* pooled;
  int pooled_rows, pooled_cols;
};

// kWhole: all of the tile lies inside the image.
template <bool kWhole, class N>
FASTCNN_INLINE void add_moments(const WinogradOutput& a, const OutputTile& t, std::ptrdiff_t c, N n,
                                const Vec (&o)[4][4]) {
  const Vec shift = t.first ? o[0][0] : load_first(a.shift + c, n);
  Vec sum = t.first ? zero() : load_first(a.sum + c, n);
  Vec square = t.first ? zero() : load_first(a.square + c, n);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (!kWhole && (i >= t.rows || j >= t.cols)) continue;
      const Vec d = o[i][j] - shift;
      sum = sum + d;
      square = fma(d, d, square);
    }
  if (t.first) store_first(a.shift + c, shift, n);
  store_first(a.sum + c, sum, n);
  store_first(a.square + c, square, n);
}

template <class N>
FASTCNN_INLINE void pool_tile(const WinogradOutput& a, const OutputTile& t, std::ptrdiff_t c, N n,
                              const Vec (&o)[4][4]) {
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      if (i >= t.pooled_rows || j >= t.pooled_cols) continue;
      const Vec p = o[2 * i][2 * j], q = o[2 * i][2 * j + 1];
      const Vec r = o[2 * i + 1][2 * j], s = o[2 * i + 1][2 * j + 1];
      const Vec v = a.average ? ((p + q) + (r + s)) * 0.25f : larger(larger(larger(p, q), r), s);
      store_first(t.pooled + i * a.pooled_images.row + j * a.pooled_images.pixel + c, v, n);
    }
}

template <bool kWhole, class F, class N>
FASTCNN_INLINE void output_tile(const WinogradOutput& a, const OutputTile& t, const float* m,
                                std::ptrdiff_t c, N n, const F& f) {
  const std::ptrdiff_t product = a.m.product;
  const auto load_column = [&](int j, Vec(&d)[6]) {
    const float* from = here(m + j * product + c);
    const float* below = here(from + 18 * product);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) d[i] = load(from + i * 6 * product), d[3 + i] = load(below + i * 6 * product);
  };
  Vec o[4][4];
  transform_2d<6, 4>(output_1d, load_column, [&](int i, const Vec(&row)[4]) {
    const Vec bias = a.bias ? load_first(a.bias + c, n) : zero();
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) o[i][j] = row[j] + bias;
  });
  if (a.shift) add_moments<kWhole>(a, t, c, n, o);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    if (!kWhole && i >= t.rows) continue;
    const float* residual = a.residual;
    if (residual) residual = here(residual + t.residual + i * a.residual_images.row + c);
    float* y = a.y;
    if (y) y = here(y + t.y + i * a.images.row + c);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (!kWhole && j >= t.cols) continue;
      if (residual) o[i][j] = o[i][j] + load_first(residual + j * a.residual_images.pixel, n);
      o[i][j] = f(o[i][j]);
      if (y) store_first(y + j * a.images.pixel, o[i][j], n);
    }
  }
  if (a.pooled) pool_tile(a, t, c, n, o);
}

FASTCNN_INLINE int at_most(std::int64_t n, int most) { return n < most ? (int)n : most; }

// Of the first pixel of the tile of size x size pixels.
FASTCNN_INLINE std::ptrdiff_t corner(const WinogradImages& im, std::int64_t image, std::int64_t ty,
                                     std::int64_t tx, int size) {
  return image * im.image + ty * size * im.row + tx * size * im.pixel;
}

template <class F>
FASTCNN_INLINE void output_tiles(const WinogradOutput& a, const F& f) {
  const WinogradImages &im = a.images, &pool = a.pooled_images;
  for_tiles(a.tiles, [&](std::int64_t image, std::int64_t ty, std::int64_t tx, std::int64_t index) {
    OutputTile t{};
    t.y = corner(im, image, ty, tx, 4), t.residual = corner(a.residual_images, image, ty, tx, 4);
    t.rows = at_most(im.h - ty * 4, 4), t.cols = at_most(im.w - tx * 4, 4);
    t.first = index == 0;
    if (a.pooled) {
      t.pooled = a.pooled + corner(pool, image, ty, tx, 2);
      t.pooled_rows = at_most(pool.h - ty * 2, 2), t.pooled_cols = at_most(pool.w - tx * 2, 2);
    }
    const float* m = a.m.data + index * a.m.tile;
    if (t.rows == 4 && t.cols == 4)
      for_lanes(a.c, [&](std::ptrdiff_t c, auto n) { output_tile<true>(a, t, m, c, n, f); });
    else
      for_lanes(a.c, [&](std::ptrdiff_t c, auto n) { output_tile<false>(a, t, m, c, n, f); });
  });
}

void output(const WinogradOutput& a) {
  with_function(a.f, [&](auto f) { output_tiles(a, f); });
}

// at(i, j): pixel (i, j) of dy's tile.
template <class At>
FASTCNN_INLINE void gradient_tile(At at, float* d, std::ptrdiff_t product) {
  const auto load_row = [&](int i, Vec(&y)[4]) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) y[j] = at(i, j);
  };
  transform_2d<4, 6>(gradient_1d, load_row,
                     [&](int j, const Vec(&o)[6]) { store_column(o, d + j * product, product); });
}

void gradient(const WinogradGradient& a) {
  const WinogradImages& im = a.images;
  for_tiles(a.tiles, [&](std::int64_t image, std::int64_t ty, std::int64_t tx, std::int64_t index) {
    const float* dy = a.dy + corner(im, image, ty, tx, 4);
    const int rows = at_most(im.h - ty * 4, 4), cols = at_most(im.w - tx * 4, 4);
    float* d = a.d.data + index * a.d.tile;
    std::ptrdiff_t c = 0;
    if (rows == 4 && cols == 4)
      for (; c + kWidth <= a.c; c += kWidth) {
        const auto at = [&](int i, int j) { return load(dy + i * im.row + j * im.pixel + c); };
        gradient_tile(at, d + c, a.d.product);
      }
    for (; c < a.padded; c += kWidth) {
      const int n = lanes_of(a.c - c);
      const auto at = [&](int i, int j) {
        return i < rows && j < cols ? load_first(dy + i * im.row + j * im.pixel + c, n) : zero();
      };
      gradient_tile(at, d + c, a.d.product);
    }
  });
}

// The weights: lanes along output channels.
void weights(const WinogradWeights& s, const float* w, float* u) {
  for (int c = 0; c < s.ic; ++c)
    for (int v = 0; v < s.vectors; ++v) {
      const float* from = w + c * s.ic_stride + v * kWidth * s.oc_stride;
      const int n = lanes_of(s.oc - v * kWidth);
      float lane[9][kWidth] = {};
      for (int k = 0; k < n; ++k)
        for (int t = 0; t < 9; ++t) lane[t][k] = from[k * s.oc_stride + (s.flipped ? 8 - t : t)];
      float* to = u + (c * s.vectors + v) * kWidth;
      transform_2d<3, 6>(
          weight_1d,
          [&](int j, Vec(&g)[3]) {
            for (int i = 0; i < 3; ++i) g[i] = load(lane[i * 3 + j]);
          },
          [&](int i, const Vec(&o)[6]) {
            for (int j = 0; j < 6; ++j) store(to + (i * 6 + j) * s.product, o[j]);
          });
    }
}

void weight_gradient(const WinogradWeights& s, const float* du, float* dw) {
  for (int c = 0; c < s.ic; ++c)
    for (int v = 0; v * kWidth < s.oc; ++v) {
      const float* from = du + (c * s.vectors + v) * kWidth;
      float lane[9][kWidth];
      transform_2d<6, 3>(
          weight_gradient_1d,
          [&](int j, Vec(&m)[6]) {
            for (int i = 0; i < 6; ++i) m[i] = load(from + (i * 6 + j) * s.product);
          },
          [&](int i, const Vec(&o)[3]) {
            for (int j = 0; j < 3; ++j) store(lane[i * 3 + j], o[j]);
          });
      const int n = lanes_of(s.oc - v * kWidth);
      float* to = dw + c * s.ic_stride + v * kWidth * s.oc_stride;
      for (int k = 0; k < n; ++k)
        for (int t = 0; t < 9; ++t) to[k * s.oc_stride + t] = lane[t][k];
    }
}

}  // namespace

extern const WinogradKernels kWinograd = {input, output, gradient, weights, weight_gradient};

}  // namespace fastcnn::FASTCNN_ISA
