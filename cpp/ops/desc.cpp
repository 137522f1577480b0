#include "ops/desc.h"

namespace fastcnn::ops {

const char* name_of(Layout layout) {
  static const char* const kNames[] = {"nchw", "nhwc", "interleaved"};
  return kNames[static_cast<int>(layout)];
}

TensorDesc absent_desc() {
  TensorDesc d;
  d.absent = true;
  return d;
}

bool takes_layout(const TensorDesc& d) {
  const int rank = d.shape.rank();
  if (d.absent || !d.batched || rank < 2 || rank > 5) return false;
  return rank == 2 ? d.dtype == DType::kFloat32 : d.dtype != DType::kInt64 && d.dtype != DType::kFloat64;
}

TensorDesc placed(TensorDesc d, Layout layout, int block) {
  if (!takes_layout(d)) return d;
  d.layout = layout == Layout::kNHWC && d.shape.rank() == 2 ? Layout::kPlain : layout;
  d.block = layout == Layout::kInterleaved ? block : 0;
  return d;
}

Geometry geometry_of(const TensorDesc& d) {
  const int rank = d.shape.rank();
  if (d.absent || rank < 1 || rank > 5)
    throw ValueError(str("expected a value of 1 to 5 dimensions (N, C, spatial), got ", d.shape));
  Geometry g;
  g.n = d.shape[0];
  if (rank > 1) g.c = d.shape[1];
  for (int i = 2; i < rank; ++i) g.spatial[i - 2 + 5 - rank] = d.shape[i];
  const std::int64_t pitch = d.pitch > 0 ? d.pitch : g.c, pixels = g.pixels();
  switch (d.layout) {
    case Layout::kNHWC:
      g.channel = 1, g.pixel = pitch;
      break;
    case Layout::kInterleaved:
      g.pixel = d.block, g.channel = pixels * d.block;
      break;
    case Layout::kPlain:
      g.pixel = 1, g.channel = pixels;
      break;
  }
  g.row = g.spatial[2] * g.pixel;
  g.plane = g.spatial[1] * g.row;
  g.image = pitch * pixels * (d.layout == Layout::kInterleaved ? d.block : 1);
  return g;
}

std::int64_t storage_elements(const TensorDesc& d) {
  if (d.layout != Layout::kInterleaved || d.shape.rank() == 0) return d.shape.numel();
  const std::int64_t n = d.shape[0];
  if (n == 0) return 0;
  return checked_product(d.shape.numel() / n, (n + d.block - 1) / d.block * d.block);
}

std::int64_t storage_bytes(const TensorDesc& d) {
  return checked_product(storage_elements(d), size_of(d.dtype));
}

std::int64_t channel_offset(const TensorDesc& d, std::int64_t c) { return c * geometry_of(d).channel; }

bool same_memory(const TensorDesc& d, Layout a, Layout b) {
  if (a == b) return true;
  if (a == Layout::kInterleaved || b == Layout::kInterleaved) return false;
  if (d.shape.rank() <= 2) return true;
  const Geometry g = geometry_of(d);
  return g.pixels() == 1 || (g.c == 1 && dense(d));
}

}  // namespace fastcnn::ops
