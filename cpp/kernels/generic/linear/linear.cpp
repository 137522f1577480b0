// Fully connected layers: the two products, and what surrounds them.
#include "kernels/linear.h"

#include "kernels/generic/lanes.h"
#include "kernels/generic/tiles.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

constexpr int kPanel = 2 * kWidth;
constexpr int kMaxVectors = 4;

// ---- C += A B with A broadcast and B along vectors, in both layouts -----------------------------------

// Registers: the sums, one row of B, and one broadcast where the instruction set has no broadcast operand.
constexpr int max_rows(int vectors) {
  const int by_sums = kAccumulators / vectors, by_all = (kRegisters - 1 - vectors) / vectors;
  return by_sums < by_all ? by_sums : by_all;
}

// Element (m, k = 0) of A. Rows go in fours, so that each group needs one pointer and the others are
// base + {1, 2, 3} * stride.
template <bool kRowsApart>
FASTCNN_INLINE const float* row_of(const float* const* groups, std::ptrdiff_t a_m, int m) {
  return kRowsApart ? groups[m / 4] + (m % 4) * a_m : groups[0] + m;
}

// f(m, v) for each vector of a tile.
template <int MT, int VT, class F>
FASTCNN_INLINE void each_vector(F&& f) {
#pragma GCC unroll 32
  for (int m = 0; m < MT; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < VT; ++v) f(m, v);
}

// kRowsApart: a_k == 1, else a_m == 1. Where not all lanes exist, VT == 1.
template <int MT, int VT, bool kRowsApart, class Lanes>
FASTCNN_INLINE void outer_tile(const OuterProduct& p, std::int64_t m0, std::int64_t n0, Lanes lanes) {
  Vec acc[MT][VT];
  float* const c = p.c + m0 * p.c_m + n0;
  each_vector<MT, VT>([&](int m, int v) { acc[m][v] = zero(); });
  if (p.accumulate || p.column_start) {
    const float* const from = p.accumulate ? c : p.column_start + n0;
    const std::ptrdiff_t step = p.accumulate ? p.c_m : 0;
    each_vector<MT, VT>([&](int m, int v) { acc[m][v] = load_first(from + m * step + v * kWidth, lanes); });
  } else if (p.row_start) {
    each_vector<MT, VT>([&](int m, int v) { acc[m][v] = broadcast(p.row_start[m0 + m]); });
  }

  const float* a = p.a + m0 * p.a_m;
  const float* b = p.b + n0;
  const std::ptrdiff_t a_m = p.a_m, a_k = p.a_k, b_k = p.b_k;
  const std::int64_t run = p.run ? p.run : p.k;
  for (std::int64_t done = 0; done < p.k; done += run, a += p.a_run) {
    const std::int64_t steps = p.k - done < run ? p.k - done : run;
    constexpr int kGroups = kRowsApart ? (MT + 3) / 4 : 1;
    const float* groups[kGroups];
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) groups[g] = a + 4 * g * a_m;
    for (std::int64_t k = 0; k < steps; ++k) {
      Vec bv[VT];
#pragma GCC unroll 8
      for (int v = 0; v < VT; ++v) bv[v] = load_first(b + v * kWidth, lanes);
#pragma GCC unroll 32
      for (int m = 0; m < MT; ++m) {
        const Vec x = broadcast(*row_of<kRowsApart>(groups, a_m, m));
#pragma GCC unroll 8
        for (int v = 0; v < VT; ++v) acc[m][v] = fma(x, bv[v], acc[m][v]);
      }
      b += b_k;
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) groups[g] += kRowsApart ? 1 : a_k;
    }
  }

  each_vector<MT, VT>([&](int m, int v) { store_first(c + m * p.c_m + v * kWidth, acc[m][v], lanes); });
}

// Lanes: Full, or Some for the last columns.
template <bool kRowsApart, class Lanes>
struct OuterTiles {
  static constexpr int kRows = __is_empty(Lanes) ? kMaxVectors : 1,
                       kColumns = kAccumulators;  // vectors, rows
  static constexpr bool fits(int vectors, int rows) { return rows <= max_rows(vectors); }
  template <int VT, int MT>
  static void tile(const OuterProduct& p, std::int64_t m0, std::int64_t n0, Lanes lanes) {
    outer_tile<MT, VT, kRowsApart>(p, m0, n0, lanes);
  }
};

template <class Lanes>
constexpr decltype(make_tiles<OuterTiles<true, Lanes>>()) kOuterTiles[] = {
    make_tiles<OuterTiles<false, Lanes>>(), make_tiles<OuterTiles<true, Lanes>>()};

int best_vectors(std::int64_t m, std::int64_t vectors) {
  int best = 1;
  double least = 0;
  for (int vt = 1; vt <= kMaxVectors && vt <= vectors; ++vt) {
    const double t = tiled_time(Parts(m, max_rows(vt)), Parts(vectors, vt));
    if (vt == 1 || t < least) least = t, best = vt;
  }
  return best;
}

void outer(const OuterProduct& p) {
  if (p.m <= 0 || p.n <= 0) return;
  const std::int64_t vectors = p.n / kWidth;
  const auto columns = [&](std::int64_t n0, int v, auto lanes) {
    const auto& tiles = kOuterTiles<decltype(lanes)>[p.a_m != 1].at[v];
    Parts(p.m, max_rows(v)).each([&](std::int64_t m0, int rows) { tiles[rows](p, m0, n0, lanes); });
  };
  Parts(vectors, best_vectors(p.m, vectors)).each([&](std::int64_t first, int v) {
    columns(first * kWidth, v, Full{});
  });
  if (p.n % kWidth) columns(vectors * kWidth, 1, Some{(int)(p.n % kWidth)});
}

// ---- y = x W^T with both operands read along their rows ------------------------------------------------
// No packing, each weight read once. Sums run lane by lane and are folded once per tile, so it pays for long
// rows.

template <int IT, int OT>
void dot_tile(const DotProducts& p, std::int64_t i0, std::int64_t o0) {
  constexpr int kCount = (IT * OT + kWidth - 1) / kWidth * kWidth;
  Vec acc[kCount];
#pragma GCC unroll 48
  for (int t = 0; t < kCount; ++t) acc[t] = zero();
  const float* const x = p.x + i0 * p.x_i;
  const float* const w = p.w + o0 * p.w_o;
  const std::ptrdiff_t x_i = p.x_i, w_o = p.w_o;
  for_lanes(p.k, [&](std::int64_t k, auto lanes) __attribute__((always_inline)) {
    Vec wv[OT];
#pragma GCC unroll 8
    for (int o = 0; o < OT; ++o) wv[o] = load_first(w + o * w_o + k, lanes);
#pragma GCC unroll 8
    for (int i = 0; i < IT; ++i) {
      const Vec xv = load_first(x + i * x_i + k, lanes);
#pragma GCC unroll 8
      for (int o = 0; o < OT; ++o) acc[i * OT + o] = fma(xv, wv[o], acc[i * OT + o]);
    }
  });
  float sums[kCount];
#pragma GCC unroll 8
  for (int t = 0; t < kCount; t += kWidth) store(sums + t, reduce_add_each(acc + t));
  for (int i = 0; i < IT; ++i)
    for (int o = 0; o < OT; ++o) {
      float* const y = p.y + (i0 + i) * p.y_i + o0 + o;
      *y = (p.accumulate ? *y : p.start ? p.start[o0 + o] : 0.0f) + sums[i * OT + o];
    }
}

struct DotTiles {
  static constexpr int kRows = 8, kColumns = 8;  // images, outputs
  static constexpr bool fits(int images, int out) {
    return images * out <= (kAccumulators < 24 ? kAccumulators : 24) && images * out + out + 1 <= kRegisters;
  }
  template <int IT, int OT>
  static void tile(const DotProducts& p, std::int64_t i0, std::int64_t o0) {
    dot_tile<IT, OT>(p, i0, o0);
  }
};

constexpr auto kDotTiles = make_tiles<DotTiles>();

void dot(const DotProducts& p) {
  if (p.images <= 0 || p.out <= 0) return;
  const TileShape best = best_tile<DotTiles>(p.images, p.out);
  Parts(p.out, best.columns).each([&](std::int64_t o0, int outs) {
    Parts(p.images, best.rows).each([&](std::int64_t i0, int images) {
      kDotTiles.at[images][outs](p, i0, o0);
    });
  });
}

// ---- Packing and bias gradients ---------------------------------------------------------------------

void pack_panel(const float* w, std::int64_t out, std::int64_t in, float* packed) {
  for (std::int64_t o = 0; o < kPanel; o += kWidth) {
    float* const d = packed + o;
    std::int64_t i = 0;
    for (; o + kWidth <= out && i + kWidth <= in; i += kWidth)
      transpose(w + o * in + i, in, d + i * kPanel, kPanel);
    for (; i < in; ++i)
      for (int j = 0; j < kWidth; ++j) d[i * kPanel + j] = o + j < out ? w[(o + j) * in + i] : 0.0f;
  }
}

void sum_rows(const float* y, std::ptrdiff_t stride, std::int64_t images, std::int64_t features,
              float* sums) {
  for_lanes(features, [&](std::int64_t f, auto lanes) {
    Vec s = zero();
    for (std::int64_t i = 0; i < images; ++i) s += load_first(y + i * stride + f, lanes);
    store_first(sums + f, s, lanes);
  });
}

void sum_blocks(const float* y, std::ptrdiff_t stride, std::int64_t images, std::int64_t features,
                float* sums) {
  for (std::int64_t f = 0; f < features; ++f) {
    Vec s = zero();
    for_lanes(images, [&](std::int64_t i, auto lanes) {
      s += load_first(y + i / kWidth * stride + f * kWidth, lanes);
    });
    sums[f] = reduce_add(s);
  }
}

}  // namespace

extern const LinearKernels kLinear = {kPanel, outer, dot, pack_panel, sum_rows, sum_blocks};

}  // namespace fastcnn::FASTCNN_ISA
