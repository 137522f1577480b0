// The transforms of Winograd F(4x4, 3x3) over activations, lanes along channels.
#include "kernels/winograd.h"

#include "kernels/generic/conv/winograd_parts.h"
#include "kernels/generic/math.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

// row(i, c, at): the addresses of channel c of the six pixels in row i of the patch.
template <class Row>
FASTCNN_INLINE void input_tile(Row row, std::ptrdiff_t c, int n, float* v, std::ptrdiff_t product) {
  Vec half[6][6];
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    const float* at[6];
    row(i, c, at);
    Vec d[6];
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) d[j] = n == kWidth ? load(at[j]) : load_n(at[j], n);
    input_1d(d, half[i]);
  }
  v += c;
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    Vec d[6], o[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) d[i] = half[i][j];
    input_1d(d, o);
    float* to = here(v + j * product);
    float* below = here(to + 18 * product);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      store(to + i * 6 * product, o[i]);
      store(below + i * 6 * product, o[3 + i]);
    }
  }
}

template <class Row>
FASTCNN_INLINE void input_channels(Row row, std::int64_t channels, float* v, std::ptrdiff_t product) {
  std::ptrdiff_t c = 0;
  for (; c + kWidth <= channels; c += kWidth) input_tile(row, c, kWidth, v, product);
  if (c < channels) input_tile(row, c, (int)(channels - c), v, product);
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
  std::ptrdiff_t at;  // of its first pixel, from y
  int rows, cols;     // inside the image
  bool first;         // of the statistics
  float* pooled;
  int pooled_rows, pooled_cols;
};

FASTCNN_INLINE void add_moments(const WinogradOutput& a, const OutputTile& t, std::ptrdiff_t c, int n,
                                const Vec (&o)[4][4]) {
  const Vec shift = t.first ? o[0][0] : load_n(a.shift + c, n);
  Vec sum = t.first ? zero() : load_n(a.sum + c, n), square = t.first ? zero() : load_n(a.square + c, n);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (i >= t.rows || j >= t.cols) continue;
      const Vec d = o[i][j] - shift;
      sum = sum + d;
      square = fma(d, d, square);
    }
  if (t.first) store_n(a.shift + c, shift, n);
  store_n(a.sum + c, sum, n);
  store_n(a.square + c, square, n);
}

FASTCNN_INLINE void pool_tile(const WinogradOutput& a, const OutputTile& t, std::ptrdiff_t c, int n,
                              const Vec (&o)[4][4]) {
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      if (i >= t.pooled_rows || j >= t.pooled_cols) continue;
      const Vec p = o[2 * i][2 * j], q = o[2 * i][2 * j + 1], r = o[2 * i + 1][2 * j],
                s = o[2 * i + 1][2 * j + 1];
      Vec v;
      if (a.average) {
        v = ((p + q) + (r + s)) * 0.25f;
      } else {  // a NaN wins: vmax gives its second operand when either is one
        v = select(p != p, p, vmax(p, q));
        v = select(v != v, v, vmax(v, r));
        v = select(v != v, v, vmax(v, s));
      }
      store_n(t.pooled + i * a.pooled_images.row + j * a.pooled_images.pixel + c, v, n);
    }
}

template <Act kAct>
FASTCNN_INLINE void output_tile(const WinogradOutput& a, const OutputTile& t, const float* m,
                                std::ptrdiff_t c, int n) {
  const std::ptrdiff_t product = a.m.product;
  Vec half[4][6], o[4][4];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    Vec d[6], e[4];
    const float* from = here(m + j * product + c);
    const float* below = here(from + 18 * product);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) d[i] = load(from + i * 6 * product), d[3 + i] = load(below + i * 6 * product);
    output_1d(d, e);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) half[i][j] = e[i];
  }
  const Vec bias = a.bias ? load_n(a.bias + c, n) : zero();
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    output_1d(half[i], o[i]);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) o[i][j] = o[i][j] + bias;
  }
  if (a.shift) add_moments(a, t, c, n, o);
  const bool whole = t.rows == 4 && t.cols == 4 && n == kWidth;
  if (kAct == Act::kNone && whole && !a.residual && !a.pooled) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      float* y = here(a.y + t.at + i * a.images.row + c);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) store(y + j * a.images.pixel, o[i][j]);
    }
    return;
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (i >= t.rows || j >= t.cols) continue;
      const std::ptrdiff_t at = t.at + i * a.images.row + j * a.images.pixel + c;
      if (a.residual) o[i][j] = o[i][j] + load_n(a.residual + at, n);
      o[i][j] = activate<kAct>(o[i][j]);
      if (!a.pooled) store_n(a.y + at, o[i][j], n);
    }
  if (a.pooled) pool_tile(a, t, c, n, o);
}

FASTCNN_INLINE int at_most(std::int64_t n, int most) { return n < most ? (int)n : most; }

template <Act kAct>
FASTCNN_INLINE void output_tiles(const WinogradOutput& a) {
  const WinogradImages &im = a.images, &pool = a.pooled_images;
  for_tiles(a.tiles, [&](std::int64_t image, std::int64_t ty, std::int64_t tx, std::int64_t index) {
    OutputTile t{};
    t.at = image * im.image + ty * 4 * im.row + tx * 4 * im.pixel;
    t.rows = at_most(im.h - ty * 4, 4), t.cols = at_most(im.w - tx * 4, 4);
    t.first = index == 0;
    if (a.pooled) {
      t.pooled = a.pooled + image * pool.image + ty * 2 * pool.row + tx * 2 * pool.pixel;
      t.pooled_rows = at_most(pool.h - ty * 2, 2), t.pooled_cols = at_most(pool.w - tx * 2, 2);
    }
    const float* m = a.m.data + index * a.m.tile;
    std::ptrdiff_t c = 0;
    for (; c + kWidth <= a.c; c += kWidth) output_tile<kAct>(a, t, m, c, kWidth);
    if (c < a.c) output_tile<kAct>(a, t, m, c, (int)(a.c - c));
  });
}

void output(const WinogradOutput& a) {
  with_act(a.activation, [&](auto act) { output_tiles<decltype(act)::value>(a); });
}

// at(i, j): pixel (i, j) of dy's tile.
template <class At>
FASTCNN_INLINE void gradient_tile(At at, float* d, std::ptrdiff_t product) {
  Vec half[4][6];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Vec y[4] = {at(i, 0), at(i, 1), at(i, 2), at(i, 3)};
    gradient_1d(y, half[i]);
  }
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    const Vec y[4] = {half[0][j], half[1][j], half[2][j], half[3][j]};
    Vec o[6];
    gradient_1d(y, o);
    float* to = here(d + j * product);
    float* below = here(to + 18 * product);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      store(to + i * 6 * product, o[i]);
      store(below + i * 6 * product, o[3 + i]);
    }
  }
}

void gradient(const WinogradGradient& a) {
  const WinogradImages& im = a.images;
  for_tiles(a.tiles, [&](std::int64_t image, std::int64_t ty, std::int64_t tx, std::int64_t index) {
    const float* dy = a.dy + image * im.image + ty * 4 * im.row + tx * 4 * im.pixel;
    const int rows = at_most(im.h - ty * 4, 4), cols = at_most(im.w - tx * 4, 4);
    float* d = a.d.data + index * a.d.tile;
    std::ptrdiff_t c = 0;
    if (rows == 4 && cols == 4)
      for (; c + kWidth <= a.c; c += kWidth) {
        const auto at = [&](int i, int j) { return load(dy + i * im.row + j * im.pixel + c); };
        gradient_tile(at, d + c, a.d.product);
      }
    for (; c < a.padded; c += kWidth) {
      const int n = a.c - c < kWidth ? (int)(a.c - c) : kWidth;
      const auto at = [&](int i, int j) {
        return i < rows && j < cols ? load_first(dy + i * im.row + j * im.pixel + c, n) : zero();
      };
      gradient_tile(at, d + c, a.d.product);
    }
  });
}

}  // namespace

extern const WinogradKernels kWinograd;
const WinogradKernels kWinograd = {input, output, gradient, winograd_weights, winograd_weight_gradient};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
