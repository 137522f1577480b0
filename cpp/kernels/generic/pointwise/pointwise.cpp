// Elementwise kernels and the parameter update.
#include "kernels/pointwise.h"

#include "kernels/generic/functions.h"
#include "kernels/generic/lanes.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

// As with_function, with every row compiled in.
template <class F>
FASTCNN_INLINE void with_row(const Function& f, F&& body) {
  switch (f.kind) {
    case FunctionKind::kNone:
      return body(Identity{});
#define FUNCTION(id, ...) \
  case FunctionKind::id:  \
    return body(Compiled<FunctionKind::id>{broadcast(f.a), broadcast(f.b)});
#include "kernels/functions.inc"
#undef FUNCTION
  }
}

void function_n(const Function& f, const float* x, float* y, std::int64_t n) {
  with_row(f, [&](auto fn) {
    for_lanes(n,
              [&](std::int64_t i, auto lanes) { store_first(y + i, fn(load_first(x + i, lanes)), lanes); });
  });
}

void function_grad_n(const Function& f, const float* dy, const float* v, float* dx, std::int64_t n) {
  with_row(f, [&](auto fn) {
    for_lanes(n, [&](std::int64_t i, auto lanes) {
      store_first(dx + i, fn.gradient(load_first(dy + i, lanes), load_first(v + i, lanes)), lanes);
    });
  });
}

void add_n(const Function& f, const void* const* in, std::int64_t count, float* y, std::int64_t n) {
  if (count == 1) return function_n(f, (const float*)in[0], y, n);
  const float *const a = (const float*)in[0], *const b = (const float*)in[1];
  with_function(f, [&](auto fn) {
    for_lanes(n, [&](std::int64_t i, auto lanes) {
      Vec sum = load_first(a + i, lanes) + load_first(b + i, lanes);
      for (std::int64_t k = 2; k < count; ++k) sum += load_first((const float*)in[k] + i, lanes);
      store_first(y + i, fn(sum), lanes);
    });
  });
}

void scale_n(const float* x, float factor, float* y, std::int64_t n) {
  const Vec f = broadcast(factor);
  for_lanes(n, [&](std::int64_t i, auto lanes) { store_first(y + i, load_first(x + i, lanes) * f, lanes); });
}

enum Momentum { kNoMomentum, kFirst, kHeavyBall };

// One mode of the update, as PyTorch defines it.
template <Momentum kMode>
void sgd_mode(float* p, const float* g, float* b, const float* hyper, std::int64_t n) {
  const Vec rate = broadcast(hyper[0]), momentum = broadcast(hyper[1]), decay = broadcast(hyper[2]);
  const Vec fresh = broadcast(1.0f - hyper[3]);
  const bool nesterov = hyper[4] != 0.0f;
  for_lanes(n, [&](std::int64_t i, auto lanes) {
    const Vec pv = load_first(p + i, lanes);
    Vec d = fma(decay, pv, load_first(g + i, lanes));
    if constexpr (kMode != kNoMomentum) {
      const Vec bv = kMode == kFirst ? d : fma(momentum, load_first(b + i, lanes), fresh * d);
      store_first(b + i, bv, lanes);
      d = nesterov ? fma(momentum, bv, d) : bv;
    }
    store_first(p + i, fma(-rate, d, pv), lanes);
  });
}

void sgd_n(float* param, const float* grad, float* buffer, const float* hyper, std::int64_t n) {
  if (!buffer || hyper[1] == 0.0f)
    sgd_mode<kNoMomentum>(param, grad, buffer, hyper, n);
  else if (hyper[5] != 0.0f)
    sgd_mode<kFirst>(param, grad, buffer, hyper, n);
  else
    sgd_mode<kHeavyBall>(param, grad, buffer, hyper, n);
}

}  // namespace

Vec function_value(const Function& f, Vec x) {
  with_row(f, [&](auto fn) { x = fn(x); });
  return x;
}

Vec function_gradient(const Function& f, Vec dy, Vec v) {
  with_row(f, [&](auto fn) { dy = fn.gradient(dy, v); });
  return dy;
}

extern const PointwiseKernels kPointwise = {function_n, function_grad_n, add_n, scale_n, sgd_n};

}  // namespace fastcnn::FASTCNN_ISA
