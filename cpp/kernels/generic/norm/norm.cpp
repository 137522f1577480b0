// Batch norm: moments, normalisation with residual and function, and both passes of the gradient.
#include "kernels/norm.h"

#include "kernels/generic/functions.h"
#include "kernels/generic/lanes.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

template <class T>
FASTCNN_INLINE void next_run(T& operand) {
  operand.at += operand.step;
}

// The whole periods of every run, with a body that holds the pattern's numbers for V vectors in registers.
template <int V, class Body>
FASTCNN_INLINE std::int64_t walk_held(const NormRuns& r, Body body) {
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) body.prepare(v, v * kWidth);
  std::int64_t i = 0;
  for (std::int64_t run = 0; run < r.runs; ++run, body.next())
    for (i = 0; i + V * kWidth <= r.n; i += V * kWidth)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) body(v, i + v * kWidth, Full{});
  return i;
}

// Body: prepare(v, position) loads the pattern's numbers, operator()(v, offset, lanes) computes one vector,
// next() goes to the next run. Short periods stay in registers, where the function leaves enough of them; the
// rest reads the pattern from L1.
template <class F, class Body>
FASTCNN_INLINE void walk(const NormRuns& r, Body body) {
  const std::int64_t row = r.period * kWidth;
  std::int64_t i = 0;
  if constexpr (kIdentity<F> || F::kind == FunctionKind::kRelu) {
    if (r.runs == 1 || r.n == row) {
      if (r.period == 1) i = walk_held<1>(r, body);
      if (r.period == 2) i = walk_held<2>(r, body);
      if (r.period == 4) i = walk_held<4>(r, body);
      if (i == r.n) return;
    }
  }
  for (std::int64_t run = 0; run < r.runs; ++run, i = 0, body.next())
    for (; i < r.n; i += row)
      for_lanes(r.n - i < row ? r.n - i : row, [&](std::int64_t p, auto lanes) {
        body.prepare(0, p);
        body(0, i + p, lanes);
      });
}

enum class Write { kCached, kStreamed, kKept };

template <class F, bool kResidual, Write kWrite>
struct ApplyBody {
  const F& f;
  NormApply a;
  Vec mean[4] = {}, scale[4] = {}, shift[4] = {};

  FASTCNN_INLINE void prepare(int v, std::int64_t at) {
    mean[v] = load(a.mean + at), scale[v] = load(a.scale + at), shift[v] = load(a.shift + at);
  }
  template <class N>
  FASTCNN_INLINE void operator()(int v, std::int64_t i, N lanes) const {
    Vec y = fma(load_first(a.x.at + i, lanes) - mean[v], scale[v], shift[v]);
    if constexpr (kResidual) y += load_first(a.residual.at + i, lanes);
    if constexpr (kWrite == Write::kKept) store_first(a.kept.at + i, y, lanes);
    store_first<kWrite == Write::kStreamed>(a.y.at + i, f(y), lanes);
  }
  FASTCNN_INLINE void next() {
    next_run(a.x), next_run(a.y);
    if constexpr (kResidual) next_run(a.residual);
    if constexpr (kWrite == Write::kKept) next_run(a.kept);
  }
};

template <class F, bool kResidual>
void apply_to(const F& f, const NormApply& a) {
  if constexpr (!kIdentity<F>)
    if (a.kept.at) return walk<F>(a.runs, ApplyBody<F, kResidual, Write::kKept>{f, a});
  if (a.stream) return walk<F>(a.runs, ApplyBody<F, kResidual, Write::kStreamed>{f, a});
  walk<F>(a.runs, ApplyBody<F, kResidual, Write::kCached>{f, a});
}

void apply(const NormApply& a) {
  with_function(a.function, [&](auto f) {
    using F = decltype(f);
    a.residual.at ? apply_to<F, true>(f, a) : apply_to<F, false>(f, a);
  });
  if (a.stream) stream_fence();
}

template <int kRows>
struct Tile {};

// Sums walk the value front to back in tiles of a few rows (periods, or runs): a tile's vectors of one
// pattern position are added in registers, then join the position's total in memory. Long periods stay
// sequential streams that way.
struct Rows {
  std::int64_t rows, width, rest;  // floats of a row, and of the last, shorter one

  explicit Rows(const NormRuns& r) : rows(r.runs), width(r.n), rest(0) {
    if (r.runs != 1) return;
    width = r.period * kWidth;
    rows = r.n / width, rest = r.n % width;
  }
  // body(tile, its first row, position, lanes); vectors that are not full come row by row.
  template <int kTile, class Body>
  FASTCNN_INLINE void walk(const Body& body) const {
    const std::int64_t full = width - width % kWidth;
    std::int64_t r = 0;
    for (; r + kTile <= rows; r += kTile) {
      for (std::int64_t p = 0; p < full; p += kWidth) body(Tile<kTile>{}, r, p, Full{});
      for (int k = 0; full < width && k < kTile; ++k) body(Tile<1>{}, r + k, full, Some{(int)(width - full)});
    }
    for (; r < rows + (rest > 0); ++r)
      for_lanes(r < rows ? width : rest, [&](std::int64_t p, auto lanes) { body(Tile<1>{}, r, p, lanes); });
  }
};

// Moments of kRows vectors, joined to those of the rows before them (Chan, Golub, LeVeque 1979).
struct MomentsBody {
  NormIn x;
  float *mean, *m2;
  template <int kRows, class N>
  FASTCNN_INLINE void operator()(Tile<kRows>, std::int64_t before, std::int64_t p, N lanes) const {
    const float part = (float)kRows / (float)(before + kRows);
    const Vec to_mean = broadcast(part), to_m2 = broadcast((float)before * part);
    const float* from = x.at + before * x.step + p;
    Vec v[kRows], m, even = zero(), odd = zero();
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r, from += x.step) v[r] = load_first(from, lanes);
    if constexpr (kRows == 8) {
      m = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    } else {
      m = v[0];
#pragma GCC unroll 8
      for (int r = 1; r < kRows; ++r) m += v[r];
    }
    m *= broadcast(1.0f / kRows);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec d = v[r] - m;
      Vec& q = r % 2 ? odd : even;
      q = fma(d, d, q);
    }
    Vec q = even + odd;
    if (before != 0) {
      const Vec old = load(mean + p), d = m - old;
      m = fma(d, to_mean, old);
      q = fma(d * d, to_m2, load(m2 + p) + q);
    }
    store(mean + p, m);
    store(m2 + p, q);
  }
};

void moments(const NormRuns& runs, const NormIn& x, float* mean, float* m2) {
  Rows whole(runs);
  whole.rest = 0;
  whole.walk<(kAccumulators >= 24 ? 8 : 4)>(MomentsBody{x, mean, m2});
}

enum class Keep { kNothing, kMasked, kMaskedStreamed, kSigns };

template <class F, Keep kKeep>
struct GradSums {
  static constexpr bool kMasked = kKeep == Keep::kMasked || kKeep == Keep::kMaskedStreamed;
  static constexpr bool kSigns = kKeep == Keep::kSigns;
  const F& f;
  const NormGradSums& a;

  template <int kRows, class N>
  FASTCNN_INLINE void operator()(Tile<kRows>, std::int64_t first, std::int64_t p, N lanes) const {
    const float *dy = a.dy.at + first * a.dy.step + p, *x = a.x.at + first * a.x.step + p;
    const float* v = kIdentity<F> ? nullptr : a.v.at + first * a.v.step + p;
    float* masked = kMasked ? a.masked.at + first * a.masked.step + p : nullptr;
    std::uint16_t* signs = kSigns ? a.signs + first * a.runs.period + p / kWidth : nullptr;
    const Vec mean = load(a.mean + p);
    Vec sum_g[2] = {}, sum_gx[2] = {};
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r, dy += a.dy.step, x += a.x.step) {
      // All loads come before the store: where the buffers lie a multiple of 4 KB apart, a load after it
      // would wait for it. Lanes that are not there add zero.
      Vec g = load_first(dy, lanes);
      const Vec d = load_first(x, lanes) - mean;
      if constexpr (!kIdentity<F>) {
        const Vec of = load_first(v, lanes);
        g = f.gradient(g, of), v += a.v.step;
        if constexpr (kSigns)
          *signs = (std::uint16_t)positive_bits(f.gradient(broadcast(1.0f), of)), signs += a.runs.period;
      }
      if constexpr (kMasked)
        store_first<kKeep == Keep::kMaskedStreamed>(masked, g, lanes), masked += a.masked.step;
      sum_g[r % 2] += g;
      sum_gx[r % 2] = fma(g, d, sum_gx[r % 2]);
    }
    store(a.sum_g + p, load(a.sum_g + p) + (sum_g[0] + sum_g[1]));
    store(a.sum_gx + p, load(a.sum_gx + p) + (sum_gx[0] + sum_gx[1]));
  }
  void sum() const {
    for (std::int64_t p = 0; p < a.runs.period * kWidth; p += kWidth)
      store(a.sum_g + p, zero()), store(a.sum_gx + p, zero());
    Rows(a.runs).walk<8>(*this);
  }
};

void grad_sums(const NormGradSums& a) {
  with_function(a.function, [&](auto f) {
    using F = decltype(f);
    if constexpr (F::kind == FunctionKind::kRelu)
      if (a.signs) return GradSums<F, Keep::kSigns>{f, a}.sum();
    if (!a.masked.at)
      GradSums<F, Keep::kNothing>{f, a}.sum();
    else if (a.stream)
      GradSums<F, Keep::kMaskedStreamed>{f, a}.sum();
    else
      GradSums<F, Keep::kMasked>{f, a}.sum();
  });
  if (a.masked.at && a.stream) stream_fence();
}

template <class F, bool kThroughStatistics, bool kStream, bool kAdd, bool kSigns = false>
struct GradApplyBody {
  const F& f;
  NormGradApply a;
  Vec mean[4] = {}, scale[4] = {}, slope[4] = {}, offset[4] = {};

  FASTCNN_INLINE void prepare(int v, std::int64_t at) {
    scale[v] = load(a.scale + at);
    if constexpr (kThroughStatistics)
      mean[v] = load(a.mean + at), slope[v] = load(a.slope + at), offset[v] = load(a.offset + at);
  }
  template <class N>
  FASTCNN_INLINE void operator()(int v, std::int64_t i, N lanes) const {
    Vec g = load_first(a.dy.at + i, lanes);
    if constexpr (kSigns)
      g = keep_bits(a.signs[i / kWidth], g);
    else if constexpr (!kIdentity<F>)
      g = f.gradient(g, load_first(a.v.at + i, lanes));
    Vec dx = g * scale[v];
    if constexpr (kThroughStatistics) {
      dx = fma(g, scale[v], -offset[v]);
      dx = fma(mean[v] - load_first(a.x.at + i, lanes), slope[v], dx);
    }
    if constexpr (kAdd) dx += load_first(a.add.at + i, lanes);
    store_first<kStream>(a.dx.at + i, dx, lanes);
  }
  FASTCNN_INLINE void next() {
    next_run(a.dy), next_run(a.dx);
    if constexpr (kSigns)
      a.signs += a.runs.period;
    else if constexpr (!kIdentity<F>)
      next_run(a.v);
    if constexpr (kThroughStatistics) next_run(a.x);
    if constexpr (kAdd) next_run(a.add);
  }
};

template <class F, bool kThroughStatistics, bool kSigns>
void grad_apply_to(const F& f, const NormGradApply& a) {
  if (a.add.at) return walk<F>(a.runs, GradApplyBody<F, kThroughStatistics, false, true, kSigns>{f, a});
  if constexpr (kThroughStatistics)
    if (a.stream) return walk<F>(a.runs, GradApplyBody<F, true, true, false, kSigns>{f, a});
  walk<F>(a.runs, GradApplyBody<F, kThroughStatistics, false, false, kSigns>{f, a});
}

void grad_apply(const NormGradApply& a) {
  with_function(a.function, [&](auto f) {
    using F = decltype(f);
    if (!a.slope) return grad_apply_to<F, false, false>(f, a);
    if constexpr (F::kind == FunctionKind::kRelu)
      if (a.signs) return grad_apply_to<F, true, true>(f, a);
    grad_apply_to<F, true, false>(f, a);
  });
  if (a.stream) stream_fence();
}

}  // namespace

extern const NormKernels kNorm = {apply, moments, grad_sums, grad_apply};

}  // namespace fastcnn::FASTCNN_ISA
