// Winograd convolution F(4x4, 3x3) on NHWC values, one thread: the transforms. The 36 matrix products between
// them are the register tiles of kernels/conv.h. Transformed values lie as [36][tile][channels].
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/functions.h"

namespace fastcnn {

// Consecutive 4 x 4 tiles of a batch of images, in the order image, row, column.
struct WinogradTiles {
  std::int64_t first, count;
  std::int64_t rows, cols;  // tiles of one image
};

struct WinogradImages {
  std::int64_t h, w;
  std::ptrdiff_t image, row, pixel;  // floats between neighbours
};

struct WinogradBuffer {  // [36][tile][channels]
  float* data;
  std::ptrdiff_t product, tile;  // floats between neighbours; a tile's channels are padded to whole vectors
};

// V = B^T d B of the 6 x 6 patches; tile (0, 0)'s patch starts at pixel (-top, -left). Zeros outside the
// image.
struct WinogradInput {
  WinogradTiles tiles;
  WinogradImages images;
  const float* x;
  std::int64_t c, top, left;
  const float* zeros;  // c of them, rounded up to whole vectors
  WinogradBuffer v;
};

// y = f(A^T M A + bias + residual); statistics of A^T M A + bias; or the 2x2 pool with stride 2 of y.
struct WinogradOutput {
  WinogradTiles tiles;
  WinogradImages images;
  WinogradBuffer m;
  std::int64_t c;
  float* y;
  const float* bias;      // or null
  const float* residual;  // or null
  WinogradImages residual_images;
  Function f;
  float *shift, *sum, *square;  // shift null: no statistics
  float* pooled;                // or null: then y is not written
  WinogradImages pooled_images;
  bool average;
};

// D = A dy A^T, zeros outside the image and past c up to `padded` channels.
struct WinogradGradient {
  WinogradTiles tiles;
  WinogradImages images;
  const float* dy;
  std::int64_t c, padded;
  WinogradBuffer d;
};

// One block of output channels: U = G g G^T as [36][ic][vectors * width], or back, dg = G^T dU G.
struct WinogradWeights {
  std::ptrdiff_t oc_stride, ic_stride;  // floats between channels in w; the nine taps are neighbours
  bool flipped;                         // taps in reverse order (backward data)
  int ic, oc, vectors;
  std::ptrdiff_t product;  // floats between the 36 matrices
};

struct WinogradKernels {
  void (*input)(const WinogradInput&);
  void (*output)(const WinogradOutput&);
  void (*gradient)(const WinogradGradient&);
  void (*weights)(const WinogradWeights&, const float* w, float* u);
  void (*weight_gradient)(const WinogradWeights&, const float* du, float* dw);
};

}  // namespace fastcnn
