// Fully connected layers on rows of images [N][F].
//   forward         rows:   dot products of input rows and weight rows; each weight is read once, from where
//   it lies
//                   panels: weights packed [out / panel][in][panel]; for rows too short to repay the folding
//                   of sums
//   backward data   dx = dy W, weights read where they lie
//   backward weights  dw = dy^T x, summed image after image
// Work is cut by output columns, sizes fixed by the problem, so results do not depend on the number of
// threads.
#include <algorithm>

#include "core/parallel.h"
#include "kernels/linear.h"
#include "kernels/table.h"
#include "ops/checks.h"
#include "ops/linear/linear.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kItemMacs = 300'000;  // about 5 us: less would not repay handing out

// Length of one item's run of `total` columns: a multiple of `step`, at most `most`, about 16 items in all,
// and not too little work when one column costs `macs`.
std::int64_t item_size(std::int64_t total, std::int64_t step, std::int64_t most, std::int64_t macs) {
  const std::int64_t enough = kItemMacs / std::max<std::int64_t>(macs, 1) + 1;
  const std::int64_t size = std::max(enough, std::min(most, ceil_div(total, 16)));
  return ceil_div(std::min(size, std::max<std::int64_t>(total, 1)), step) * step;
}

bool has_bias(const Problem& p) { return p.inputs.size() > 2 && !p.inputs[2].absent; }

// Applies the activation to columns [first, first + count) of all images.
void activate(float* y, std::int64_t images, std::int64_t stride, std::int64_t first, std::int64_t count,
              Act act) {
  if (act == Act::kNone) return;
  for (std::int64_t i = 0; i < images; ++i) kernels().linear->activate(y + i * stride + first, count, act);
}

constexpr std::int64_t kChunk = 2048;  // of the summed length: what a tile rereads stays in L1 and L2

class RowsForward final : public Prepared {
 public:
  explicit RowsForward(const Problem& p)
      : params_(linear_forward_params(p.inputs)),
        act_(static_cast<Act>(p.fusion.activation)),
        bias_(has_bias(p)) {
    // Many images are read again for every item, few are small: larger items for many.
    item_ = item_size(params_.out, 24, params_.n >= 32 ? 120 : 24, params_.n * params_.in);
  }
  void run(const RunArgs& a) const override {
    float* const y = floats(a.out[0]);
    parallel_for(ceil_div(params_.out, item_), [&](std::int64_t item, int) {
      const std::int64_t first = item * item_;
      DotProducts d;
      d.x_i = d.w_o = params_.in;
      d.y = y + first, d.y_i = params_.out;
      d.images = params_.n, d.out = std::min(item_, params_.out - first);
      if (bias_) d.start = floats(a.in[2]) + first;
      for (std::int64_t k = 0; k < params_.in; k += kChunk) {
        d.x = floats(a.in[0]) + k;
        d.w = floats(a.in[1]) + first * params_.in + k;
        d.k = std::min(kChunk, params_.in - k);
        d.accumulate = k > 0;
        kernels().linear->dot(d);
      }
      activate(y, params_.n, params_.out, first, d.out, act_);
    });
  }
  std::string detail() const override { return str(item_, " outputs per item"); }

 private:
  LinearParams params_;
  Act act_;
  bool bias_;
  std::int64_t item_;
};

class PanelsForward final : public Prepared {
 public:
  explicit PanelsForward(const Problem& p)
      : params_(linear_forward_params(p.inputs)),
        act_(static_cast<Act>(p.fusion.activation)),
        bias_(has_bias(p)),
        panel_(kernels().linear->panel),
        panels_(ceil_div(params_.out, panel_)),
        images_(item_size(params_.n, 14, 140, params_.in * panel_)) {}
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(panels_ * params_.in * panel_) * sizeof(float);
  }
  void pack(const void* const* in, std::byte* packed) const override {
    parallel_for(panels_, [&](std::int64_t j, int) {
      kernels().linear->pack_panel(floats(in[1]) + j * panel_ * params_.in,
                                   std::min(panel_, params_.out - j * panel_), params_.in,
                                   reinterpret_cast<float*>(packed) + j * params_.in * panel_);
    });
  }
  void run(const RunArgs& a) const override {
    float* const y = floats(a.out[0]);
    const std::int64_t runs = ceil_div(params_.n, images_);
    parallel_for(panels_ * runs, [&](std::int64_t item, int) {
      const std::int64_t first = item / runs * panel_, image = item % runs * images_;
      OuterProduct o;
      o.a_m = params_.in, o.a_k = 1;
      o.b_k = panel_;
      o.c = y + image * params_.out + first, o.c_m = params_.out;
      o.m = std::min(images_, params_.n - image), o.n = std::min(panel_, params_.out - first);
      if (bias_) o.column_start = floats(a.in[2]) + first;
      for (std::int64_t k = 0; k < params_.in; k += kChunk) {
        o.a = floats(a.in[0]) + image * params_.in + k;
        o.b = reinterpret_cast<const float*>(a.packed) + (first * params_.in + k * panel_);
        o.k = std::min(kChunk, params_.in - k);
        o.accumulate = k > 0;
        kernels().linear->outer(o);
      }
      activate(y + image * params_.out, o.m, params_.out, first, o.n, act_);
    });
  }
  std::string detail() const override { return str("panels of ", panel_, ", ", images_, " images per item"); }

 private:
  LinearParams params_;
  Act act_;
  bool bias_;
  std::int64_t panel_, panels_, images_;
};

class RowsBackwardData final : public Prepared {
 public:
  explicit RowsBackwardData(const Problem& p)
      : params_(linear_backward_data_params(p.inputs)),
        item_(item_size(params_.in, 4 * kernels().width, 1024, params_.n * params_.out)),
        rows_(params_.n < 64 && params_.in * params_.out > (1 << 20) ? 32 : 128) {}
  void run(const RunArgs& a) const override {
    parallel_for(ceil_div(params_.in, item_), [&](std::int64_t item, int) {
      const std::int64_t first = item * item_;
      OuterProduct o;
      o.a_m = params_.out, o.a_k = 1;
      o.b_k = params_.in;
      o.c = floats(a.out[0]) + first, o.c_m = params_.in;
      o.m = params_.n, o.n = std::min(item_, params_.in - first);
      for (std::int64_t k = 0; k < params_.out; k += rows_) {
        o.a = floats(a.in[0]) + k;
        o.b = floats(a.in[1]) + k * params_.in + first;
        o.k = std::min(rows_, params_.out - k);
        o.accumulate = k > 0;
        kernels().linear->outer(o);
      }
    });
  }
  std::string detail() const override { return str(item_, " inputs per item"); }

 private:
  LinearParams params_;
  std::int64_t item_;
  // Weight rows read side by side. Few images are bound by memory, whose prefetchers follow about 32 streams;
  // many by arithmetic, and sums are fetched and stored once per run of rows.
  std::int64_t rows_;
};

class RowsBackwardWeights final : public Prepared {
 public:
  explicit RowsBackwardWeights(const Problem& p)
      : params_(linear_backward_weights_params(p.inputs)),
        item_(item_size(params_.out, 4, 112, params_.n * params_.in)) {}
  void run(const RunArgs& a) const override {
    const std::int64_t items = ceil_div(params_.out, item_);
    parallel_for(items + 1, [&](std::int64_t item, int) {
      if (item == items) {
        if (a.out[1])
          kernels().linear->sum_rows(floats(a.in[1]), params_.out, params_.n, params_.out, floats(a.out[1]));
        return;
      }
      if (!a.out[0]) return;
      const std::int64_t first = item * item_;
      OuterProduct o;
      o.a_m = 1, o.a_k = params_.out;
      o.b_k = params_.in;
      o.c = floats(a.out[0]) + first * params_.in, o.c_m = params_.in;
      o.m = std::min(item_, params_.out - first), o.n = params_.in;
      std::int64_t i = 0;
      do {
        o.a = floats(a.in[1]) + i * params_.out + first;
        o.b = floats(a.in[0]) + i * params_.in;
        o.k = std::min(kImages, params_.n - i);
        o.accumulate = i > 0;
        kernels().linear->outer(o);
        i += kImages;
      } while (i < params_.n);
    });
  }
  std::string detail() const override { return str(item_, " outputs per item"); }

 private:
  static constexpr std::int64_t kImages = 1024;  // a tile's columns of so many images stay in L2

  LinearParams params_;
  std::int64_t item_;
};

std::string unless_rows(const Problem& p) { return unless_in(p, Layout::kPlain); }

std::string rows_decline(const Problem& p) {
  const std::string why = unless_rows(p);
  if (!why.empty()) return why;
  const LinearParams q = linear_forward_params(p.inputs);
  if (q.n > q.in / 4) return str("rows of ", q.in, " are too short for ", q.n, " images: packing pays");
  return "";
}

}  // namespace

std::vector<Impl> linear_plain(LinearDirection d) {
  switch (d) {
    case LinearDirection::kForward:
      return {{"rows", rows_decline, prepare<RowsForward>}, {"panels", unless_rows, prepare<PanelsForward>}};
    case LinearDirection::kBackwardData:
      return {{"rows", unless_rows, prepare<RowsBackwardData>}};
    case LinearDirection::kBackwardWeights:
      return {{"rows", unless_rows, prepare<RowsBackwardWeights>}};
  }
  return {};
}

}  // namespace fastcnn::ops
