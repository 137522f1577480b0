// What follows a batch-interleaved convolution while its rows are in cache: add, activation, pooling.
#include "kernels/generic/conv/interleaved_parts.h"
#include "kernels/generic/math.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

// Gives NaN when either is one.
FASTCNN_INLINE Vec larger(Vec a, Vec b) { return select(a != a, a, vmax(a, b)); }

// kH = kW = 0: sizes known only at run time.
template <bool kMax, int kH, int kW>
void pool(const IlPool& p, const float* x, float* y) {
  const std::int64_t kh = kH ? kH : p.kh, kw = kW ? kW : p.kw;
  const Vec share = broadcast(1.0f / static_cast<float>(kh * kw));
  for (std::int64_t j = 0; j < p.out_w; ++j) {
    const float* const window = x + j * p.sw * kWidth;
    Vec v = load(window);
#pragma GCC unroll 2
    for (std::int64_t r = 0; r < kh; ++r)
#pragma GCC unroll 2
      for (std::int64_t q = 0; q < kw; ++q) {
        if (r == 0 && q == 0) continue;
        const Vec next = load(window + (r * p.in_w + q) * kWidth);
        v = kMax ? larger(v, next) : v + next;
      }
    store(y + j * kWidth, kMax ? v : v * share);
  }
}

}  // namespace

void il_finish(float* y, const float* residual, std::int64_t n, Act act) {
  with_act(act, [&](auto tag) {
    constexpr Act kAct = decltype(tag)::value;
    if (residual) {
      for (std::int64_t i = 0; i < n; i += kWidth)
        store(y + i, activate<kAct>(load(y + i) + load(residual + i)));
    } else if (kAct != Act::kNone) {
      for (std::int64_t i = 0; i < n; i += kWidth) store(y + i, activate<kAct>(load(y + i)));
    }
  });
}

void il_pool_row(const IlPool& p, const float* x, float* y) {
  const bool two = p.kh == 2 && p.kw == 2;
  if (p.max)
    two ? pool<true, 2, 2>(p, x, y) : pool<true, 0, 0>(p, x, y);
  else
    two ? pool<false, 2, 2>(p, x, y) : pool<false, 0, 0>(p, x, y);
}

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
