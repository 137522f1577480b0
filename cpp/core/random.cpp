#include "core/random.h"

#include <algorithm>
#include <cmath>

namespace fastcnn {
namespace {

constexpr float kTo01 = 1.0f / 16777216.0f;  // 2^-24: 24 random bits give every float of [0, 1) exactly

}  // namespace

std::array<std::uint32_t, 4> Philox::block(std::uint64_t counter) const {
  std::uint32_t c[4] = {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
                        static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)};
  std::uint32_t k0 = static_cast<std::uint32_t>(seed_), k1 = static_cast<std::uint32_t>(seed_ >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0], b = std::uint64_t{0xCD9E8D57u} * c[2];
    const std::uint32_t n0 = static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k1;
    c[0] = n0, c[1] = static_cast<std::uint32_t>(b), c[2] = n2, c[3] = static_cast<std::uint32_t>(a);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {c[0], c[1], c[2], c[3]};
}

void Philox::uniform(float* out, std::int64_t n, float low, float high) const {
  for (std::int64_t i = 0; i < n; i += 4) {
    const auto r = block(static_cast<std::uint64_t>(i / 4));
    for (std::int64_t j = 0; j < std::min<std::int64_t>(4, n - i); ++j)
      out[i + j] = low + (high - low) * (static_cast<float>(r[static_cast<std::size_t>(j)] >> 8) * kTo01);
  }
}

void Philox::normal(float* out, std::int64_t n, float mean, float stddev) const {
  constexpr double kTwoPi = 6.283185307179586;
  for (std::int64_t i = 0; i < n; i += 4) {
    const auto r = block(static_cast<std::uint64_t>(i / 4));
    double z[4];
    for (int j = 0; j < 4; j += 2) {
      const double u = (r[static_cast<std::size_t>(j)] + 1.0) * 0x1p-32;  // (0, 1]: the logarithm is finite
      const double v = r[static_cast<std::size_t>(j) + 1] * 0x1p-32;
      const double radius = std::sqrt(-2.0 * std::log(u));
      z[j] = radius * std::cos(kTwoPi * v), z[j + 1] = radius * std::sin(kTwoPi * v);
    }
    for (std::int64_t j = 0; j < std::min<std::int64_t>(4, n - i); ++j)
      out[i + j] = static_cast<float>(mean + stddev * z[j]);
  }
}

}  // namespace fastcnn
