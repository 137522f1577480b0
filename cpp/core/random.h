// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): element i of stream s is a function of
// (seed, s, i), so the numbers do not depend on threads, order or batch size.
#pragma once

#include <array>
#include <cstdint>

namespace fastcnn {

class Philox {
 public:
  Philox(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}
  std::array<std::uint32_t, 4> block(std::uint64_t counter) const;

  // n numbers of this stream, starting with its first.
  void uniform(float* out, std::int64_t n, float low, float high) const;    // [low, high)
  void normal(float* out, std::int64_t n, float mean, float stddev) const;  // Box-Muller

 private:
  std::uint64_t seed_, stream_;
};

}  // namespace fastcnn
