// Softmax and cross-entropy. Logits are shifted by their largest before exp; a NaN or infinite logit reaches
// the loss. Rows: vectors run over the classes of one sample. Blocks: vectors run over the samples of one
// class.
#include "kernels/loss.h"

#include "kernels/generic/lanes.h"
#include "kernels/generic/math.h"

namespace fastcnn::FASTCNN_ISA {
namespace {

IVec lane_index() {
  IVec v{};
  for (int i = 0; i < kWidth; ++i) v[i] = i;
  return v;
}

// v in the first n lanes, `other` past them.
template <class N>
FASTCNN_INLINE Vec filled(Vec v, N n, IVec lane, Vec other) {
  return n == kWidth ? v : select(lane < (int)n, v, other);
}

float row_max(const float* x, std::int64_t classes, IVec lane) {
  const Vec lowest = broadcast(-__builtin_inff());
  Vec m = lowest;
  for_lanes(classes,
            [&](std::int64_t c, auto n) { m = vmax(m, filled(load_first(x + c, n), n, lane, lowest)); });
  return reduce_max(m);
}

// exp(x - m) to e (if not null); returns the sum.
float row_exp(const float* x, std::int64_t classes, float m, float* e, IVec lane) {
  Vec sum = zero();
  const Vec shift = broadcast(m);
  for_lanes(classes, [&](std::int64_t c, auto n) {
    const Vec t = vexp(load_first(x + c, n) - shift);
    sum += filled(t, n, lane, zero());
    if (e) store_first(e + c, t, n);
  });
  return reduce_add(sum);
}

float log_of(float x) { return vlog(broadcast(x))[0]; }

void scale_row(float* y, std::int64_t n, float factor) {
  const Vec f = broadcast(factor);
  for_lanes(n, [&](std::int64_t i, auto k) { store_first(y + i, load_first(y + i, k) * f, k); });
}

// A sum over many classes in two levels: one running sum would lose a digit by a thousand terms.
struct LongSum {
  Vec part = {}, whole = {};
  FASTCNN_INLINE void add(Vec v, std::int64_t c) {
    part += v;
    if ((c & 31) == 31) whole += part, part = zero();
  }
  FASTCNN_INLINE Vec total() const { return whole + part; }
};

// Largest logit of each sample of a block, and the first class that has it.
FASTCNN_INLINE Vec block_max(const float* x, std::int64_t classes, IVec* first) {
  Vec m = load(x);
  IVec best = {};
  for (std::int64_t c = 1; c < classes; ++c) {
    const Vec v = load(x + c * kWidth);
    best = select(v > m, IVec{} + (std::int32_t)c, best);
    m = vmax(m, v);
  }
  *first = best;
  return m;
}

// exp(x - m) of a block to e (if not null); returns each sample's sum.
FASTCNN_INLINE Vec block_exp(const float* x, std::int64_t classes, Vec m, float* e) {
  LongSum sum;
  for (std::int64_t c = 0; c < classes; ++c) {
    const Vec t = vexp(load(x + c * kWidth) - m);
    sum.add(t, c);
    if (e) store(e + c * kWidth, t);
  }
  return sum.total();
}

void softmax_rows(const float* x, float* y, std::int64_t rows, std::int64_t classes) {
  const IVec lane = lane_index();
  for (std::int64_t r = 0; r < rows; ++r, x += classes, y += classes) {
    const float sum = row_exp(x, classes, row_max(x, classes, lane), y, lane);
    scale_row(y, classes, 1.0f / sum);
  }
}

void softmax_block(const float* x, float* y, std::int64_t classes) {
  IVec first;
  const Vec m = block_max(x, classes, &first), factor = 1.0f / block_exp(x, classes, m, y);
  for (std::int64_t c = 0; c < classes; ++c) store(y + c * kWidth, load(y + c * kWidth) * factor);
}

// dx = y (dy - sum(dy y))
void softmax_grad_rows(const float* dy, const float* y, float* dx, std::int64_t rows, std::int64_t classes) {
  for (std::int64_t r = 0; r < rows; ++r, dy += classes, y += classes, dx += classes) {
    Vec dot = zero();
    for_lanes(classes,
              [&](std::int64_t c, auto n) { dot = fma(load_first(dy + c, n), load_first(y + c, n), dot); });
    const Vec mean = broadcast(reduce_add(dot));
    for_lanes(classes, [&](std::int64_t c, auto n) {
      store_first(dx + c, load_first(y + c, n) * (load_first(dy + c, n) - mean), n);
    });
  }
}

void softmax_grad_block(const float* dy, const float* y, float* dx, std::int64_t classes) {
  LongSum sum;
  for (std::int64_t c = 0; c < classes; ++c) sum.add(load(dy + c * kWidth) * load(y + c * kWidth), c);
  const Vec dot = sum.total();
  for (std::int64_t c = 0; c < classes; ++c)
    store(dx + c * kWidth, load(y + c * kWidth) * (load(dy + c * kWidth) - dot));
}

void cross_entropy_rows(const CrossEntropyArgs& a, LossSum& to) {
  const IVec lane = lane_index();
  for (std::int64_t s = 0; s < a.samples; ++s) {
    const float* const x = a.logits + s * a.classes;
    float* const d = a.dlogits ? a.dlogits + s * a.classes : nullptr;
    const float m = row_max(x, a.classes, lane), sum = row_exp(x, a.classes, m, d, lane);
    const std::int64_t label = a.labels[s];
    const bool known = label >= 0 && label < a.classes;
    const float at_label = known ? x[label] : __builtin_nanf("");
    to.loss += (double)log_of(sum) + ((double)m - (double)at_label);
    bool hit = known && at_label == m;
    for (std::int64_t c = 0; hit && c < label; ++c) hit = x[c] != m;
    to.correct += hit;
    if (!d) continue;
    scale_row(d, a.classes, 1.0f / sum);
    if (known) d[label] -= 1.0f;
    if (a.scale != 1.0f) scale_row(d, a.classes, a.scale);
  }
}

void cross_entropy_block(const CrossEntropyArgs& a, LossSum& to) {
  std::int32_t label_of[kWidth];
  for (int i = 0; i < kWidth; ++i) {
    const bool known = i < a.samples && a.labels[i] >= 0 && a.labels[i] < a.classes;
    label_of[i] = known ? (std::int32_t)a.labels[i] : -1;
  }
  const IVec label = load_first(label_of, Full{});
  IVec first;
  const Vec m = block_max(a.logits, a.classes, &first), one = broadcast(1.0f);
  const Vec sum = block_exp(a.logits, a.classes, m, a.dlogits);
  if (a.dlogits) {
    const Vec factor = one / sum, scale = broadcast(a.scale);
    for (std::int64_t c = 0; c < a.classes; ++c) {
      float* const d = a.dlogits + c * kWidth;
      const Vec p = load(d) * factor, hot = select(label == (std::int32_t)c, one, zero());
      store(d, (p - hot) * scale);
    }
  }
  float log_sum[kWidth], top[kWidth];
  std::int32_t best[kWidth];
  store(log_sum, vlog(sum));
  store(top, m);
  store_first(best, first, Full{});
  for (int i = 0; i < a.samples; ++i) {
    const float at_label = label_of[i] < 0 ? __builtin_nanf("") : a.logits[label_of[i] * kWidth + i];
    to.loss += (double)log_sum[i] + ((double)top[i] - (double)at_label);
    to.correct += best[i] == label_of[i];
  }
}

}  // namespace

extern const LossKernels kLoss = {softmax_rows,       softmax_block,      softmax_grad_rows,
                                  softmax_grad_block, cross_entropy_rows, cross_entropy_block};

}  // namespace fastcnn::FASTCNN_ISA
