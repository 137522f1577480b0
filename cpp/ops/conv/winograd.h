// What the three directions of Winograd convolution F(4x4, 3x3) share: when it is used, and how tiles become
// buffers.
#pragma once

#include <algorithm>
#include <string>

#include "kernels/conv.h"
#include "kernels/table.h"
#include "kernels/winograd.h"
#include "ops/conv/conv.h"
#include "ops/conv/direct.h"

namespace fastcnn::ops {

constexpr int kWinogradProducts = 36;
constexpr std::int64_t kWinogradTiles = 168;  // of a block, at most

// "" when F(4x4, 3x3) can do it and, unless it is asked for by name, should be faster than the direct way.
std::string winograd_declines(const Problem& p);

// Tiles of n images (or planes: to a kernel one plane deep they are the same) of h x w outputs.
struct WinogradGrid {
  std::int64_t n, h, w, rows, cols;
  WinogradGrid(std::int64_t images, std::int64_t height, std::int64_t width)
      : n(images), h(height), w(width), rows(ceil_div(h, 4)), cols(ceil_div(w, 4)) {}
  std::int64_t tiles() const { return n * rows * cols; }
  WinogradTiles run(std::int64_t first, std::int64_t count) const { return {first, count, rows, cols}; }
};

inline WinogradImages winograd_images(TensorDesc d) {
  d.layout = Layout::kNHWC;  // where it is called otherwise it is the same memory
  const Geometry g = geometry_of(d);
  return {g.spatial[1], g.spatial[2], g.plane, g.row, g.pixel};
}

// Strides of a [36][tiles][channels] buffer: whole vectors, and never a power of two apart (cache sets).
struct WinogradStrides {
  std::int64_t tile = 0, product = 0;
  WinogradStrides() = default;
  WinogradStrides(std::int64_t channels, std::int64_t tiles, std::int64_t width)
      : tile(round_up(channels, width)) {
    if (tile % 256 == 0) tile += 16;
    product = round_up(tiles * tile, 16);
    if (product % 32 == 0) product += 16;
  }
  std::int64_t floats() const { return product * kWinogradProducts; }
};

// Transforms tiles of x, whose patches start at (-top, -left), into v. zeros: for c channels, written.
inline void transform_input(const WinogradKernels& k, const WinogradTiles& tiles,
                            const WinogradImages& images, const float* x, std::int64_t c, std::int64_t top,
                            std::int64_t left, float* zeros, float* v, const WinogradStrides& strides) {
  std::fill_n(zeros, strides.tile, 0.0f);
  k.input({tiles, images, x, c, top, left, zeros, {v, strides.product, strides.tile}});
}

std::unique_ptr<Prepared> prepare_winograd_backward_weights(const Problem& p);

}  // namespace fastcnn::ops
