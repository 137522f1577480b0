// Shapes of register tiles: which fit the registers, and how a length is cut into them.
#pragma once

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {

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
};

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

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
