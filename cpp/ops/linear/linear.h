// What the implementations of linear, linear_backward_data and linear_backward_weights share.
#pragma once

#include <algorithm>

#include "kernels/linear.h"
#include "kernels/pointwise.h"
#include "ops/op.h"

namespace fastcnn::ops {

struct LinearParams : Facts {
  LinearParams(std::int64_t images, std::int64_t inputs, std::int64_t outputs)
      : n(images), in(inputs), out(outputs) {}
  std::int64_t n, in, out;  // x [n, in], w [out, in], y [n, out]
};

// Elements from one image's row to the next, or (kInterleaved) from block to block.
inline std::int64_t step_of(const TensorDesc& d) { return geometry_of(d).image; }

// A product whose sums are `total` long, by runs of `most`: set(first) points its operands at a run.
template <class Product, class F>
void in_runs(void (*kernel)(const Product&), Product& product, std::int64_t total, std::int64_t most,
             F&& set) {
  std::int64_t first = 0;
  do {
    product.k = std::min(most, total - first);
    product.accumulate = first > 0;
    set(first);
    kernel(product);
    first += most;
  } while (first < total);
}

// interleaved.cpp: batch-interleaved values.
extern const Impl kLinearForwardBlocks, kLinearDataBlocks, kLinearWeightsBlocks;
// plain.cpp: rows of images.
extern const Impl kLinearForwardRows, kLinearForwardPanels, kLinearDataRows, kLinearWeightsRows;

}  // namespace fastcnn::ops
