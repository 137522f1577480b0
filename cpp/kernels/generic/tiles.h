// Shapes of register tiles: which fit the registers, and how a length is cut into them.
#pragma once

#include "kernels/simd/simd.h"

namespace fastcnn::FASTCNN_ISA {

// kAccumulators leaves room for a few operands; tiles that need more of those count all registers.
constexpr int kRegisters = kAccumulators > 16 ? 32 : 16;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// `n` in as few parts as `most` allows, sizes differing by at most one, larger ones first.
struct Parts {
  std::int64_t count, size, larger;  // `larger` parts of size + 1, the others of `size`

  Parts(std::int64_t n, std::int64_t most) : count(ceil_div(n, most)), size(0), larger(0) {
    if (count > 0) size = n / count, larger = n - size * count;
  }
  int at(std::int64_t i) const { return static_cast<int>(size + (i < larger ? 1 : 0)); }
  // f(first, size) for each of them.
  template <class F>
  FASTCNN_INLINE void each(F&& f) const {
    std::int64_t first = 0;
    for (std::int64_t i = 0; i < count; first += at(i), ++i) f(first, at(i));
  }
};

// f(row, column) for the registers of a tile.
template <int kRows, int kColumns, class F>
FASTCNN_INLINE void each_register(F&& f) {
#pragma GCC unroll 28
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) f(r, c);
}

// Half cycles that a rows x columns tile takes per step of its sum, with two multiply-adds and two loads per
// cycle and a latency of four cycles.
constexpr double tile_time(std::int64_t rows, std::int64_t columns) {
  const std::int64_t fmas = rows * columns, loads = rows + columns;
  const std::int64_t most = fmas > loads ? fmas : loads;
  return (most > 8 ? static_cast<double>(most) : 8.0) + 1.0;  // one for the loop
}

inline double tiled_time(Parts rows, Parts columns) {
  double t = 0;
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      const std::int64_t nr = i ? rows.larger : rows.count - rows.larger;
      const std::int64_t nc = j ? columns.larger : columns.count - columns.larger;
      t += static_cast<double>(nr * nc) * tile_time(rows.size + i, columns.size + j);
    }
  return t;
}

// Tiles of a kind, at[rows][columns]; null where there is none. Set: kRows, kColumns, fits(rows, columns) and
// the functions tile<rows, columns>.
template <class Fn, int kRows, int kColumns>
struct TileTable {
  Fn at[kRows + 1][kColumns + 1];
};

template <class Set, int R, int C, class Table>
constexpr void fill_tiles(Table& t) {
  if constexpr (Set::fits(R, C)) t.at[R][C] = Set::template tile<R, C>;
  if constexpr (C < Set::kColumns)
    fill_tiles<Set, R, C + 1>(t);
  else if constexpr (R < Set::kRows)
    fill_tiles<Set, R + 1, 1>(t);
}

template <class Set>
constexpr auto make_tiles() {
  TileTable<decltype(&Set::template tile<1, 1>), Set::kRows, Set::kColumns> t{};
  fill_tiles<Set, 1, 1>(t);
  return t;
}

struct TileShape {
  int rows = 1, columns = 1;
};

// The fastest tile for so many rows and columns.
template <class Set>
TileShape best_tile(std::int64_t rows, std::int64_t columns) {
  TileShape best;
  double least = 0;
  for (int r = 1; r <= Set::kRows && r <= rows; ++r)
    for (int c = 1; c <= Set::kColumns && c <= columns; ++c) {
      if (!Set::fits(r, c)) continue;
      const double t = tiled_time(Parts(rows, r), Parts(columns, c));
      if (least == 0 || t < least) least = t, best = {r, c};
    }
  return best;
}

}  // namespace fastcnn::FASTCNN_ISA
