// What the pooling ops share: the window tables made of attributes and shapes.
#pragma once

#include <vector>

#include "kernels/pool.h"
#include "ops/maps.h"

namespace fastcnn::ops {

enum class PoolKind { kMax, kAverage, kGlobalAverage, kAdaptiveAverage };

struct PoolGeometry : MapFacts {
  struct Axis {
    std::int64_t in = 1, out = 1, kernel = 1, stride = 1;  // kernel: the largest, of adaptive windows
    std::vector<PoolWindow> windows;                       // [out]
    std::vector<PoolCover> cover;                          // [in]
    bool tiled = true;                                     // no two windows overlap
    double taps = 0;                                       // positions in all windows together
  };
  PoolKind kind = PoolKind::kMax;
  bool whole = false;  // windows of one size, without padding
  Axis axes[3];        // depth, rows, columns

  bool tiled() const { return axes[0].tiled && axes[1].tiled && axes[2].tiled; }
  double taps() const {  // of the largest window
    return static_cast<double>(axes[0].kernel) * static_cast<double>(axes[1].kernel * axes[2].kernel);
  }
  // Of max pooling: a position inside the window.
  DType index_type() const { return taps() > 255 ? DType::kInt32 : DType::kUInt8; }
};

std::vector<Impl> pool_implementations();  // of both directions: run.cpp

}  // namespace fastcnn::ops
