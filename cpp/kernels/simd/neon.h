// 64-bit Arm: four floats, thirty-two registers, fused multiply-add always present.
#pragma once

#include <arm_neon.h>

namespace fastcnn::FASTCNN_ISA {

FASTCNN_INLINE Vec load(const float* p) { return (Vec)vld1q_f32(p); }
FASTCNN_INLINE void store(float* p, Vec v) { vst1q_f32(p, (float32x4_t)v); }
// The first lanes in one or two instructions: indexing a vector by a variable takes it through the stack.
FASTCNN_INLINE Vec load_n(const float* p, int n) {
  const float32x2_t none = vdup_n_f32(0);
  if (n > 3) return load(p);
  if (n == 3) return (Vec)vcombine_f32(vld1_f32(p), vld1_lane_f32(p + 2, none, 0));
  if (n == 2) return (Vec)vcombine_f32(vld1_f32(p), none);
  return (Vec)vcombine_f32(n == 1 ? vld1_lane_f32(p, none, 0) : none, none);
}
FASTCNN_INLINE void store_n(float* p, Vec v, int n) {
  const float32x4_t f = (float32x4_t)v;
  if (n > 3) return store(p, v);
  if (n > 1) vst1_f32(p, vget_low_f32(f));
  if (n == 3) vst1q_lane_f32(p + 2, f, 2);
  if (n == 1) vst1q_lane_f32(p, f, 0);
}
FASTCNN_INLINE void stream(float* p, Vec v) { store(p, v); }
FASTCNN_INLINE void stream_fence() {}
FASTCNN_INLINE Vec broadcast(float x) { return (Vec)vdupq_n_f32(x); }
FASTCNN_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
FASTCNN_INLINE Vec fma_at(const float* p, Vec b, Vec c) { return fma(broadcast(*p), b, c); }
FASTCNN_INLINE Vec vmax(Vec a, Vec b) { return a > b ? a : b; }
FASTCNN_INLINE Vec vmin(Vec a, Vec b) { return a < b ? a : b; }
FASTCNN_INLINE Vec reciprocal(Vec x) { return 1.0f / x; }
FASTCNN_INLINE IVec round_int(Vec x) { return (IVec)vcvtnq_s32_f32((float32x4_t)x); }
FASTCNN_INLINE std::uint32_t positive_bits(Vec v) {
  const uint32x4_t lane = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(vcgtzq_f32((float32x4_t)v), lane));
}
FASTCNN_INLINE Vec keep_bits(std::uint32_t b, Vec v) {
  const uint32x4_t lane = {1, 2, 4, 8};
  return (Vec)vandq_u32(vtstq_u32(vdupq_n_u32(b), lane), (uint32x4_t)v);
}
FASTCNN_INLINE IVec load_u8(const std::uint8_t* p) {
  std::uint32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  const uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(four));
  return (IVec)vmovl_u16(vget_low_u16(vmovl_u8(bytes)));
}
FASTCNN_INLINE void store_u8(std::uint8_t* p, IVec v) {
  const uint16x4_t words = vmovn_u32((uint32x4_t)v);
  const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
  const std::uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
  __builtin_memcpy(p, &four, sizeof four);
}
FASTCNN_INLINE Vec reduce_add_each(const Vec* v) {
  return (Vec)vpaddq_f32(vpaddq_f32((float32x4_t)v[0], (float32x4_t)v[1]),
                         vpaddq_f32((float32x4_t)v[2], (float32x4_t)v[3]));
}
FASTCNN_INLINE void transpose(const float* s, std::ptrdiff_t ls, float* d, std::ptrdiff_t ld) {
  const float32x4x2_t a = vtrnq_f32(vld1q_f32(s), vld1q_f32(s + ls));
  const float32x4x2_t b = vtrnq_f32(vld1q_f32(s + 2 * ls), vld1q_f32(s + 3 * ls));
  vst1q_f32(d, vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0])));
  vst1q_f32(d + ld, vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1])));
  vst1q_f32(d + 2 * ld, vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0])));
  vst1q_f32(d + 3 * ld, vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1])));
}

}  // namespace fastcnn::FASTCNN_ISA
