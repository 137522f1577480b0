// Fully connected layers: what surrounds the products. Reordering, bias gradients, activations.
#include "kernels/generic/linear/parts.h"
#include "kernels/generic/math.h"

namespace fastcnn {
namespace FASTCNN_ISA {

void linear_pack_panel(const float* w, std::int64_t out, std::int64_t in, float* packed) {
  const std::int64_t whole_in = in / kWidth * kWidth;
  for (std::int64_t o = 0; o < kPanel; o += kWidth) {
    float* const d = packed + o;
    if (o + kWidth <= out) {
      for (std::int64_t i = 0; i < whole_in; i += kWidth)
        transpose(w + o * in + i, in, d + i * kPanel, kPanel);
      for (std::int64_t i = whole_in; i < in; ++i)
        for (int j = 0; j < kWidth; ++j) d[i * kPanel + j] = w[(o + j) * in + i];
    } else {
      for (std::int64_t i = 0; i < in; ++i)
        for (int j = 0; j < kWidth; ++j) d[i * kPanel + j] = o + j < out ? w[(o + j) * in + i] : 0.0f;
    }
  }
}

void linear_activate(float* y, std::int64_t n, Act act) {
  if (act == Act::kNone) return;
  with_act(act, [&](auto tag) {
    constexpr Act kAct = decltype(tag)::value;
    std::int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store(y + i, activate<kAct>(load(y + i)));
    if (const int left = static_cast<int>(n - i)) store_n(y + i, activate<kAct>(load_n(y + i, left)), left);
  });
}

void block_to_rows(const float* x, std::int64_t features, std::int64_t first, std::int64_t columns,
                   int images, float* rows) {
  for (std::int64_t j = 0; j < columns; j += kWidth) {
    const float* const s = x + (first + j) * kWidth;
    const std::int64_t there = features - first - j;
    if (there >= kWidth && images == kWidth) {
      transpose(s, kWidth, rows + j, columns);
      continue;
    }
    float t[kWidth * kWidth] = {};
    if (there >= kWidth) {
      transpose(s, kWidth, t, kWidth);
    } else {
      for (std::int64_t f = 0; f < there; ++f)
        for (int l = 0; l < kWidth; ++l) t[l * kWidth + f] = s[f * kWidth + l];
    }
    for (int l = 0; l < images; ++l) store(rows + l * columns + j, load(t + l * kWidth));
  }
}

void linear_sum_rows(const float* y, std::ptrdiff_t stride, std::int64_t images, std::int64_t features,
                     float* sums) {
  std::int64_t f = 0;
  for (; f + kWidth <= features; f += kWidth) {
    Vec s = zero();
    for (std::int64_t i = 0; i < images; ++i) s += load(y + i * stride + f);
    store(sums + f, s);
  }
  if (const int left = static_cast<int>(features - f)) {
    Vec s = zero();
    for (std::int64_t i = 0; i < images; ++i) s += load_n(y + i * stride + f, left);
    store_n(sums + f, s, left);
  }
}

void linear_sum_blocks(const float* y, std::int64_t images, std::int64_t features, float* sums) {
  const std::int64_t whole = images / kWidth;
  const int left = static_cast<int>(images - whole * kWidth);
  for (std::int64_t f = 0; f < features; ++f) {
    Vec s = zero();
    for (std::int64_t b = 0; b < whole; ++b) s += load(y + (b * features + f) * kWidth);
    if (left) s += load_n(y + (whole * features + f) * kWidth, left);  // the other lanes hold no image
    sums[f] = reduce_add(s);
  }
}

}  // namespace FASTCNN_ISA
}  // namespace fastcnn
