// Elementwise kernels and the parameter update.
#include "kernels/pointwise.h"

#include "kernels/generic/loss/loss.h"
#include "kernels/generic/math.h"
#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

void activate_n(Act act, const float* x, float* y, std::int64_t n) {
  with_act(act, [&](auto kind) {
    constexpr Act k = decltype(kind)::value;
    std::int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store(y + i, activate<k>(load(x + i)));
    const int rest = (int)(n - i);
    if (rest) store_n(y + i, activate<k>(load_n(x + i, rest)), rest);
  });
}

void activate_grad_n(Act act, const float* dy, const float* y, float* dx, std::int64_t n) {
  with_act(act, [&](auto kind) {
    constexpr Act k = decltype(kind)::value;
    std::int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store(dx + i, activate_grad<k>(load(dy + i), load(y + i)));
    const int rest = (int)(n - i);
    if (rest) store_n(dx + i, activate_grad<k>(load_n(dy + i, rest), load_n(y + i, rest)), rest);
  });
}

void add_n(Act act, const float* a, const float* b, float* y, std::int64_t n) {
  with_act(act, [&](auto kind) {
    constexpr Act k = decltype(kind)::value;
    std::int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store(y + i, activate<k>(load(a + i) + load(b + i)));
    const int rest = (int)(n - i);
    if (rest) store_n(y + i, activate<k>(load_n(a + i, rest) + load_n(b + i, rest)), rest);
  });
}

void scale_n(const float* x, float factor, float* y, std::int64_t n) {
  const Vec f = broadcast(factor);
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(y + i, load(x + i) * f);
  const int rest = (int)(n - i);
  if (rest) store_n(y + i, load_n(x + i, rest) * f, rest);
}

enum Momentum { kNoMomentum, kFirst, kHeavyBall };

struct SgdStep {  // one vector of the update, as PyTorch defines it
  Vec rate, momentum, decay, fresh;
  bool nesterov;

  template <Momentum kMode>
  FASTCNN_INLINE void operator()(Vec& p, Vec g, Vec& b) const {
    Vec d = fma(decay, p, g);
    if constexpr (kMode != kNoMomentum) {
      b = kMode == kFirst ? d : fma(momentum, b, fresh * d);
      d = nesterov ? fma(momentum, b, d) : b;
    }
    p = fma(-rate, d, p);
  }
};

template <Momentum kMode>
void sgd_mode(const SgdStep& step, float* p, const float* g, float* b, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    Vec pv = load(p + i), bv = kMode == kHeavyBall ? load(b + i) : zero();
    step.template operator()<kMode>(pv, load(g + i), bv);
    store(p + i, pv);
    if (kMode != kNoMomentum) store(b + i, bv);
  }
  const int rest = (int)(n - i);
  if (!rest) return;
  Vec pv = load_n(p + i, rest), bv = kMode == kHeavyBall ? load_n(b + i, rest) : zero();
  step.template operator()<kMode>(pv, load_n(g + i, rest), bv);
  store_n(p + i, pv, rest);
  if (kMode != kNoMomentum) store_n(b + i, bv, rest);
}

void sgd_n(float* param, const float* grad, float* buffer, const float* hyper, std::int64_t n) {
  const SgdStep step{broadcast(hyper[0]), broadcast(hyper[1]), broadcast(hyper[2]),
                     broadcast(1.0f - hyper[3]), hyper[4] != 0.0f};
  if (!buffer || hyper[1] == 0.0f)
    sgd_mode<kNoMomentum>(step, param, grad, buffer, n);
  else if (hyper[5] != 0.0f)
    sgd_mode<kFirst>(step, param, grad, buffer, n);
  else
    sgd_mode<kHeavyBall>(step, param, grad, buffer, n);
}

}  // namespace

extern const PointwiseKernels kPointwise;
const PointwiseKernels kPointwise = {activate_n,
                                     activate_grad_n,
                                     add_n,
                                     scale_n,
                                     sgd_n,
                                     softmax_rows,
                                     softmax_block,
                                     softmax_grad_rows,
                                     softmax_grad_block,
                                     cross_entropy_rows,
                                     cross_entropy_block};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
