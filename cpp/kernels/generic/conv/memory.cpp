// What convolution does around its register tiles: cutting padded patches, packing weights, and the epilogues
// over output rows that are still in cache.
#include "kernels/conv.h"
#include "kernels/generic/conv/parts.h"
#include "kernels/generic/math.h"
#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

FASTCNN_INLINE void copy(const float* s, float* d, std::ptrdiff_t n) {
  std::ptrdiff_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(d + i, load(s + i));
  if (i < n) store_n(d + i, load_n(s + i, (int)(n - i)), (int)(n - i));
}
FASTCNN_INLINE void clear(float* d, std::ptrdiff_t n) {
  std::ptrdiff_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(d + i, zero());
  if (i < n) store_n(d + i, zero(), (int)(n - i));
}
FASTCNN_INLINE std::int64_t clamp(std::int64_t x, std::int64_t lo, std::int64_t hi) {
  return x < lo ? lo : x > hi ? hi : x;
}
FASTCNN_INLINE int lanes(std::int64_t left) { return left < kWidth ? (int)left : kWidth; }

}  // namespace

void conv_patch(const ConvPatch& p) {
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
    if (p.image_pixel == p.c && p.out_c == p.c) {
      copy(s, d, (last - first) * p.c);
    } else if (p.out_c == p.c) {
      for (std::int64_t x = first; x < last; ++x, s += p.image_pixel, d += p.c) copy(s, d, p.c);
    } else {
      for (std::int64_t x = first; x < last; ++x, s += p.image_pixel, d += p.out_c)
        for (std::int64_t i = 0; i < p.out_c; i += kWidth) store(d + i, load_first(s + i, (int)(p.c - i)));
    }
  }
}

void conv_finish(const ConvFinish& f) {
  // Pixels without gaps are one long run.
  const bool dense = f.pixel == f.c && (!f.residual || f.residual_pixel == f.c);
  const std::int64_t runs = dense ? 1 : f.pixels, length = dense ? f.pixels * f.c : f.c;
  with_act(f.activation, [&](auto act) {
    constexpr Act kAct = decltype(act)::value;
    for (std::int64_t r = 0; r < runs; ++r) {
      float* y = f.y + r * f.pixel;
      const float* residual = f.residual ? f.residual + r * f.residual_pixel : nullptr;
      std::int64_t i = 0;
      for (; i + kWidth <= length; i += kWidth) {
        const Vec v = load(y + i);
        store(y + i, activate<kAct>(residual ? v + load(residual + i) : v));
      }
      if (const int n = (int)(length - i)) {
        const Vec v = load_n(y + i, n);
        store_n(y + i, activate<kAct>(residual ? v + load_n(residual + i, n) : v), n);
      }
    }
  });
}

void conv_copy_pixels(const float* from, std::ptrdiff_t from_pixel, float* to, std::ptrdiff_t to_pixel,
                      std::int64_t pixels, std::int64_t c) {
  for (std::int64_t q = 0; q < pixels; ++q) copy(from + q * from_pixel, to + q * to_pixel, c);
}

void conv_moments(const float* y, std::ptrdiff_t pixel, std::int64_t pixels, std::int64_t c, bool first,
                  float* shift, float* sum, float* square) {
  for (std::int64_t i = 0; i < c; i += kWidth) {
    const int n = lanes(c - i);
    const float* p = y + i;
    const Vec s = first ? load_n(p, n) : load_n(shift + i, n);
    // Two sums of each kind: one alone waits for its own additions.
    Vec s1[2] = {zero(), zero()}, s2[2] = {zero(), zero()};
    if (!first) s1[0] = load_n(sum + i, n), s2[0] = load_n(square + i, n);
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
      const Vec d = load_n(p, n) - s;
      s1[0] = s1[0] + d;
      s2[0] = fma(d, d, s2[0]);
    }
    if (first) store_n(shift + i, s, n);
    store_n(sum + i, s1[0] + s1[1], n);
    store_n(square + i, s2[0] + s2[1], n);
  }
}

void conv_pool(const ConvPool& p) {
  const Vec scale = broadcast(1.0f / (float)(p.kh * p.kw));
  for (std::int64_t q = 0; q < p.cols; ++q) {
    for (std::int64_t i = 0; i < p.c; i += kWidth) {
      const int n = lanes(p.c - i);
      const float* window = p.in + q * p.sw * p.in_pixel + i;
      Vec v = load_n(window, n);
      for (std::int64_t y = 0; y < p.kh; ++y)
        for (std::int64_t x = y ? 0 : 1; x < p.kw; ++x) {
          const Vec t = load_n(window + y * p.in_row + x * p.in_pixel, n);
          // A NaN wins: vmax gives its second operand when either is one.
          v = p.average ? v + t : select(v != v, v, vmax(v, t));
        }
      store_n(p.out + q * p.out_pixel + i, p.average ? v * scale : v, n);
    }
  }
}

void conv_channel_sums(const float* y, std::ptrdiff_t pixel, std::int64_t pixels, std::int64_t c,
                       float* sums) {
  for (std::int64_t i = 0; i < c; i += kWidth) {
    const int n = lanes(c - i);
    const float* p = y + i;
    Vec s[4] = {zero(), zero(), zero(), zero()};
    std::int64_t q = 0;
    if (n == kWidth)
      for (; q + 4 <= pixels; q += 4, p += 4 * pixel)
#pragma GCC unroll 4
        for (int u = 0; u < 4; ++u) s[u] = s[u] + load(p + u * pixel);
    for (; q < pixels; ++q, p += pixel) s[0] = s[0] + load_n(p, n);
    store_n(sums + i, load_n(sums + i, n) + ((s[0] + s[1]) + (s[2] + s[3])), n);
  }
}

void conv_pack_weights(const ConvWeights& s, const float* w, float* packed) {
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

void conv_unpack_weights(const ConvWeights& s, const float* packed, std::ptrdiff_t group_stride, int groups,
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
        const int n = lanes(s.oc - v * kWidth);
        for (int k = 0; k < n; ++k) to[k * s.oc_stride] = lane[k];
      }
}

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
