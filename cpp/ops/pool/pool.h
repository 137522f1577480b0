// What the pooling ops share: the parsed geometry and the window tables made of it.
#pragma once

#include <memory>
#include <vector>

#include "kernels/pool.h"
#include "ops/op.h"

namespace fastcnn::ops {

// One pooling, by its forward names whichever direction is computed.
struct PoolGeometry {
  std::int64_t n = 0, c = 0, ih = 0, iw = 0, oh = 0, ow = 0;
  std::int64_t kh = 1, kw = 1;                  // of max pooling, for tap numbers
  std::vector<PoolWindow> rows, cols;           // [oh], [ow]
  std::vector<PoolCover> row_cover, col_cover;  // [ih], [iw]
  bool tiled = false;
  double taps() const;  // pixels read per image and channel
};

enum class PoolOp { kMax, kAverage, kGlobalAverage, kAdaptiveAverage };

// input: NCHW shape of x. Throws ValueError as PyTorch would.
PoolGeometry pool_geometry(PoolOp op, const Attrs& attrs, const Shape& input);

// The same from the gradient of y and the attribute input_size.
PoolGeometry pool_backward_geometry(PoolOp op, const Attrs& attrs, const Shape& dy);

constexpr std::int64_t kMaxNarrowTaps = 255;  // above, an index takes int32 instead of uint8
inline DType index_type(std::int64_t kh, std::int64_t kw) {
  return kh * kw > kMaxNarrowTaps ? DType::kInt32 : DType::kUInt8;
}

// Implementations in channels-last and batch-interleaved values.
enum class PoolDirection { kForward, kBackward };
template <PoolOp kOp, PoolDirection kDirection>
std::vector<Impl> pool_implementations();

}  // namespace fastcnn::ops
