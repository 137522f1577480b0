// The baseline of every CPU: four floats, in whatever the compiler makes of them (SSE2 on x86-64).
#pragma once

#include <cmath>

namespace fastcnn::FASTCNN_ISA {

typedef float UnalignedVec __attribute__((vector_size(16), aligned(4), may_alias));

FASTCNN_INLINE Vec load(const float* p) { return (Vec) * (const UnalignedVec*)p; }
FASTCNN_INLINE void store(float* p, Vec v) { *(UnalignedVec*)p = (UnalignedVec)v; }
FASTCNN_INLINE Vec load_n(const float* p, int n) {
  Vec v{};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
FASTCNN_INLINE void store_n(float* p, Vec v, int n) {
  for (int i = 0; i < n; ++i) p[i] = v[i];
}
FASTCNN_INLINE void stream(float* p, Vec v) { store(p, v); }
FASTCNN_INLINE void stream_fence() {}
FASTCNN_INLINE Vec broadcast(float x) { return Vec{x, x, x, x}; }
FASTCNN_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
FASTCNN_INLINE Vec fma_at(const float* p, Vec b, Vec c) { return fma(broadcast(*p), b, c); }
FASTCNN_INLINE Vec vmax(Vec a, Vec b) { return a > b ? a : b; }
FASTCNN_INLINE Vec vmin(Vec a, Vec b) { return a < b ? a : b; }
FASTCNN_INLINE Vec reciprocal(Vec x) { return 1.0f / x; }
FASTCNN_INLINE IVec round_int(Vec x) {
  IVec r{};
  for (int i = 0; i < kWidth; ++i) r[i] = (std::int32_t)__builtin_rintf(x[i]);
  return r;
}
FASTCNN_INLINE std::uint32_t positive_bits(Vec v) {
  std::uint32_t b = 0;
  for (int i = 0; i < kWidth; ++i) b |= (std::uint32_t)(v[i] > 0) << i;
  return b;
}
FASTCNN_INLINE Vec keep_bits(std::uint32_t b, Vec v) {
  for (int i = 0; i < kWidth; ++i) v[i] = (b >> i & 1) ? v[i] : 0.0f;
  return v;
}
FASTCNN_INLINE IVec load_u8(const std::uint8_t* p) { return IVec{p[0], p[1], p[2], p[3]}; }
FASTCNN_INLINE void store_u8(std::uint8_t* p, IVec v) {
  for (int i = 0; i < kWidth; ++i) p[i] = (std::uint8_t)v[i];
}
FASTCNN_INLINE Vec reduce_add_each(const Vec* v) {
  Vec s{};
  for (int i = 0; i < kWidth; ++i) s[i] = (v[i][0] + v[i][2]) + (v[i][1] + v[i][3]);
  return s;
}
FASTCNN_INLINE void transpose(const float* s, std::ptrdiff_t ls, float* d, std::ptrdiff_t ld) {
  for (int i = 0; i < kWidth; ++i)
    for (int j = 0; j < kWidth; ++j) d[j * ld + i] = s[i * ls + j];
}

}  // namespace fastcnn::FASTCNN_ISA
