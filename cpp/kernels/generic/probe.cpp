#include "kernels/probe.h"

#include "kernels/simd/simd.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

constexpr int kChains = kAccumulators < 12 ? kAccumulators : 12;  // enough to hide the latency of two units

float multiply_add(std::int64_t rounds) {
  Vec sum[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sum[i] = broadcast(0.001f * static_cast<float>(i));
  Vec a = broadcast(0.999f), b = broadcast(0.001f);
  for (std::int64_t r = 0; r < rounds; ++r) {
    __asm__ volatile("" : "+m"(a), "+m"(b));  // not folded into a closed form
    const Vec x = a, y = b;
#pragma GCC unroll 12
    for (int k = 0; k < 8; ++k)
#pragma GCC unroll 12
      for (int i = 0; i < kChains; ++i) sum[i] = fma(sum[i], x, y);
  }
  Vec total = zero();
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) total = total + sum[i];
  return reduce_add(total);
}

}  // namespace

extern const ProbeKernels kProbe = {multiply_add, std::int64_t{2} * kWidth * kChains * 8};

}  // namespace fastcnn::FASTCNN_ISA
