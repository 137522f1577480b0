// Batch norm: moments, normalisation with residual and activation, and both passes of the gradient.
#include "kernels/norm.h"

#include "kernels/generic/math.h"
#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

constexpr int kSums =
    kAccumulators >= 24 ? 8 : 4;         // vectors summed side by side: enough to hide the add's latency
constexpr std::int64_t kBlockRows = 32;  // periods summed in registers before they join the total

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

// Sums of f over `rows` rows of V neighbouring vectors, `row` floats apart. Rows alternate between chains of
// additions where V alone would not fill the registers.
template <int V, class F>
FASTCNN_INLINE void sum_rows(std::int64_t rows, Vec (&total)[V], F&& f) {
  constexpr int kChains = kSums / V;
  Vec acc[kChains][V] = {};
  std::int64_t r = 0;
  for (; r + kChains <= rows; r += kChains)
#pragma GCC unroll 8
    for (int u = 0; u < kChains; ++u)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[u][v] += f(r + u, v);
  for (; r < rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[0][v] += f(r, v);
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) {
    total[v] = acc[0][v];
#pragma GCC unroll 8
    for (int u = 1; u < kChains; ++u) total[v] += acc[u][v];
  }
}

// Calls f<V>(first vector) for runs of V vectors that cover the period.
template <int V, class F>
FASTCNN_INLINE void each_run(std::int64_t from, std::int64_t period, F&& f) {
  std::int64_t p = from;
  for (; p + V <= period; p += V) f.template run<V>(p);
  if constexpr (V > 1) each_run<V / 2>(p, period, f);
}

// Moments of one block, joined to those before it (Chan, Golub, LeVeque 1979).
struct Moments {
  const float* x;
  std::int64_t rows, before, row;  // of this block, of those before it; floats per row
  float *mean, *m2;

  template <int V>
  FASTCNN_INLINE void run(std::int64_t p) {
    const float* const from = x + p * kWidth;
    Vec m[V], q[V];
    sum_rows<V>(rows, m, [&](std::int64_t r, int v) { return load(from + r * row + v * kWidth); });
    const Vec inv = broadcast(1.0f / (float)rows);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) m[v] *= inv;
    sum_rows<V>(rows, q, [&](std::int64_t r, int v) {  // from L1
      const Vec d = load(from + r * row + v * kWidth) - m[v];
      return d * d;
    });
    const float part = (float)rows / (float)(before + rows);
    const Vec to_mean = broadcast(part), to_m2 = broadcast((float)before * part);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      float* const at_mean = mean + (p + v) * kWidth;
      float* const at_m2 = m2 + (p + v) * kWidth;
      if (before == 0) {
        store(at_mean, m[v]);
        store(at_m2, q[v]);
      } else {
        const Vec old = load(at_mean), d = m[v] - old;
        store(at_mean, fma(d, to_mean, old));
        store(at_m2, fma(d * d, to_m2, load(at_m2) + q[v]));
      }
    }
  }
};

void moments(const float* x, std::int64_t rows, std::int64_t period, float* mean, float* m2) {
  const std::int64_t row = period * kWidth;
  for (std::int64_t r = 0; r < rows; r += kBlockRows) {
    const std::int64_t n = rows - r < kBlockRows ? rows - r : kBlockRows;
    each_run<kSums>(0, period, Moments{x + r * row, n, r, row, mean, m2});
  }
}

template <Act kAct, bool kMasked>
struct GradSums {
  const NormGradSums& a;
  std::int64_t first, rows;  // floats before this block, its periods

  template <class Lanes>
  FASTCNN_INLINE Vec gradient(std::int64_t i, Lanes lanes) const {
    Vec g = lanes.get(a.dy + i);
    if constexpr (kAct != Act::kNone) g = activate_grad<kAct>(g, lanes.get(a.y + i));
    if constexpr (kMasked) lanes.template put<false>(a.masked + i, g);
    return g;
  }
  FASTCNN_INLINE void join(std::int64_t at, Vec g, Vec gx) const {
    store(a.sum_g + at, load(a.sum_g + at) + g);
    store(a.sum_gx + at, load(a.sum_gx + at) + gx);
  }

  template <int V>
  FASTCNN_INLINE void run(std::int64_t p) {
    constexpr int kChains = kSums / V;
    const std::int64_t row = a.period * kWidth, from = first + p * kWidth;
    Vec mean[V], g[kChains][V] = {}, gx[kChains][V] = {};
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) mean[v] = load(a.mean + (p + v) * kWidth);
    const auto add = [&](int u, std::int64_t r, int v) __attribute__((always_inline)) {
      const std::int64_t i = from + r * row + v * kWidth;
      const Vec t = gradient(i, Full{});
      g[u][v] += t;
      gx[u][v] = fma(t, load(a.x + i) - mean[v], gx[u][v]);
    };
    std::int64_t r = 0;
    for (; r + kChains <= rows; r += kChains)
#pragma GCC unroll 8
      for (int u = 0; u < kChains; ++u)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) add(u, r + u, v);
    for (; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) add(0, r, v);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
#pragma GCC unroll 8
      for (int u = 1; u < kChains; ++u) g[0][v] += g[u][v], gx[0][v] += gx[u][v];
      join((p + v) * kWidth, g[0][v], gx[0][v]);
    }
  }

  // Less than one period: lanes that are not there add zero.
  void rest(std::int64_t i) const {
    for (std::int64_t p = 0; i < a.n; ++p, i += kWidth) {
      const Some lanes{a.n - i < kWidth ? (int)(a.n - i) : kWidth};
      const Vec g = gradient(i, lanes);
      join(p * kWidth, g, g * (lanes.get(a.x + i) - load(a.mean + p * kWidth)));
    }
  }
};

template <Act kAct, bool kMasked>
void grad_sums_of(const NormGradSums& a) {
  const std::int64_t row = a.period * kWidth, rows = a.n / row;
  for (std::int64_t p = 0; p < a.period; ++p) {
    store(a.sum_g + p * kWidth, zero());
    store(a.sum_gx + p * kWidth, zero());
  }
  for (std::int64_t r = 0; r < rows; r += kBlockRows) {
    const std::int64_t n = rows - r < kBlockRows ? rows - r : kBlockRows;
    each_run<kSums>(0, a.period, GradSums<kAct, kMasked>{a, r * row, n});
  }
  GradSums<kAct, kMasked>{a, 0, 0}.rest(rows * row);
}

void grad_sums(const NormGradSums& a) {
  with_act(a.act, [&](auto kind) {
    constexpr Act k = decltype(kind)::value;
    if (a.masked)
      grad_sums_of<k, true>(a);
    else
      grad_sums_of<k, false>(a);
  });
}

template <Act kAct, bool kThroughStatistics, bool kStream>
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
    if constexpr (kAct != Act::kNone) g = activate_grad<kAct>(g, lanes.get(a.y + i));
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
