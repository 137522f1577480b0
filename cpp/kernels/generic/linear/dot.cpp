// y = x W^T with both operands read along their rows: no packing, each weight read once. Sums run lane by
// lane and are folded once per tile, so it pays for long rows.
#include "kernels/generic/linear/parts.h"
#include "kernels/generic/tiles.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

constexpr int kMaxImages = 8, kMaxOut = 8;
constexpr int kSums = kAccumulators < 24 ? kAccumulators : 24;

constexpr bool fits(int images, int out) {
  return images * out <= kSums && images * out + out + 1 <= kRegisters;
}

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

using TileFn = void (*)(const DotProducts&, std::int64_t, std::int64_t);

struct TileTable {
  TileFn at[kMaxImages + 1][kMaxOut + 1];
};

template <int IT, int OT>
constexpr void fill(TileTable& t) {
  if constexpr (fits(IT, OT)) t.at[IT][OT] = dot_tile<IT, OT>;
  if constexpr (OT < kMaxOut)
    fill<IT, OT + 1>(t);
  else if constexpr (IT < kMaxImages)
    fill<IT + 1, 1>(t);
}

constexpr TileTable make_table() {
  TileTable t{};
  fill<1, 1>(t);
  return t;
}

constexpr TileTable kTiles = make_table();

}  // namespace

void linear_dot(const DotProducts& p) {
  if (p.images <= 0 || p.out <= 0) return;
  int it = 1, ot = 1;
  double least = 0;
  for (int i = 1; i <= kMaxImages && i <= p.images; ++i)
    for (int o = 1; o <= kMaxOut && o <= p.out; ++o) {
      if (!fits(i, o)) continue;
      const double t = tiled_time(Parts(p.images, i), Parts(p.out, o));
      if (least == 0 || t < least) least = t, it = i, ot = o;
    }
  const Parts outs(p.out, ot), images(p.images, it);
  std::int64_t o0 = 0;
  for (std::int64_t a = 0; a < outs.count; o0 += outs.at(a), ++a) {
    std::int64_t i0 = 0;
    for (std::int64_t b = 0; b < images.count; i0 += images.at(b), ++b)
      kTiles.at[images.at(b)][outs.at(a)](p, i0, o0);
  }
}

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
