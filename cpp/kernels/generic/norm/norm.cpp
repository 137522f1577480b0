// Batch norm: moments, normalisation with residual and activation, and both passes of the gradient.
#include "kernels/norm.h"

#include "kernels/generic/math.h"
#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

struct Full {
  FASTCNN_INLINE Vec get(const float* p) const { return load(p); }
  template <bool kStream>
  FASTCNN_INLINE void put(float* p, Vec v) const {
    if constexpr (kStream)
      stream(p, v);
    else
      store(p, v);
  }
};

struct Some {
  int n;
  FASTCNN_INLINE Vec get(const float* p) const { return load_n(p, n); }
  template <bool kStream>
  FASTCNN_INLINE void put(float* p, Vec v) const {
    store_n(p, v, n);
  }
};

// Walks n floats with a body that holds the pattern's numbers for V vectors in registers. Body: prepare(v,
// position) loads them, operator()(v, offset, lanes) computes one vector.
template <int V, class Body>
FASTCNN_INLINE std::int64_t walk_held(std::int64_t n, Body& body) {
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) body.prepare(v, v * kWidth);
  std::int64_t i = 0;
  for (; i + V * kWidth <= n; i += V * kWidth)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) body(v, i + v * kWidth, Full{});
  return i;
}

// Short periods of the usual activations stay in registers; the rest reads the pattern from L1.
template <Act kAct, class Body>
FASTCNN_INLINE void walk(std::int64_t n, std::int64_t period, Body body) {
  std::int64_t i = 0;
  constexpr bool kHeld = kAct == Act::kNone || kAct == Act::kRelu;
  switch (kHeld ? period : 0) {
    case 1:
      if constexpr (kHeld) i = walk_held<1>(n, body);
      break;
    case 2:
      if constexpr (kHeld) i = walk_held<2>(n, body);
      break;
    case 4:
      if constexpr (kHeld) i = walk_held<4>(n, body);
      break;
    default:
      for (; i + period * kWidth <= n; i += period * kWidth)
        for (std::int64_t p = 0; p < period; ++p) {
          body.prepare(0, p * kWidth);
          body(0, i + p * kWidth, Full{});
        }
  }
  for (std::int64_t p = 0; i < n; ++p, i += kWidth) {
    body.prepare(0, p * kWidth);
    if (n - i >= kWidth)
      body(0, i, Full{});
    else
      body(0, i, Some{(int)(n - i)});
  }
}

template <Act kAct, bool kResidual, bool kStream>
struct ApplyBody {
  const NormApply& a;
  Vec mean[4], scale[4], shift[4];

  FASTCNN_INLINE void prepare(int v, std::int64_t at) {
    mean[v] = load(a.mean + at), scale[v] = load(a.scale + at), shift[v] = load(a.shift + at);
  }
  template <class Lanes>
  FASTCNN_INLINE void operator()(int v, std::int64_t i, Lanes lanes) {
    Vec y = fma(lanes.get(a.x + i) - mean[v], scale[v], shift[v]);
    if constexpr (kResidual) y += lanes.get(a.residual + i);
    lanes.template put<kStream>(a.y + i, activate<kAct>(y));
  }
};

void apply(const NormApply& a) {
  with_act(a.act, [&](auto kind) {
    constexpr Act k = decltype(kind)::value;
    if (a.residual && a.stream)
      walk<k>(a.n, a.period, ApplyBody<k, true, true>{a, {}, {}, {}});
    else if (a.residual)
      walk<k>(a.n, a.period, ApplyBody<k, true, false>{a, {}, {}, {}});
    else if (a.stream)
      walk<k>(a.n, a.period, ApplyBody<k, false, true>{a, {}, {}, {}});
    else
      walk<k>(a.n, a.period, ApplyBody<k, false, false>{a, {}, {}, {}});
  });
  if (a.stream) stream_fence();
}

// Sums walk the value front to back in tiles of a few periods: a tile's vectors of one pattern position are
// added in registers, then join the position's total in memory. Long periods stay sequential streams that
// way.

// Moments of kRows vectors, `row` floats apart, joined to those of the `before` rows before them (Chan,
// Golub, LeVeque 1979). to_mean, to_m2: kRows / (before + kRows), before * kRows / (before + kRows).
template <int kRows>
FASTCNN_INLINE void join_moments(const float* x, std::int64_t row, bool first, Vec to_mean, Vec to_m2,
                                 float* mean, float* m2) {
  Vec v[kRows], m, q;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) v[r] = load(x + r * row);
  if constexpr (kRows == 8) {
    m = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
  } else {
    m = v[0];
#pragma GCC unroll 8
    for (int r = 1; r < kRows; ++r) m += v[r];
  }
  m *= broadcast(1.0f / kRows);
  Vec even = zero(), odd = zero();
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const Vec d = v[r] - m;
    Vec& q_of = r % 2 ? odd : even;
    q_of = fma(d, d, q_of);
  }
  q = even + odd;
  if (!first) {
    const Vec old = load(mean), d = m - old;
    m = fma(d, to_mean, old);
    q = fma(d * d, to_m2, load(m2) + q);
  }
  store(mean, m);
  store(m2, q);
}

template <int kRows>
FASTCNN_INLINE void moments_tile(const float* x, std::int64_t before, std::int64_t period, float* mean,
                                 float* m2) {
  const float part = (float)kRows / (float)(before + kRows);
  const Vec to_mean = broadcast(part), to_m2 = broadcast((float)before * part);
  for (std::int64_t p = 0; p < period * kWidth; p += kWidth)
    join_moments<kRows>(x + p, period * kWidth, before == 0, to_mean, to_m2, mean + p, m2 + p);
}

void moments(const float* x, std::int64_t rows, std::int64_t period, float* mean, float* m2) {
  constexpr int kTile = kAccumulators >= 24 ? 8 : 4;
  const std::int64_t row = period * kWidth;
  std::int64_t r = 0;
  for (; r + kTile <= rows; r += kTile) moments_tile<kTile>(x + r * row, r, period, mean, m2);
  for (; r < rows; ++r) moments_tile<1>(x + r * row, r, period, mean, m2);
}

enum class Keep { kNothing, kMasked, kMaskedStreamed, kSigns };

template <Act kAct, Keep kKeep>
struct GradSums {
  const NormGradSums& a;

  // g and x - mean of one vector. All loads come before the store: where the buffers lie a multiple of 4 KB
  // apart, a load after it would wait for it.
  template <class Lanes>
  FASTCNN_INLINE void read(std::int64_t i, Vec mean, Vec& g, Vec& d, Lanes lanes) const {
    g = lanes.get(a.dy + i);
    d = lanes.get(a.x + i) - mean;
    if constexpr (kAct != Act::kNone) {
      const Vec y = lanes.get(a.y + i);
      g = activate_grad<kAct>(g, y);
      if constexpr (kKeep == Keep::kSigns) a.signs[i / kWidth] = (std::uint16_t)positive_bits(y);
    }
    if constexpr (kKeep == Keep::kMasked || kKeep == Keep::kMaskedStreamed)
      lanes.template put<kKeep == Keep::kMaskedStreamed>(a.masked + i, g);
  }
  FASTCNN_INLINE void join(std::int64_t at, Vec g, Vec gx) const {
    store(a.sum_g + at, load(a.sum_g + at) + g);
    store(a.sum_gx + at, load(a.sum_gx + at) + gx);
  }
  template <int kRows>
  FASTCNN_INLINE void tile(std::int64_t first) const {
    const std::int64_t row = a.period * kWidth;
    for (std::int64_t p = 0; p < row; p += kWidth) {
      const Vec mean = load(a.mean + p);
      Vec g[2] = {}, gx[2] = {};
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        Vec t, d;
        read(first + r * row + p, mean, t, d, Full{});
        g[r % 2] += t;
        gx[r % 2] = fma(t, d, gx[r % 2]);
      }
      join(p, g[0] + g[1], gx[0] + gx[1]);
    }
  }
  // Less than one period: lanes that are not there add zero.
  void rest(std::int64_t i) const {
    for (std::int64_t p = 0; i < a.n; p += kWidth, i += kWidth) {
      const Some lanes{a.n - i < kWidth ? (int)(a.n - i) : kWidth};
      Vec g, d;
      read(i, load(a.mean + p), g, d, lanes);
      join(p, g, g * d);
    }
  }
};

template <Act kAct, Keep kKeep>
void grad_sums_of(const NormGradSums& a) {
  const GradSums<kAct, kKeep> sums{a};
  const std::int64_t row = a.period * kWidth;
  for (std::int64_t p = 0; p < row; p += kWidth) {
    store(a.sum_g + p, zero());
    store(a.sum_gx + p, zero());
  }
  std::int64_t i = 0;
  for (; i + 8 * row <= a.n; i += 8 * row) sums.template tile<8>(i);
  for (; i + row <= a.n; i += row) sums.template tile<1>(i);
  sums.rest(i);
}

void grad_sums(const NormGradSums& a) {
  with_act(a.act, [&](auto kind) {
    constexpr Act k = decltype(kind)::value;
    if (a.masked && a.stream)
      grad_sums_of<k, Keep::kMaskedStreamed>(a);
    else if (a.masked)
      grad_sums_of<k, Keep::kMasked>(a);
    else if (k == Act::kRelu && a.signs)
      grad_sums_of<k, Keep::kSigns>(a);
    else
      grad_sums_of<k, Keep::kNothing>(a);
  });
  if (a.masked && a.stream) stream_fence();
}

template <Act kAct, bool kThroughStatistics, bool kStream, bool kSigns = false>
struct GradApplyBody {
  const NormGradApply& a;
  Vec mean[4], scale[4], slope[4], offset[4];

  FASTCNN_INLINE void prepare(int v, std::int64_t at) {
    scale[v] = load(a.scale + at);
    if constexpr (kThroughStatistics)
      mean[v] = load(a.mean + at), slope[v] = load(a.slope + at), offset[v] = load(a.offset + at);
  }
  template <class Lanes>
  FASTCNN_INLINE void operator()(int v, std::int64_t i, Lanes lanes) {
    Vec g = lanes.get(a.dy + i);
    if constexpr (kSigns)
      g = keep_bits(a.signs[i / kWidth], g);
    else if constexpr (kAct != Act::kNone)
      g = activate_grad<kAct>(g, lanes.get(a.y + i));
    Vec dx = g * scale[v];
    if constexpr (kThroughStatistics) {
      dx = fma(g, scale[v], -offset[v]);
      dx = fma(mean[v] - lanes.get(a.x + i), slope[v], dx);
    }
    lanes.template put<kStream>(a.dx + i, dx);
  }
};

void grad_apply(const NormGradApply& a) {
  with_act(a.act, [&](auto kind) {
    constexpr Act k = decltype(kind)::value;
    if (!a.slope)
      walk<k>(a.n, a.period, GradApplyBody<k, false, false>{a, {}, {}, {}, {}});
    else if (k == Act::kRelu && a.signs && a.stream)
      walk<k>(a.n, a.period, GradApplyBody<k, true, true, true>{a, {}, {}, {}, {}});
    else if (k == Act::kRelu && a.signs)
      walk<k>(a.n, a.period, GradApplyBody<k, true, false, true>{a, {}, {}, {}, {}});
    else if (a.stream)
      walk<k>(a.n, a.period, GradApplyBody<k, true, true>{a, {}, {}, {}, {}});
    else
      walk<k>(a.n, a.period, GradApplyBody<k, true, false>{a, {}, {}, {}, {}});
  });
  if (a.stream) stream_fence();
}

}  // namespace

extern const NormKernels kNorm;
const NormKernels kNorm = {apply, moments, grad_sums, grad_apply};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
