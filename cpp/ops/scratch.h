// A book of an implementation's scratch: ranges are entered once, when it is prepared, and found by the
// entry when it runs, so that sizes and addresses cannot disagree.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastcnn::ops {

constexpr std::size_t align64(std::size_t n) { return (n + 63) / 64 * 64; }

template <class T>
struct Range {
  std::size_t at = 0;  // bytes from the start
  T* in(std::byte* base) const { return reinterpret_cast<T*>(base + at); }
};

class Book {
 public:
  // `count` elements, on cache lines of their own.
  template <class T = float>
  Range<T> add(std::int64_t count) {
    const Range<T> r{bytes_};
    bytes_ += align64(static_cast<std::size_t>(count) * sizeof(T));
    return r;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

}  // namespace fastcnn::ops
