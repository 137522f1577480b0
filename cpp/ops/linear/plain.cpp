// Fully connected layers on rows of images [N][F].
//   forward           rows: dot products of input rows and weight rows; each weight is read once, in place
//                     panels: weights packed [out / panel][in][panel], where folding sums would not pay
//   backward data     dx = dy W, weights read where they lie
//   backward weights  dw = dy^T x, summed image after image
// Work is cut by output columns: every result is summed within one item.
#include "ops/checks.h"
#include "ops/linear/linear.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kItemMacs = 300'000;  // about 5 us: less would not repay handing out

// Length of one item's run of `total` columns: a multiple of `step`, at most `most`, kItems in all if that is
// not too little work when one column costs `macs`. Longer runs are hardly faster (3 % from 24 to 120).
std::int64_t item_size(std::int64_t total, std::int64_t step, std::int64_t most, std::int64_t macs) {
  const std::int64_t enough = kItemMacs / std::max<std::int64_t>(macs, 1) + 1;
  const std::int64_t size = std::max(enough, std::min(most, ceil_div(total, kItems)));
  return round_up(std::min(size, std::max<std::int64_t>(total, 1)), step);
}

constexpr std::int64_t kChunk = 2048;  // of the summed length: what a tile rereads stays in L1 and L2

// What the directions share.
class Rows : public Prepared {
 protected:
  explicit Rows(const Problem& p)
      : k_(p.kernels()),
        params_(facts_of<LinearParams>(p)),
        in_step_(step_of(p.inputs[0])),
        out_step_(step_of(p.outputs[0])),
        function_(function_of(p.after)),
        bias_(own_input(p, 2)) {}
  // The bias from column `first` on, or null.
  const float* bias(const RunArgs& a, std::int64_t first) const {
    return bias_ < 0 ? nullptr : floats(a.in[bias_]) + first;
  }
  // The function on `columns` columns of some images' rows.
  void end(float* y, std::int64_t images, std::int64_t columns) const {
    if (!function_) return;
    for (std::int64_t i = 0; i < images; ++i, y += out_step_)
      k_.pointwise->function(function_, y, y, columns);
  }
  const KernelTable& k_;
  LinearParams params_;
  std::int64_t in_step_, out_step_;  // of the rows, which may be slices of wider ones
  Function function_;
  int bias_;
};

class RowsForward final : public Rows {
 public:
  explicit RowsForward(const Problem& p) : Rows(p) {
    // Many images are read again for every item, few are small: larger items for many.
    item_ = item_size(params_.out, 24, params_.n >= 32 ? 120 : 24, params_.n * params_.in);
    stages_ = {ceil_div(params_.out, item_)};
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker&) const override {
    const std::int64_t first = i * item_;
    DotProducts d;
    d.x_i = in_step_, d.w_o = params_.in;
    d.y = floats(a.out[0]) + first, d.y_i = out_step_;
    d.images = params_.n, d.out = std::min(item_, params_.out - first);
    d.start = bias(a, first);
    in_runs(k_.linear->dot, d, params_.in, kChunk, [&](std::int64_t k) {
      d.x = floats(a.in[0]) + k;
      d.w = floats(a.in[1]) + first * params_.in + k;
    });
    end(d.y, params_.n, d.out);
  }
  std::string detail() const override { return str(item_, " outputs per item"); }

 private:
  std::int64_t item_;
};

class PanelsForward final : public Rows {
 public:
  explicit PanelsForward(const Problem& p)
      : Rows(p),
        panel_(k_.linear->panel),
        panels_(ceil_div(params_.out, panel_)),
        images_(item_size(params_.n, 14, 140, params_.in * panel_)),
        runs_(ceil_div(params_.n, images_)) {
    stages_ = {panels_ * runs_};
  }
  std::size_t packed_bytes() const override {
    return static_cast<std::size_t>(panels_ * params_.in * panel_) * sizeof(float);
  }
  std::int64_t pack_items() const override { return panels_; }
  void pack(const void* const* in, std::byte* packed, std::int64_t j) const override {
    k_.linear->pack_panel(floats(in[1]) + j * panel_ * params_.in, std::min(panel_, params_.out - j * panel_),
                          params_.in, reinterpret_cast<float*>(packed) + j * params_.in * panel_);
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker&) const override {
    const std::int64_t first = i / runs_ * panel_, image = i % runs_ * images_;
    OuterProduct o;
    o.a_m = in_step_;
    o.b_k = panel_;
    o.c = floats(a.out[0]) + image * out_step_ + first, o.c_m = out_step_;
    o.m = std::min(images_, params_.n - image), o.n = std::min(panel_, params_.out - first);
    o.column_start = bias(a, first);
    in_runs(k_.linear->outer, o, params_.in, kChunk, [&](std::int64_t k) {
      o.a = floats(a.in[0]) + image * in_step_ + k;
      o.b = reinterpret_cast<const float*>(a.packed) + (first * params_.in + k * panel_);
    });
    end(o.c, o.m, o.n);
  }
  std::string detail() const override { return str("panels of ", panel_, ", ", images_, " images per item"); }

 private:
  std::int64_t panel_, panels_, images_, runs_;
};

class RowsBackwardData final : public Rows {
 public:
  explicit RowsBackwardData(const Problem& p)
      : Rows(p),
        item_(item_size(params_.in, 4 * k_.width, 1024, params_.n * params_.out)),
        rows_(params_.n < 64 && params_.in * params_.out > (1 << 20) ? 32 : 128) {
    stages_ = {ceil_div(params_.in, item_)};
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker&) const override {
    const std::int64_t first = i * item_;
    OuterProduct o;
    o.a_m = in_step_;
    o.b_k = params_.in;
    o.c = floats(a.out[0]) + first, o.c_m = out_step_;
    o.m = params_.n, o.n = std::min(item_, params_.in - first);
    in_runs(k_.linear->outer, o, params_.out, rows_, [&](std::int64_t k) {
      o.a = floats(a.in[0]) + k;
      o.b = floats(a.in[1]) + k * params_.in + first;
    });
  }
  std::string detail() const override { return str(item_, " inputs per item"); }

 private:
  std::int64_t item_;
  // Weight rows read side by side. Few images are bound by memory, whose prefetchers follow about 32 streams;
  // many by arithmetic, and sums are fetched and stored once per run of rows.
  std::int64_t rows_;
};

class RowsBackwardWeights final : public Rows {
 public:
  explicit RowsBackwardWeights(const Problem& p)
      : Rows(p),
        dy_step_(step_of(p.inputs[1])),
        item_(item_size(params_.out, 16, 112, params_.n * params_.in)),
        items_(p.wants(0) ? ceil_div(params_.out, item_) : 0) {
    stages_ = {items_ + (p.wants(1) ? 1 : 0)};
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker&) const override {
    if (i == items_)
      return k_.linear->sum_rows(floats(a.in[1]), dy_step_, params_.n, params_.out, floats(a.out[1]));
    const std::int64_t first = i * item_;
    OuterProduct o;
    o.a_k = dy_step_;
    o.b_k = in_step_;
    o.c = floats(a.out[0]) + first * params_.in, o.c_m = params_.in;
    o.m = std::min(item_, params_.out - first), o.n = params_.in;
    in_runs(k_.linear->outer, o, params_.n, kImages, [&](std::int64_t image) {
      o.a = floats(a.in[1]) + image * dy_step_ + first;
      o.b = floats(a.in[0]) + image * in_step_;
    });
  }
  std::string detail() const override { return str(item_, " outputs per item"); }

 private:
  static constexpr std::int64_t kImages = 1024;  // a tile's columns of so many images stay in L2

  std::int64_t dy_step_, item_, items_;
};

std::string panels_decline(const Problem& p) {
  return first_of(unless_in(p, Layout::kPlain), unless_function(p));
}

std::string dots_decline(const Problem& p) {
  const auto& q = facts_of<LinearParams>(p);
  const bool is_short = q.n > q.in / 4;
  return first_of(panels_decline(p),
                  is_short ? str("rows of ", q.in, " are too short for ", q.n, " images: packing pays") : "");
}

}  // namespace

const Impl kLinearForwardRows = {"rows", dots_decline, prepare<RowsForward>};
const Impl kLinearForwardPanels = {"panels", panels_decline, prepare<PanelsForward>};
const Impl kLinearDataRows = {"rows", unless_plain_in<Layout::kPlain>, prepare<RowsBackwardData>};
const Impl kLinearWeightsRows = {"rows", unless_plain_in<Layout::kPlain>, prepare<RowsBackwardWeights>};

}  // namespace fastcnn::ops
