#include "core/shape.h"

#include <algorithm>
#include <limits>
#include <ostream>

#include "core/error.h"

namespace fastcnn {

std::int64_t checked_product(std::int64_t a, std::int64_t b) {
  constexpr std::int64_t kLimit = std::numeric_limits<std::int64_t>::max() / 64;
  std::int64_t r = 0;
  if (__builtin_mul_overflow(a, b, &r) || r > kLimit)
    throw ValueError(str("size overflows: ", a, " x ", b, " elements"));
  return r;
}

Shape::Shape(const std::int64_t* dims, int rank) : rank_(rank) {
  if (rank > kMaxRank) throw ValueError(str("at most ", kMaxRank, " dimensions are supported, got ", rank));
  bool empty = false;
  for (int i = 0; i < rank; ++i) {
    if (dims[i] < 0) throw ValueError(str("negative size ", dims[i], " in dimension ", i));
    dims_[i] = dims[i];
    empty |= dims[i] == 0;
    numel_ = checked_product(numel_, std::max<std::int64_t>(dims[i], 1));
  }
  if (empty) numel_ = 0;
}

bool Shape::operator==(const Shape& o) const {
  return rank_ == o.rank_ && std::equal(begin(), end(), o.begin());
}

std::string Shape::text() const {
  if (rank_ == 0) return "scalar";
  std::string s;
  for (int i = 0; i < rank_; ++i) s += (i ? "x" : "") + std::to_string(dims_[i]);
  return s;
}

std::ostream& operator<<(std::ostream& out, const Shape& s) { return out << s.text(); }

}  // namespace fastcnn
