// What every instruction set gets from the vector extension alone.
#pragma once

namespace fastcnn::FASTCNN_ISA {

FASTCNN_INLINE Vec zero() { return Vec{}; }
FASTCNN_INLINE Vec select(IVec mask, Vec a, Vec b) { return mask ? a : b; }
FASTCNN_INLINE IVec select(IVec mask, IVec a, IVec b) { return mask ? a : b; }
FASTCNN_INLINE IVec bits(Vec v) { return (IVec)v; }
FASTCNN_INLINE Vec bits(IVec v) { return (Vec)v; }
FASTCNN_INLINE Vec to_float(IVec v) { return __builtin_convertvector(v, Vec); }

// Halves folded onto each other: the same order on every call, so sums repeat bit for bit.
FASTCNN_INLINE float reduce_add(Vec v) {
  float t[kWidth];
  store(t, v);
  for (int n = kWidth / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) t[i] += t[i + n];
  return t[0];
}

FASTCNN_INLINE float reduce_max(Vec v) {
  float t[kWidth];
  store(t, v);
  for (int n = kWidth / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) t[i] = t[i] > t[i + n] ? t[i] : t[i + n];
  return t[0];
}

}  // namespace fastcnn::FASTCNN_ISA
