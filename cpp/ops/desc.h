// A value as ops see it: logical shape, type, and where its elements lie. Logical shapes are (N, C, spatial
// ...) with zero to three spatial dimensions; weights (O, I, spatial ...).
#pragma once

#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"

namespace fastcnn::ops {

enum class Layout : std::uint8_t {
  kPlain,        // row-major in the logical order
  kNHWC,         // [N][spatial][C]; for rank 2 the same memory as kPlain
  kInterleaved,  // [ceil(N / block)][C][spatial][block]; lanes past N are undefined, never mixed with others
};
const char* name_of(Layout layout);

struct TensorDesc {
  Shape shape;
  DType dtype = DType::kFloat32;
  Layout layout = Layout::kPlain;
  bool batched = false;    // dimension 0 is the batch
  bool absent = false;     // an optional input that is not given
  int block = 0;           // images side by side, of kInterleaved
  std::int64_t pitch = 0;  // channels of the memory that this is a slice of; 0: it has its own
};
TensorDesc absent_desc();

// Whether the layout pass may place it: batched values of rank 2 (float32) and 3 to 5 (not int64).
bool takes_layout(const TensorDesc& d);
// `d` placed: kNHWC of rank 2 is kPlain; what takes no layout stays as it is. block: the context's width.
TensorDesc placed(TensorDesc d, Layout layout, int block);

// Sizes and steps of a value of rank 1 to 5, missing dimensions being 1: the one place that turns shapes and
// layouts into numbers. Throws ValueError for what it does not know.
struct Geometry {
  std::int64_t n = 1, c = 1;
  std::int64_t spatial[3] = {1, 1, 1};  // depth, height, width
  // Elements from one to the next, pitch included. kInterleaved: `image` leads from block to block, and an
  // image of the block is one element further.
  std::int64_t image = 0, channel = 0, plane = 0, row = 0, pixel = 0;

  std::int64_t pixels() const { return spatial[0] * spatial[1] * spatial[2]; }
  std::int64_t values() const { return c * pixels(); }  // of an image
};
Geometry geometry_of(const TensorDesc& d);

inline bool dense(const TensorDesc& d) { return d.pitch == 0 || d.pitch == d.shape[1]; }
// Of its own memory (not of what it is a slice of); kInterleaved rounds the batch up to whole blocks.
std::int64_t storage_elements(const TensorDesc& d);
std::int64_t storage_bytes(const TensorDesc& d);
// Elements from the start of the memory it is a slice of to its channel c.
std::int64_t channel_offset(const TensorDesc& d, std::int64_t c);
// Whether two layouts of this dense value are the same bytes (one channel, one pixel, rank 2, ...).
bool same_memory(const TensorDesc& d, Layout a, Layout b);

}  // namespace fastcnn::ops
