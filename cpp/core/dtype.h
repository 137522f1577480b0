// Element types: float32 for numbers, integers for labels, indices and masks, float64 for sums that others go
// on with.
#pragma once

#include <cstdint>

namespace fastcnn {

enum class DType : std::uint8_t { kFloat32, kInt64, kInt32, kUInt8, kFloat64 };

constexpr std::int64_t size_of(DType t) {
  return t == DType::kInt64 || t == DType::kFloat64 ? 8 : t == DType::kUInt8 ? 1 : 4;
}

constexpr const char* name_of(DType t) {
  constexpr const char* kNames[] = {"float32", "int64", "int32", "uint8", "float64"};
  return kNames[static_cast<int>(t)];
}

}  // namespace fastcnn
