#include "graph/memory.h"

#include <algorithm>
#include <numeric>

namespace fastcnn::graph {

std::int64_t assign_offsets(std::vector<Buffer>& buffers) {
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  std::int64_t total = 0;
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t i : order) {
    Buffer& b = buffers[i];
    const std::int64_t size = (b.bytes + 63) / 64 * 64;
    std::int64_t best = -1, best_gap = 0, free_from = 0;
    for (const std::size_t j : placed) {
      const Buffer& other = buffers[j];
      if (other.last < b.first || b.last < other.first) continue;
      const std::int64_t gap = other.offset - free_from;
      if (gap >= size && (best < 0 || gap < best_gap)) best = free_from, best_gap = gap;
      free_from = std::max(free_from, other.offset + (other.bytes + 63) / 64 * 64);
    }
    b.offset = best >= 0 ? best : free_from;
    total = std::max(total, b.offset + size);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), i,
                         [&](std::size_t x, std::size_t y) { return buffers[x].offset < buffers[y].offset; }),
        i);
  }
  return total;
}

}  // namespace fastcnn::graph
