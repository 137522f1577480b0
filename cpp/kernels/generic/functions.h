// The elementwise functions on vectors. Kernels end with one through with_function: the first three of the
// table are compiled into them, the others are called, a vector at a time.
#pragma once

#include "kernels/functions.h"
#include "kernels/generic/math.h"
#include "kernels/simd/simd.h"

namespace fastcnn::FASTCNN_ISA {

// x sigmoid(x) and its slope. Past the bound they are at their limits, which infinity times 0 would miss.
constexpr float kSiluBound = 110.0f;
FASTCNN_INLINE Vec silu(Vec x) {
  x = vmax(broadcast(-kSiluBound), x);
  return x * vsigmoid(x);
}
FASTCNN_INLINE Vec silu_slope(Vec x) {
  x = vmin(broadcast(kSiluBound), vmax(broadcast(-kSiluBound), x));
  const Vec s = vsigmoid(x);
  return s * fma(x, broadcast(1.0f) - s, broadcast(1.0f));
}

// Row<kind>: value(x) and gradient(dy, v), v being x or y as the table says.
template <FunctionKind kKind>
struct Row;
#define PARAMETERS(...)
#define FUNCTION(id, name, parameters, reads, flops, gradient_flops, VALUE, GRADIENT)                        \
  template <>                                                                                                \
  struct Row<FunctionKind::id> {                                                                             \
    static FASTCNN_INLINE Vec value(Vec x, [[maybe_unused]] Vec a, [[maybe_unused]] Vec b) { return VALUE; } \
    static FASTCNN_INLINE Vec gradient(Vec dy, Vec v, [[maybe_unused]] Vec a, [[maybe_unused]] Vec b) {      \
      return GRADIENT;                                                                                       \
    }                                                                                                        \
  };
#include "kernels/functions.inc"
#undef FUNCTION
#undef PARAMETERS

struct Identity {
  static constexpr FunctionKind kind = FunctionKind::kNone;
  FASTCNN_INLINE Vec operator()(Vec x) const { return x; }
  FASTCNN_INLINE Vec gradient(Vec dy, Vec) const { return dy; }
};
template <class F>
constexpr bool kIdentity = __is_empty(F);  // the only one that keeps nothing

template <FunctionKind kKind>
struct Compiled {
  static constexpr FunctionKind kind = kKind;
  Vec a = {}, b = {};  // the parameters
  FASTCNN_INLINE Vec operator()(Vec x) const { return Row<kKind>::value(x, a, b); }
  FASTCNN_INLINE Vec gradient(Vec dy, Vec v) const { return Row<kKind>::gradient(dy, v, a, b); }
};

// pointwise.cpp: any row of the table.
Vec function_value(const Function& f, Vec x);
Vec function_gradient(const Function& f, Vec dy, Vec v);

struct Called {  // refers to the function it was made from: not to be kept
  static constexpr FunctionKind kind = FunctionKind::kNone;
  const Function& f;
  FASTCNN_INLINE Vec operator()(Vec x) const { return function_value(f, x); }
  FASTCNN_INLINE Vec gradient(Vec dy, Vec v) const { return function_gradient(f, dy, v); }
};

// body(functor): one branch outside the loop instead of one per element.
template <class F>
FASTCNN_INLINE void with_function(const Function& f, F&& body) {
  switch (f.kind) {
    case FunctionKind::kNone:
      return body(Identity{});
    case FunctionKind::kRelu:
      return body(Compiled<FunctionKind::kRelu>{});
    case FunctionKind::kTanh:
      return body(Compiled<FunctionKind::kTanh>{});
    case FunctionKind::kSigmoid:
      return body(Compiled<FunctionKind::kSigmoid>{});
    default:
      return body(Called{f});
  }
}

}  // namespace fastcnn::FASTCNN_ISA
