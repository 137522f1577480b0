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

// "" when F(4x4, 3x3) can do it and, unless it is asked for by name, should be faster than the direct way.
std::string winograd_declines(const Problem& p, const ConvParams& c);

struct WinogradGrid {
  std::int64_t n = 0, rows = 0, cols = 0;  // tiles down and across an output image
  std::int64_t tiles() const { return n * rows * cols; }
  WinogradTiles run(std::int64_t first, std::int64_t count) const { return {first, count, rows, cols}; }
};

inline WinogradGrid winograd_grid(std::int64_t n, std::int64_t oh, std::int64_t ow) {
  return {n, (oh + 3) / 4, (ow + 3) / 4};
}

inline WinogradImages nhwc_images(std::int64_t h, std::int64_t w, std::int64_t c) {
  return {h, w, h * w * c, w * c, c};
}

// Strides of a [36][tiles][channels] buffer: whole vectors, and never a power of two apart (cache sets).
struct WinogradStrides {
  std::int64_t tile = 0, product = 0;
  WinogradStrides() = default;
  WinogradStrides(std::int64_t channels, std::int64_t tiles, std::int64_t width) {
    tile = (channels + width - 1) / width * width;
    if (tile % 256 == 0) tile += 16;
    product = tiles * tile + 15;
    product = product / 16 * 16;
    if (product % 32 == 0) product += 16;
  }
  std::size_t bytes() const { return static_cast<std::size_t>(product * kWinogradProducts) * sizeof(float); }
};

// Tiles of one block: what fits `bytes` at `per_tile` bytes each, enough blocks for many threads, nearly
// equal.
std::int64_t winograd_block(std::int64_t tiles, double per_tile, double bytes, std::int64_t least);

std::unique_ptr<Prepared> prepare_winograd_backward_weights(const Problem& p);

}  // namespace fastcnn::ops
