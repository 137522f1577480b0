// FASTCNN_POISON=1 fills memory that is handed out with NaN bits (integers: -1), so that what is read before
// it was written shows. For tests.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace fastcnn {

inline bool poisons() {
  static const bool on = [] {
    const char* v = std::getenv("FASTCNN_POISON");
    return v && *v && *v != '0';
  }();
  return on;
}
inline void poison(void* p, std::size_t bytes) {
  if (poisons() && bytes) std::memset(p, 0xff, bytes);
}

}  // namespace fastcnn
