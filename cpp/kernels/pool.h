// Pooling over channels-last images. A batch-interleaved block is pooled by the same kernels: its
// [c][d][h][w][lanes] is c images of kWidth channels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/functions.h"

namespace fastcnn {

// A window along one axis.
struct PoolWindow {
  std::int32_t begin, end;  // the part inside the input
  std::int32_t origin;      // where the whole window starts; negative in the padding
  std::int32_t count;       // what it adds to the average's divisor, the product over the axes
};

// The output positions whose windows hold an input position: [begin, end).
struct PoolCover {
  std::int32_t begin, end;
};

struct PoolAxis {
  std::int64_t in, out;
  std::int32_t kernel;        // the whole window
  const PoolWindow* windows;  // [out]
  const PoolCover* cover;     // [in]
};

struct PoolSteps {  // floats from one to the next; rows and planes follow without gaps
  std::int64_t plane, row, pixel;
};

struct PoolParams {
  std::int64_t c;
  PoolAxis depth, rows, cols;
  PoolSteps x, y;   // of input and output, or of their gradients; the index is dense
  bool wide_index;  // int32 indices instead of uint8
  bool tiled;       // windows lie side by side: none overlap, every input pixel is in at most one
};

// Pointers are the image's first bytes. Rows are counted through the planes: row r is row r % rows of plane
// r / rows.
struct PoolKernels {
  // One image, output rows [r0, r1). index: position inside the window, the first largest (the last NaN); may
  // be null.
  void (*max_rows)(const PoolParams& p, const float* x, float* y, void* index, std::int64_t r0,
                   std::int64_t r1);
  void (*average_rows)(const PoolParams& p, const float* x, float* y, std::int64_t r0, std::int64_t r1);
  // Of max_rows, or without an index of average_rows: one image, input rows [r0, r1), each pixel gathers from
  // the windows that hold it, in their order. dx is then multiplied by f', computed from v, which lies as dx
  // does; for windows side by side only.
  void (*grad_rows)(const PoolParams& p, const float* dy, const void* index, const Function& f,
                    const float* v, float* dx, std::int64_t r0, std::int64_t r1);
};

}  // namespace fastcnn
