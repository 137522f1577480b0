// Shapes of up to eight dimensions, checked once when made: no negative size, no overflowing product.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <string>
#include <vector>

namespace fastcnn {

constexpr int kMaxRank = 8;

// a * b, or ValueError when the product does not fit (the limit leaves room for a byte count).
std::int64_t checked_product(std::int64_t a, std::int64_t b);

class Shape {
 public:
  Shape() = default;  // rank 0, one element
  Shape(std::initializer_list<std::int64_t> dims) : Shape(dims.begin(), static_cast<int>(dims.size())) {}
  explicit Shape(const std::vector<std::int64_t>& dims) : Shape(dims.data(), static_cast<int>(dims.size())) {}
  Shape(const std::int64_t* dims, int rank);

  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return dims_[i < 0 ? i + rank_ : i]; }
  std::int64_t numel() const { return numel_; }
  const std::int64_t* begin() const { return dims_; }
  const std::int64_t* end() const { return dims_ + rank_; }
  std::vector<std::int64_t> vec() const { return {begin(), end()}; }
  bool operator==(const Shape& o) const;
  bool operator!=(const Shape& o) const { return !(*this == o); }
  std::string text() const;  // "8x32x28x28"

 private:
  int rank_ = 0;
  std::int64_t numel_ = 1;
  std::int64_t dims_[kMaxRank] = {};
};

std::ostream& operator<<(std::ostream& out, const Shape& s);

}  // namespace fastcnn
