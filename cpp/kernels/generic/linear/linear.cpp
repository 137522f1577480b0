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

// kRowsApart: a_k == 1, else a_m == 1. kTail: VT == 1 and only `lanes` columns exist.
template <int MT, int VT, bool kRowsApart, bool kTail>
void outer_tile(const OuterProduct& p, std::int64_t m0, std::int64_t n0, int lanes) {
  Vec acc[MT][VT];
  float* const c = p.c + m0 * p.c_m + n0;
#pragma GCC unroll 32
  for (int m = 0; m < MT; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < VT; ++v) acc[m][v] = zero();
  if (p.accumulate || p.column_start) {
    const float* const from = p.accumulate ? c : p.column_start + n0;
    const std::ptrdiff_t step = p.accumulate ? p.c_m : 0;
#pragma GCC unroll 32
    for (int m = 0; m < MT; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < VT; ++v)
        acc[m][v] = kTail ? load_n(from + m * step, lanes) : load(from + m * step + v * kWidth);
  } else if (p.row_start) {
#pragma GCC unroll 32
    for (int m = 0; m < MT; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < VT; ++v) acc[m][v] = broadcast(p.row_start[m0 + m]);
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
      for (int v = 0; v < VT; ++v) bv[v] = kTail ? load_n(b, lanes) : load(b + v * kWidth);
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

#pragma GCC unroll 32
  for (int m = 0; m < MT; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < VT; ++v) {
      if (kTail)
        store_n(c + m * p.c_m, acc[m][v], lanes);
      else
        store(c + m * p.c_m + v * kWidth, acc[m][v]);
    }
}

template <bool kRowsApart, bool kTail>
struct OuterTiles {
  static constexpr int kRows = kTail ? 1 : kMaxVectors, kColumns = kAccumulators;  // vectors, rows of A
  static constexpr bool fits(int vectors, int rows) { return rows <= max_rows(vectors); }
  template <int VT, int MT>
  static void tile(const OuterProduct& p, std::int64_t m0, std::int64_t n0, int lanes) {
    outer_tile<MT, VT, kRowsApart, kTail>(p, m0, n0, lanes);
  }
};

template <bool kTail>
constexpr decltype(make_tiles<OuterTiles<true, kTail>>()) kOuterTiles[] = {
    make_tiles<OuterTiles<false, kTail>>(), make_tiles<OuterTiles<true, kTail>>()};

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
  const bool apart = p.a_m != 1;
  const std::int64_t vectors = p.n / kWidth;
  Parts(vectors, best_vectors(p.m, vectors)).each([&](std::int64_t first, int v) {
    Parts(p.m, max_rows(v)).each([&](std::int64_t m0, int rows) {
      kOuterTiles<false>[apart].at[v][rows](p, m0, first * kWidth, kWidth);
    });
  });
  if (const int lanes = static_cast<int>(p.n % kWidth))
    Parts(p.m, max_rows(1)).each([&](std::int64_t m0, int rows) {
      kOuterTiles<true>[apart].at[1][rows](p, m0, vectors * kWidth, lanes);
    });
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
  std::int64_t k = 0;
  for (; k + kWidth <= p.k; k += kWidth) {
    Vec wv[OT];
#pragma GCC unroll 8
    for (int o = 0; o < OT; ++o) wv[o] = load(w + o * w_o + k);
#pragma GCC unroll 8
    for (int i = 0; i < IT; ++i) {
      const Vec xv = load(x + i * x_i + k);
#pragma GCC unroll 8
      for (int o = 0; o < OT; ++o) acc[i * OT + o] = fma(xv, wv[o], acc[i * OT + o]);
    }
  }
  if (const int left = static_cast<int>(p.k - k)) {
#pragma GCC unroll 8
    for (int i = 0; i < IT; ++i) {
      const Vec xv = load_n(x + i * x_i + k, left);
#pragma GCC unroll 8
      for (int o = 0; o < OT; ++o) acc[i * OT + o] = fma(xv, load_n(w + o * w_o + k, left), acc[i * OT + o]);
    }
  }
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

// ---- Reordering and bias gradients ---------------------------------------------------------------------

void pack_panel(const float* w, std::int64_t out, std::int64_t in, float* packed) {
  const std::int64_t whole_in = in / kWidth * kWidth;
  for (std::int64_t o = 0; o < kPanel; o += kWidth) {
    float* const d = packed + o;
    if (o + kWidth <= out) {
      for (std::int64_t i = 0; i < whole_in; i += kWidth)
        transpose(w + o * in + i, in, d + i * kPanel, kPanel);
      for (std::int64_t i = whole_in; i < in; ++i)
        for (int j = 0; j < kWidth; ++j) d[i * kPanel + j] = w[(o + j) * in + i];
    } else {
      for (std::int64_t i = 0; i < in; ++i)
        for (int j = 0; j < kWidth; ++j) d[i * kPanel + j] = o + j < out ? w[(o + j) * in + i] : 0.0f;
    }
  }
}

void block_to_rows(const float* x, std::int64_t features, std::int64_t first, std::int64_t columns,
                   int images, float* rows) {
  for (std::int64_t j = 0; j < columns; j += kWidth) {
    const float* const s = x + (first + j) * kWidth;
    const std::int64_t there = features - first - j;
    if (there >= kWidth && images == kWidth) {
      transpose(s, kWidth, rows + j, columns);
      continue;
    }
    float t[kWidth * kWidth] = {};
    if (there >= kWidth) {
      transpose(s, kWidth, t, kWidth);
    } else {
      for (std::int64_t f = 0; f < there; ++f)
        for (int l = 0; l < kWidth; ++l) t[l * kWidth + f] = s[f * kWidth + l];
    }
    for (int l = 0; l < images; ++l) store(rows + l * columns + j, load(t + l * kWidth));
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

extern const LinearKernels kLinear = {kPanel, outer, dot, pack_panel, block_to_rows, sum_rows, sum_blocks};

}  // namespace fastcnn::FASTCNN_ISA
