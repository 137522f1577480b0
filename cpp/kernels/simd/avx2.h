// AVX2 + FMA: eight floats, sixteen registers. Never wider vectors here: GCC would take them through the
// stack.
#pragma once

#include <immintrin.h>

namespace fastcnn::FASTCNN_ISA {

FASTCNN_INLINE IVec lane_mask(int n) {  // -1 in the first n lanes
  const IVec lane = {0, 1, 2, 3, 4, 5, 6, 7};
  return lane < n;
}
FASTCNN_INLINE Vec load(const float* p) { return (Vec)_mm256_loadu_ps(p); }
FASTCNN_INLINE void store(float* p, Vec v) { _mm256_storeu_ps(p, (__m256)v); }
FASTCNN_INLINE Vec load_n(const float* p, int n) { return (Vec)_mm256_maskload_ps(p, (__m256i)lane_mask(n)); }
FASTCNN_INLINE void store_n(float* p, Vec v, int n) {
  _mm256_maskstore_ps(p, (__m256i)lane_mask(n), (__m256)v);
}
FASTCNN_INLINE void stream(float* p, Vec v) { _mm256_stream_ps(p, (__m256)v); }
FASTCNN_INLINE void stream_fence() { _mm_sfence(); }
FASTCNN_INLINE Vec broadcast(float x) { return (Vec)_mm256_set1_ps(x); }
FASTCNN_INLINE Vec fma(Vec a, Vec b, Vec c) { return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
FASTCNN_INLINE Vec fma_at(const float* p, Vec b, Vec c) { return fma(broadcast(*p), b, c); }
FASTCNN_INLINE Vec vmax(Vec a, Vec b) { return (Vec)_mm256_max_ps((__m256)a, (__m256)b); }
FASTCNN_INLINE Vec vmin(Vec a, Vec b) { return (Vec)_mm256_min_ps((__m256)a, (__m256)b); }
FASTCNN_INLINE Vec reciprocal(Vec x) { return 1.0f / x; }
FASTCNN_INLINE IVec round_int(Vec x) { return (IVec)_mm256_cvtps_epi32((__m256)x); }
FASTCNN_INLINE std::uint32_t positive_bits(Vec v) {
  return (std::uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_GT_OQ));
}
FASTCNN_INLINE Vec keep_bits(std::uint32_t b, Vec v) {
  const IVec lane = {1, 2, 4, 8, 16, 32, 64, 128};
  const IVec on = (IVec)_mm256_set1_epi32((int)b) & lane;
  return (Vec)((IVec)v & (on != 0));
}
FASTCNN_INLINE IVec load_u8(const std::uint8_t* p) {
  return (IVec)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
}
FASTCNN_INLINE void store_u8(std::uint8_t* p, IVec v) {
  const __m128i lo = _mm256_castsi256_si128((__m256i)v), hi = _mm256_extracti128_si256((__m256i)v, 1);
  const __m128i words = _mm_packus_epi32(lo, hi);
  _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(words, words));
}
FASTCNN_INLINE Vec reduce_add_each(const Vec* v) {
  __m256 s[2];
#pragma GCC unroll 2
  for (int g = 0; g < 2; ++g)
    s[g] = _mm256_hadd_ps(_mm256_hadd_ps((__m256)v[4 * g], (__m256)v[4 * g + 1]),
                          _mm256_hadd_ps((__m256)v[4 * g + 2], (__m256)v[4 * g + 3]));
  return (Vec)(_mm256_permute2f128_ps(s[0], s[1], 0x20) + _mm256_permute2f128_ps(s[0], s[1], 0x31));
}
FASTCNN_INLINE void transpose(const float* s, std::ptrdiff_t ls, float* d, std::ptrdiff_t ld) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(s + i * ls);
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(d + i * ld, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(d + (i + 4) * ld, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

}  // namespace fastcnn::FASTCNN_ISA
