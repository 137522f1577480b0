// The weight transforms of Winograd F(4x4, 3x3), lanes along output channels.
#include "kernels/generic/conv/winograd_parts.h"

namespace fastcnn {
namespace FASTCNN_ISA {

void winograd_weights(const WinogradWeights& s, const float* w, float* u) {
  for (int c = 0; c < s.ic; ++c)
    for (int v = 0; v < s.vectors; ++v) {
      const float* from = w + c * s.ic_stride + v * kWidth * s.oc_stride;
      const int n = s.oc - v * kWidth < kWidth ? s.oc - v * kWidth : kWidth;
      float lane[9][kWidth] = {};
      for (int k = 0; k < n; ++k)
        for (int t = 0; t < 9; ++t) lane[t][k] = from[k * s.oc_stride + (s.flipped ? 8 - t : t)];
      Vec half[6][3];
      for (int j = 0; j < 3; ++j) {
        const Vec g[3] = {load(lane[j]), load(lane[3 + j]), load(lane[6 + j])};
        Vec o[6];
        weight_1d(g, o);
        for (int i = 0; i < 6; ++i) half[i][j] = o[i];
      }
      float* to = u + (c * s.vectors + v) * kWidth;
      for (int i = 0; i < 6; ++i) {
        Vec o[6];
        weight_1d(half[i], o);
        for (int j = 0; j < 6; ++j) store(to + (i * 6 + j) * s.product, o[j]);
      }
    }
}

void winograd_weight_gradient(const WinogradWeights& s, const float* du, float* dw) {
  for (int c = 0; c < s.ic; ++c)
    for (int v = 0; v * kWidth < s.oc; ++v) {
      const float* from = du + (c * s.vectors + v) * kWidth;
      Vec half[3][6];
      for (int j = 0; j < 6; ++j) {
        Vec m[6], o[3];
        for (int i = 0; i < 6; ++i) m[i] = load(from + (i * 6 + j) * s.product);
        weight_gradient_1d(m, o);
        for (int i = 0; i < 3; ++i) half[i][j] = o[i];
      }
      float lane[9][kWidth];
      for (int i = 0; i < 3; ++i) {
        Vec o[3];
        weight_gradient_1d(half[i], o);
        for (int j = 0; j < 3; ++j) store(lane[i * 3 + j], o[j]);
      }
      const int n = s.oc - v * kWidth < kWidth ? s.oc - v * kWidth : kWidth;
      float* to = dw + c * s.ic_stride + v * kWidth * s.oc_stride;
      for (int k = 0; k < n; ++k)
        for (int t = 0; t < 9; ++t) to[k * s.oc_stride + t] = lane[t][k];
    }
}

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
