// How work is cut: one policy for all ops. It is part of the numbers wherever partial sums are added, so it
// knows the problem and never the machine's number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fastcnn::ops {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

constexpr std::int64_t kItems = 64;                             // enough for 64 cores
constexpr std::int64_t kFlatItem = 16384;                       // elements of a flat loop: 64 KB of float32
constexpr std::int64_t kPartialBytes = std::int64_t{32} << 20;  // of all partial sums of a step
constexpr double kItemFlops = 8e6;                              // about 100 us of one core: worth handing out
constexpr std::int64_t kFewestItems = 8;                        // even of less work

// Items that arithmetic of so many flops is cut into, at most `most`.
inline std::int64_t items_for(double flops, std::int64_t most = kItems) {
  return std::clamp(static_cast<std::int64_t>(flops / kItemFlops), kFewestItems, most);
}

// Groups that `units` are summed in: at most kItems, each worth `least` of the `work`, their partial sums of
// `bytes` each within kPartialBytes.
inline std::int64_t groups_of(std::int64_t units, double work, double least, std::int64_t bytes) {
  const auto worth = static_cast<std::int64_t>(work / least);
  const std::int64_t fit = kPartialBytes / std::max<std::int64_t>(bytes, 1);
  return std::max<std::int64_t>(1, std::min({units, kItems, worth, fit}));
}

// Part i of n in `parts`: [begin, end) of nearly equal size.
struct Part {
  std::int64_t begin, end;
  std::int64_t size() const { return end - begin; }
};
inline Part part_of(std::int64_t n, std::int64_t parts, std::int64_t i) {
  return {n * i / parts, n * (i + 1) / parts};
}

// The sum of so many numbers, `step` apart: in order and in double.
inline float sum_of(const float* first, std::int64_t count, std::int64_t step) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += first[i * step];
  return static_cast<float>(sum);
}

}  // namespace fastcnn::ops
