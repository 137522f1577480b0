// Transposes between layouts, in kWidth x kWidth tiles, and strided copies.
#include "kernels/layout.h"

#include "kernels/generic/lanes.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

FASTCNN_INLINE Vec floats_of(const float* p, int n) { return load_first(p, n); }
FASTCNN_INLINE Vec floats_of(const std::uint8_t* p, int n) { return to_float(load_first(p, n)); }

// to[j][i] = src[i * ls + j] for i < rows, j < cols; the rest of to[kWidth][kWidth] becomes 0.
template <class T>
FASTCNN_INLINE void turn(const T* src, std::int64_t ls, int rows, int cols, float* to) {
  if (sizeof(T) == sizeof(float) && rows == kWidth && cols == kWidth)
    return transpose((const float*)src, ls, to, kWidth);
  alignas(64) float square[kWidth * kWidth];
  for (int i = 0; i < rows; ++i) store(square + i * kWidth, floats_of(src + i * ls, cols));
  for (int i = rows; i < kWidth; ++i) store(square + i * kWidth, zero());
  transpose(square, kWidth, to, kWidth);
}

// Any tile of at most kWidth x kWidth: through a square in L1 when it is not full floats.
template <class T>
FASTCNN_INLINE void tile(const T* src, std::int64_t ls, int rows, int cols, float* dst, std::int64_t ld) {
  if (sizeof(T) == sizeof(float) && rows == kWidth && cols == kWidth)
    return transpose((const float*)src, ls, dst, ld);
  alignas(64) float turned[kWidth * kWidth];
  turn(src, ls, rows, cols, turned);
  for (int j = 0; j < cols; ++j) store_first(dst + j * ld, load(turned + j * kWidth), rows);
}

template <class T>
void transpose_any(const T* src, std::int64_t ls, std::int64_t rows, std::int64_t cols, float* dst,
                   std::int64_t ld) {
  for (std::int64_t i = 0; i < rows; i += kWidth)
    for (std::int64_t j = 0; j < cols; j += kWidth)
      tile(src + i * ls + j, ls, lanes_of(rows - i), lanes_of(cols - j), dst + j * ld + i, ld);
}

// Walks an image's values in memory order and says where each lies in the block.
struct Place {
  std::int64_t c, pixels;
  bool moved;  // pixel by pixel in the image
  std::int64_t at = 0, channel = 0;

  FASTCNN_INLINE std::int64_t next() {
    const std::int64_t here = at;
    if (!moved) {
      at += kWidth;
    } else if (++channel < c) {
      at += pixels * kWidth;
    } else {
      at -= ((c - 1) * pixels - 1) * kWidth;
      channel = 0;
    }
    return here;
  }
};

// f(offset in an image, count, their places in the block, whether they are kWidth vectors in a row there) for
// all values of an image, at most kWidth at a time.
template <class F>
FASTCNN_INLINE void each_piece(const BlockImages& b, F&& f) {
  Place place{b.c, b.pixels, b.channels_last && b.c > 1 && b.pixels > 1};
  // Consecutive values: a slice has its pixels apart.
  const std::int64_t runs = b.channels_last && b.pixel != b.c ? b.pixels : 1, n = b.c * b.pixels / runs;
  for (std::int64_t r = 0; r < runs; ++r)
    for (std::int64_t j = 0; j < n; j += kWidth) {
      const int count = lanes_of(n - j);
      const bool whole = !place.moved && count == kWidth;
      f(r * b.pixel + j, count, place, whole);
      if (whole) place.at += kWidth * kWidth;
    }
}

template <class T>
void interleave_any(const BlockImages& b, const T* src, float* block) {
  alignas(64) float turned[kWidth * kWidth];
  each_piece(b, [&](std::int64_t from, int count, Place& place, bool whole) {
    turn(src + from, b.image, (int)b.images, count, whole ? block + place.at : turned);
    for (int k = 0; !whole && k < count; ++k) store(block + place.next(), load(turned + k * kWidth));
  });
}

void deinterleave(const BlockImages& b, const float* block, float* dst) {
  alignas(64) float square[kWidth * kWidth], turned[kWidth * kWidth];
  each_piece(b, [&](std::int64_t to, int count, Place& place, bool whole) {
    const float* const from = whole ? block + place.at : square;
    for (int k = 0; !whole && k < count; ++k) store(square + k * kWidth, load(block + place.next()));
    for (int k = count; k < kWidth; ++k) store(square + k * kWidth, zero());
    if (b.images == kWidth && count == kWidth) return transpose(from, kWidth, dst + to, b.image);
    transpose(from, kWidth, turned, kWidth);
    for (int i = 0; i < b.images; ++i) store_first(dst + to + i * b.image, load(turned + i * kWidth), count);
  });
}

void u8_to_float(const std::uint8_t* src, float* dst, std::int64_t n) {
  for_lanes(n, [&](std::int64_t i, auto lanes) { store_first(dst + i, floats_of(src + i, lanes), lanes); });
}

void copy_rows(const float* src, std::int64_t ls, float* dst, std::int64_t ld, std::int64_t rows,
               std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r, src += ls, dst += ld)
    for_lanes(n, [=](std::int64_t i, auto lanes) __attribute__((always_inline)) {
      store_first(dst + i, load_first(src + i, lanes), lanes);
    });
}

void zero_rows(float* dst, std::int64_t ld, std::int64_t rows, std::int64_t n) {
  for (std::int64_t r = 0; r < rows; ++r, dst += ld)
    for_lanes(n, [=](std::int64_t i, auto lanes)
                     __attribute__((always_inline)) { store_first(dst + i, zero(), lanes); });
}

}  // namespace

extern const LayoutKernels kLayout = {transpose_any<float>,
                                      transpose_any<std::uint8_t>,
                                      interleave_any<float>,
                                      interleave_any<std::uint8_t>,
                                      deinterleave,
                                      u8_to_float,
                                      copy_rows,
                                      zero_rows};

}  // namespace fastcnn::FASTCNN_ISA
