// Memory: offsets for buffers whose lifetimes are known, so that those alive together do not overlap.
#pragma once

#include <cstdint>
#include <vector>

namespace fastcnn::graph {

struct Buffer {
  std::int64_t bytes = 0;
  int first = 0, last = 0;   // launches (or steps) between which it lives, both included
  std::int64_t offset = -1;  // the answer
};

// Largest first, each at the lowest offset that is free throughout its life. Returns the total size.
std::int64_t assign_offsets(std::vector<Buffer>& buffers);

}  // namespace fastcnn::graph
