// What the three directions of Winograd convolution F(4x4, 3x3) share: when it is used, the tiles of an
// image, and the transformed input.
#pragma once

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

// A thread's or a step's [36][tiles][channels]: channels in whole vectors, and strides never a power of two
// (cache sets).
struct WinogradMatrices {
  Range<float> at;
  std::int64_t tile = 0, product = 0;  // floats between neighbours
  WinogradMatrices() = default;
  WinogradMatrices(Book& book, std::int64_t channels, std::int64_t tiles, std::int64_t width)
      : tile(round_up(channels, width)) {
    if (tile % 256 == 0) tile += 16;
    product = round_up(tiles * tile, 16);
    if (product % 32 == 0) product += 16;
    at = book.add(product * kWinogradProducts);
  }
  WinogradBuffer in(std::byte* base, std::int64_t first = 0) const {
    return {at.in(base) + first * tile, product, tile};
  }
};

// What the three directions share. Planes are images: to a kernel one plane deep they are the same.
// Transposed: the gradient of the input, the forward way over dy with flipped weights.
class Winograd : public Prepared {
 protected:
  Winograd(const Problem& p, bool transposed);
  static WinogradImages images_of(TensorDesc d);
  std::int64_t tiles() const { return planes_ * rows_ * cols_; }
  WinogradTiles run(std::int64_t first, std::int64_t count) const { return {first, count, rows_, cols_}; }
  // Bytes of the transformed values and products of a tile, with so many channels of these.
  double tile_bytes(std::int64_t channels) const {
    return 4.0 * kWinogradProducts * static_cast<double>(src_c_ + channels);
  }
  double flops() const;  // of the 36 products
  void set_inputs(Book& book, std::int64_t tiles) {
    v_ = WinogradMatrices(book, src_c_, tiles, out_.width);
    zeros_ = own_.add(v_.tile);
  }
  // Transforms tiles of input 0 into V.
  void transform_input(const RunArgs& a, const Worker& w, const WinogradTiles& tiles,
                       const WinogradBuffer& v) const;

  const ConvKernels& conv_;
  const WinogradKernels& winograd_;
  ConvParams c_;
  bool transposed_;
  std::int64_t src_c_;
  std::int64_t planes_, h_, w_, rows_, cols_;  // what is written (of weight gradients: dy), in tiles
  VectorBlocks out_;
  WinogradMatrices v_;

 private:
  WinogradImages src_;
  Range<float> zeros_;
};

std::unique_ptr<Prepared> prepare_winograd_backward_weights(const Problem& p);

}  // namespace fastcnn::ops
