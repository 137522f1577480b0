// Pooling over channels-last images. A batch-interleaved block is pooled by the same kernels: its
// [c][h][w][lanes] is c images of kWidth channels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/activation_kind.h"

namespace fastcnn {

// One output row's (or column's) window on the input.
struct PoolWindow {
  std::int32_t begin, end;  // the part inside the input
  std::int32_t origin;      // where the whole window starts; negative in the padding
  std::int32_t count;       // what it adds to the average's divisor: divisor = rows' count * columns' count
};

// The output rows (or columns) whose windows hold an input row: [begin, end).
struct PoolCover {
  std::int32_t begin, end;
};

struct PoolParams {
  std::int64_t c, ih, iw, oh, ow;
  std::int32_t kh, kw;         // of max pooling
  bool wide_index;             // int32 indices instead of uint8
  bool tiled;                  // windows lie side by side: none overlap, every input pixel is in at most one
  const PoolWindow* rows;      // [oh]
  const PoolWindow* cols;      // [ow]
  const PoolCover* row_cover;  // [ih]
  const PoolCover* col_cover;  // [iw]
};

struct PoolKernels {
  // One image, output rows [oh0, oh1). index: position inside the window, the first largest (the last NaN);
  // may be null. Pointers are the image's first bytes.
  void (*max_rows)(const PoolParams& p, const float* x, float* y, void* index, std::int64_t oh0,
                   std::int64_t oh1);
  void (*average_rows)(const PoolParams& p, const float* x, float* y, std::int64_t oh0, std::int64_t oh1);
  // One image, input rows [ih0, ih1): each pixel gathers from the windows that hold it, in their order. dx is
  // multiplied by act'(y), y lying as dx does; windows side by side only, unless act is none.
  void (*max_grad_rows)(const PoolParams& p, const float* dy, const void* index, Act act, const float* y,
                        float* dx, std::int64_t ih0, std::int64_t ih1);
  void (*average_grad_rows)(const PoolParams& p, const float* dy, Act act, const float* y, float* dx,
                            std::int64_t ih0, std::int64_t ih1);
};

}  // namespace fastcnn
