// Runs that do not end with a vector: loads, stores and loops for the first n lanes. A count of lanes is
// an int, or Full or Some, which tell the compiler what it may leave out.
#pragma once

#include "kernels/simd/simd.h"

namespace fastcnn::FASTCNN_ISA {

struct Full {
  FASTCNN_INLINE operator int() const { return kWidth; }
};
struct Some {  // 0 < n < kWidth
  int n;
  FASTCNN_INLINE operator int() const {
    if (n <= 0 || n >= kWidth) __builtin_unreachable();
    return n;
  }
};

FASTCNN_INLINE int lanes_of(std::int64_t n) { return n < kWidth ? (n < 0 ? 0 : (int)n) : kWidth; }

// Any n: the lanes past it read as 0, or stay in memory.
template <class N>
FASTCNN_INLINE Vec load_first(const float* p, N n) {
  return n >= kWidth ? load(p) : n > 0 ? load_n(p, (int)n) : zero();
}
template <class N>
FASTCNN_INLINE IVec load_first(const std::int32_t* p, N n) {
  return bits(load_first((const float*)p, n));
}
template <class N>
FASTCNN_INLINE IVec load_first(const std::uint8_t* p, N n) {
  if (n >= kWidth) return load_u8(p);
  std::uint8_t t[kWidth] = {};
  for (int i = 0; i < n; ++i) t[i] = p[i];
  return load_u8(t);
}
template <bool kStream = false, class N>
FASTCNN_INLINE void store_first(float* p, Vec v, N n) {
  if (n >= kWidth)
    kStream ? stream(p, v) : store(p, v);
  else if (n > 0)
    store_n(p, v, (int)n);
}
template <class N>
FASTCNN_INLINE void store_first(std::int32_t* p, IVec v, N n) {
  store_first((float*)p, bits(v), n);
}
template <class N>
FASTCNN_INLINE void store_first(std::uint8_t* p, IVec v, N n) {
  if (n >= kWidth) return store_u8(p, v);
  std::uint8_t t[kWidth];
  store_u8(t, v);
  for (int i = 0; i < n; ++i) p[i] = t[i];
}

// f(first, lanes) for the vectors of n values, the last of which may be partial.
template <class F>
FASTCNN_INLINE void for_lanes(std::int64_t n, F&& f) {
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) f(i, Full{});
  if (i < n) f(i, Some{(int)(n - i)});
}

// The larger one; NaN where either is one (vmax gives its second operand then).
FASTCNN_INLINE Vec larger(Vec a, Vec b) { return select(a != a, a, vmax(a, b)); }

}  // namespace fastcnn::FASTCNN_ISA
