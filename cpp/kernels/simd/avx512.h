// AVX-512 (F, BW, VL, DQ): sixteen floats, thirty-two registers, lane masks.
#pragma once

#include <immintrin.h>

namespace fastcnn::FASTCNN_ISA {

FASTCNN_INLINE __mmask16 lane_mask(int n) { return (__mmask16)((1u << n) - 1u); }
FASTCNN_INLINE Vec load(const float* p) { return (Vec)_mm512_loadu_ps(p); }
FASTCNN_INLINE void store(float* p, Vec v) { _mm512_storeu_ps(p, (__m512)v); }
FASTCNN_INLINE Vec load_n(const float* p, int n) { return (Vec)_mm512_maskz_loadu_ps(lane_mask(n), p); }
FASTCNN_INLINE void store_n(float* p, Vec v, int n) { _mm512_mask_storeu_ps(p, lane_mask(n), (__m512)v); }
FASTCNN_INLINE void stream(float* p, Vec v) { _mm512_stream_ps(p, (__m512)v); }
FASTCNN_INLINE void stream_fence() { _mm_sfence(); }
FASTCNN_INLINE Vec broadcast(float x) { return (Vec)_mm512_set1_ps(x); }
FASTCNN_INLINE Vec fma(Vec a, Vec b, Vec c) { return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
FASTCNN_INLINE Vec fma_at(const float* p, Vec b, Vec c) {
  // GCC would rather share one broadcast between several uses.
  __asm__("vfmadd231ps %1%{1to16%}, %2, %0" : "+v"(c) : "m"(*p), "v"(b));
  return c;
}
FASTCNN_INLINE Vec vmax(Vec a, Vec b) { return (Vec)_mm512_max_ps((__m512)a, (__m512)b); }
FASTCNN_INLINE Vec vmin(Vec a, Vec b) { return (Vec)_mm512_min_ps((__m512)a, (__m512)b); }
// One Newton step on the 14-bit estimate: a division occupies its unit for 16 cycles.
FASTCNN_INLINE Vec reciprocal(Vec x) {
  const Vec r = (Vec)_mm512_rcp14_ps((__m512)x);
  return fma(r, fma(-x, r, broadcast(1.0f)), r);
}
FASTCNN_INLINE IVec round_int(Vec x) { return (IVec)_mm512_cvtps_epi32((__m512)x); }
FASTCNN_INLINE std::uint32_t positive_bits(Vec v) {
  return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_GT_OQ);
}
FASTCNN_INLINE Vec keep_bits(std::uint32_t b, Vec v) {
  return (Vec)_mm512_maskz_mov_ps((__mmask16)b, (__m512)v);
}
FASTCNN_INLINE IVec load_u8(const std::uint8_t* p) {
  return (IVec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
}
FASTCNN_INLINE void store_u8(std::uint8_t* p, IVec v) {
  _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8((__m512i)v));
}
// Pairs of lanes are folded within 128 bits first, then across: 15 adds for 16 sums.
FASTCNN_INLINE Vec reduce_add_each(const Vec* v) {
  __m512 s[4];
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const __m512 a = (__m512)v[4 * g], b = (__m512)v[4 * g + 1], c = (__m512)v[4 * g + 2],
                 d = (__m512)v[4 * g + 3];
    const __m512 ab = _mm512_unpacklo_ps(a, b) + _mm512_unpackhi_ps(a, b);
    const __m512 cd = _mm512_unpacklo_ps(c, d) + _mm512_unpackhi_ps(c, d);
    s[g] = _mm512_shuffle_ps(ab, cd, 0x44) + _mm512_shuffle_ps(ab, cd, 0xEE);
  }
  const __m512 lo = _mm512_shuffle_f32x4(s[0], s[1], 0x88) + _mm512_shuffle_f32x4(s[0], s[1], 0xDD);
  const __m512 hi = _mm512_shuffle_f32x4(s[2], s[3], 0x88) + _mm512_shuffle_f32x4(s[2], s[3], 0xDD);
  return (Vec)(_mm512_shuffle_f32x4(lo, hi, 0x88) + _mm512_shuffle_f32x4(lo, hi, 0xDD));
}
FASTCNN_INLINE void transpose(const float* s, std::ptrdiff_t ls, float* d, std::ptrdiff_t ld) {
  __m512 r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(s + i * ls);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xEE);
    r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // r[4 g + i]: columns i, 4 + i, 8 + i, 12 + i of the rows 4 g .. 4 g + 3
    const __m512 a = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88),
                 b = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xDD);
    const __m512 c = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
    const __m512 e = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xDD);
    _mm512_storeu_ps(d + i * ld, _mm512_shuffle_f32x4(a, c, 0x88));
    _mm512_storeu_ps(d + (8 + i) * ld, _mm512_shuffle_f32x4(a, c, 0xDD));
    _mm512_storeu_ps(d + (4 + i) * ld, _mm512_shuffle_f32x4(b, e, 0x88));
    _mm512_storeu_ps(d + (12 + i) * ld, _mm512_shuffle_f32x4(b, e, 0xDD));
  }
}

}  // namespace fastcnn::FASTCNN_ISA
