// Small pieces that most ops are written with.
#pragma once

#include <cstdint>
#include <memory>

#include "ops/op.h"

namespace fastcnn::ops {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

inline const float* floats(const void* p) { return static_cast<const float*>(p); }
inline float* floats(void* p) { return static_cast<float*>(p); }

template <class T>
std::unique_ptr<Prepared> prepare(const Problem& p) {
  return std::make_unique<T>(p);
}

// The result is the operand, seen with another shape or layout.
class SameBytes : public Prepared {
 public:
  explicit SameBytes(const Problem&) {}
  void run(const RunArgs&) const override {}
  bool is_view() const override { return true; }
};

}  // namespace fastcnn::ops
