// Transposes between layouts, in kWidth x kWidth tiles, and strided copies.
#include "kernels/layout.h"

#include "kernels/simd/simd.h"

namespace fastcnn {
namespace FASTCNN_ISA {
namespace {

FASTCNN_INLINE Vec load_some(const float* p, int n) { return n == kWidth ? load(p) : load_n(p, n); }
FASTCNN_INLINE Vec load_some(const std::uint8_t* p, int n) {
  if (n == kWidth) return to_float(load_u8(p));
  std::uint8_t t[kWidth] = {};
  for (int i = 0; i < n; ++i) t[i] = p[i];
  return to_float(load_u8(t));
}
FASTCNN_INLINE void store_some(float* p, Vec v, int n) {
  if (n == kWidth)
    store(p, v);
  else
    store_n(p, v, n);
}
FASTCNN_INLINE int at_most_width(std::int64_t n) { return n < kWidth ? (int)n : kWidth; }

// Any tile of at most kWidth x kWidth: through a square in L1 when it is not full floats.
template <class T>
FASTCNN_INLINE void tile(const T* src, std::int64_t ls, int rows, int cols, float* dst, std::int64_t ld) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (rows == kWidth && cols == kWidth) return transpose(src, ls, dst, ld);
  }
  alignas(64) float square[kWidth * kWidth], turned[kWidth * kWidth];
  for (int i = 0; i < rows; ++i) store(square + i * kWidth, load_some(src + i * ls, cols));
  for (int i = rows; i < kWidth; ++i) store(square + i * kWidth, zero());
  transpose(square, kWidth, turned, kWidth);
  for (int j = 0; j < cols; ++j) store_some(dst + j * ld, load(turned + j * kWidth), rows);
}

template <class T>
void transpose_any(const T* src, std::int64_t ls, std::int64_t rows, std::int64_t cols, float* dst,
                   std::int64_t ld) {
  for (std::int64_t i = 0; i < rows; i += kWidth)
    for (std::int64_t j = 0; j < cols; j += kWidth)
      tile(src + i * ls + j, ls, at_most_width(rows - i), at_most_width(cols - j), dst + j * ld + i, ld);
}

// Walks an image's values in memory order and says where each lies among the block's vectors.
struct Place {
  std::int64_t c, hw;
  bool channels_last;
  std::int64_t at = 0, channel = 0;

  FASTCNN_INLINE std::int64_t next() {
    const std::int64_t here = at;
    if (!channels_last) {
      ++at;
    } else if (++channel < c) {
      at += hw;
    } else {
      at -= (c - 1) * hw - 1;
      channel = 0;
    }
    return here;
  }
};

template <class T>
void interleave_any(const T* src, std::int64_t images, std::int64_t c, std::int64_t hw, bool channels_last,
                    float* block) {
  const std::int64_t n = c * hw;
  const bool moved = channels_last && c > 1 && hw > 1;
  alignas(64) float square[kWidth * kWidth], turned[kWidth * kWidth];
  Place place{c, hw, moved};
  for (std::int64_t j = 0; j < n; j += kWidth) {
    const int cols = at_most_width(n - j);
    float* const to = moved || cols < kWidth ? turned : block + j * kWidth;
    if (sizeof(T) == sizeof(float) && images == kWidth && cols == kWidth) {
      transpose((const float*)src + j, n, to, kWidth);
    } else {
      for (int i = 0; i < images; ++i) store(square + i * kWidth, load_some(src + i * n + j, cols));
      for (int i = (int)images; i < kWidth; ++i) store(square + i * kWidth, zero());
      transpose(square, kWidth, to, kWidth);
    }
    if (to == turned) {
      if (!moved) place.at = j;
      for (int k = 0; k < cols; ++k) store(block + place.next() * kWidth, load(turned + k * kWidth));
    }
  }
}

void deinterleave(const float* block, std::int64_t images, std::int64_t c, std::int64_t hw,
                  bool channels_last, float* dst) {
  const std::int64_t n = c * hw;
  const bool moved = channels_last && c > 1 && hw > 1;
  alignas(64) float square[kWidth * kWidth], turned[kWidth * kWidth];
  Place place{c, hw, moved};
  for (std::int64_t j = 0; j < n; j += kWidth) {
    const int cols = at_most_width(n - j);
    const float* from = block + j * kWidth;
    if (moved || cols < kWidth) {
      if (!moved) place.at = j;
      for (int k = 0; k < cols; ++k) store(square + k * kWidth, load(block + place.next() * kWidth));
      for (int k = cols; k < kWidth; ++k) store(square + k * kWidth, zero());
      from = square;
    }
    if (images == kWidth && cols == kWidth) {
      transpose(from, kWidth, dst + j, n);
    } else {
      transpose(from, kWidth, turned, kWidth);
      for (int i = 0; i < images; ++i) store_some(dst + i * n + j, load(turned + i * kWidth), cols);
    }
  }
}

void u8_to_float(const std::uint8_t* src, float* dst, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += kWidth) {
    const int m = at_most_width(n - i);
    store_some(dst + i, load_some(src + i, m), m);
  }
}

void copy_rows(const float* src, std::int64_t ls, float* dst, std::int64_t ld, std::int64_t rows,
               std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r, src += ls, dst += ld) {
    std::int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store(dst + i, load(src + i));
    if (i < n) store_n(dst + i, load_n(src + i, (int)(n - i)), (int)(n - i));
  }
}

void zero_rows(float* dst, std::int64_t ld, std::int64_t rows, std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r, dst += ld) {
    std::int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store(dst + i, zero());
    if (i < n) store_n(dst + i, zero(), (int)(n - i));
  }
}

}  // namespace

extern const LayoutKernels kLayout;
const LayoutKernels kLayout = {transpose_any<float>,
                               transpose_any<std::uint8_t>,
                               interleave_any<float>,
                               interleave_any<std::uint8_t>,
                               deinterleave,
                               u8_to_float,
                               copy_rows,
                               zero_rows};

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
