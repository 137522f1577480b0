// Elementary functions on vectors. NaN stays NaN, infinities give the
// limits. Coefficients: minimax fits of this project, rounded to float32 one after the other.
#pragma once

#include "kernels/simd/simd.h"

namespace fastcnn::FASTCNN_ISA {

// 2^n for -126 <= n <= 127.
FASTCNN_INLINE Vec exp2_int(IVec n) { return bits((n + 127) << 23); }

// e^x to 1.5 ulp; 0 below -104, inf above 88.73.
FASTCNN_INLINE Vec vexp(Vec x) {
  x = vmin(broadcast(89.0f), vmax(broadcast(-105.0f), x));
  const IVec n = round_int(x * broadcast(1.44269504f));
  const Vec nf = to_float(n);
  Vec r = fma(nf, broadcast(-0.693359375f), x);  // ln 2 in two parts: the first product is exact
  r = fma(nf, broadcast(2.12194440e-4f), r);
  Vec p = fma(broadcast(0.00138198235f), r, broadcast(0.00836868677f));
  p = fma(p, r, broadcast(0.0416682772f));
  p = fma(p, r, broadcast(0.166665211f));
  p = fma(p, r, broadcast(0.49999994f));
  p = fma(r * r, p, r) + broadcast(1.0f);
  const IVec half = n >> 1;  // two factors: 2^n alone would leave the exponent range at both ends
  return p * exp2_int(half) * exp2_int(n - half);
}

// ln x to 2 ulp; -inf at 0, NaN below. Denormals count as 0.
FASTCNN_INLINE Vec vlog(Vec x) {
  const IVec b = bits(x);
  // x = m 2^e with m in [sqrt(1/2), sqrt(2))
  const IVec e = (b - 0x3f3504f3) >> 23;
  const Vec f = bits(b - (e << 23)) - broadcast(1.0f), ef = to_float(e);
  Vec p = fma(broadcast(-0.0763694048f), f, broadcast(0.127624854f));
  p = fma(p, f, broadcast(-0.131595507f));
  p = fma(p, f, broadcast(0.142015398f));
  p = fma(p, f, broadcast(-0.166234106f));
  p = fma(p, f, broadcast(0.200012431f));
  p = fma(p, f, broadcast(-0.250008196f));
  p = fma(p, f, broadcast(0.333333313f));
  const Vec f2 = f * f;
  Vec y = fma(ef, broadcast(-2.12194440e-4f), f2 * f * p);
  y = fma(f2, broadcast(-0.5f), y) + f;
  y = fma(ef, broadcast(0.693359375f), y);
  const Vec inf = broadcast(__builtin_inff());
  y = select(x < broadcast(__FLT_MIN__), -inf, y);
  y = select(x < zero(), broadcast(__builtin_nanf("")), y);
  y = select(x == inf, inf, y);
  return select(x != x, x, y);
}

// tanh x to 3e-7, odd, exactly 1 from 8.6 on: x P(x^2) / Q(x^2), with P / Q a little above 1 at the bound so
// that the last clamp lands on 1 whatever the rounding.
FASTCNN_INLINE Vec vtanh(Vec x) {
  const Vec bound = broadcast(8.6f), one = broadcast(1.0f);
  x = vmin(bound, vmax(-bound, x));
  const Vec u = x * x;
  Vec p = fma(broadcast(2.26006236e-08f), u, broadcast(3.2263084e-05f));
  Vec q = fma(broadcast(1.25994734e-06f), u, broadcast(0.000501338509f));
  p = fma(p, u, broadcast(0.00523850834f));
  q = fma(q, u, broadcast(0.0383230336f));
  p = fma(p, u, broadcast(0.196752906f));
  q = fma(q, u, broadcast(0.684250116f));
  p = fma(p, u, broadcast(1.46249163f));
  q = fma(q, u, broadcast(1.46249163f));
  return vmin(one, vmax(-one, x * p * reciprocal(q)));
}

// 1 / (1 + e^-x) through e^-|x|, which cannot overflow.
FASTCNN_INLINE Vec vsigmoid(Vec x) {
  const Vec e = vexp(bits(bits(x) | INT32_MIN));
  const Vec r = reciprocal(e + broadcast(1.0f));
  return select(x < zero(), e * r, r);
}

}  // namespace fastcnn::FASTCNN_ISA
