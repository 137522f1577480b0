// C += A B with A broadcast and B along vectors: the product behind fully connected layers in both layouts.
#include "kernels/generic/linear/parts.h"
#include "kernels/generic/tiles.h"
#include "kernels/linear.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

constexpr int kMaxVectors = 4;
constexpr int kMaxRows = kAccumulators;

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

using TileFn = void (*)(const OuterProduct&, std::int64_t, std::int64_t, int);

struct TileTable {
  TileFn at[kMaxVectors + 1][kMaxRows + 1];  // [0]: the tail vector
};

template <int MT, int VT, bool kRowsApart>
constexpr TileFn tile_or_null() {
  if constexpr (VT == 0)
    return outer_tile<MT, 1, kRowsApart, true>;
  else if constexpr (MT <= max_rows(VT))
    return outer_tile<MT, VT, kRowsApart, false>;
  else
    return nullptr;
}

template <bool kRowsApart, int VT, int MT>
constexpr void fill_rows(TileTable& t) {
  t.at[VT][MT] = tile_or_null<MT, VT, kRowsApart>();
  if constexpr (MT < kMaxRows) fill_rows<kRowsApart, VT, MT + 1>(t);
}

template <bool kRowsApart>
constexpr TileTable make_table() {
  TileTable t{};
  fill_rows<kRowsApart, 0, 1>(t);
  fill_rows<kRowsApart, 1, 1>(t);
  fill_rows<kRowsApart, 2, 1>(t);
  fill_rows<kRowsApart, 3, 1>(t);
  fill_rows<kRowsApart, 4, 1>(t);
  return t;
}

constexpr TileTable kRowsApartTiles = make_table<true>(), kRowsTogetherTiles = make_table<false>();

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
  const TileTable& tiles = p.a_m == 1 ? kRowsTogetherTiles : kRowsApartTiles;
  const std::int64_t vectors = p.n / kWidth;
  const int vt = best_vectors(p.m, vectors);
  const Parts columns(vectors, vt);
  std::int64_t n0 = 0;
  for (std::int64_t j = 0; j < columns.count; ++j) {
    const int v = columns.at(j);
    const Parts rows(p.m, max_rows(v));
    std::int64_t m0 = 0;
    for (std::int64_t i = 0; i < rows.count; m0 += rows.at(i), ++i)
      tiles.at[v][rows.at(i)](p, m0, n0, kWidth);
    n0 += v * kWidth;
  }
  if (const int lanes = static_cast<int>(p.n - n0)) {
    const Parts rows(p.m, max_rows(1));
    std::int64_t m0 = 0;
    for (std::int64_t i = 0; i < rows.count; m0 += rows.at(i), ++i) tiles.at[0][rows.at(i)](p, m0, n0, lanes);
  }
}

}  // namespace

extern const LinearKernels kLinear;
const LinearKernels kLinear = {kPanel,          outer,         linear_dot,      linear_pack_panel,
                               linear_activate, block_to_rows, linear_sum_rows, linear_sum_blocks};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
