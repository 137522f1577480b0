// Fully connected layers on batch-interleaved values. Forward and backward data go block by block and read
// the weights where they lie, row by row or column by column; the weight gradient is one matrix product over
// the whole batch, whose tiles are summed image after image whatever the number of threads.
#include "kernels/layout.h"
#include "ops/checks.h"
#include "ops/linear/linear.h"
#include "ops/sliced.h"

namespace fastcnn::ops {
namespace {

template <bool kBackward>
class BlockProduct final : public Sliced {
 public:
  explicit BlockProduct(const Problem& p)
      : Sliced(p),
        k_(p.kernels()),
        params_(facts_of<LinearParams>(p)),
        function_(function_of(p.after)),
        bias_(kBackward ? -1 : own_input(p, 2)) {}
  void slice(const SliceArgs& a) const override {
    const std::int64_t width = block();
    OuterProduct o;
    o.a = floats(a.in[1]);
    (kBackward ? o.a_k : o.a_m) = params_.in;
    o.m = kBackward ? params_.in : params_.out, o.n = width, o.k = kBackward ? params_.out : params_.in;
    o.b = floats(a.in[0]), o.b_k = width;
    o.c = floats(a.out[0]), o.c_m = width;
    o.row_start = floats(a.in, bias_);
    k_.linear->outer(o);
    if (function_) k_.pointwise->function(function_, o.c, o.c, o.m * width);
  }

 private:
  const KernelTable& k_;
  LinearParams params_;
  Function function_;
  int bias_;
};

// dw[out][in]: images along the sum, in features along vectors. A panel of x's features is turned into rows
// of images [image][panel] in scratch; dy is broadcast from where it lies. Lanes past the batch are moved
// into scratch at most: every sum ends with the last image.
class InterleavedBackwardWeights final : public Prepared {
 public:
  explicit InterleavedBackwardWeights(const Problem& p)
      : k_(p.kernels()),
        params_(facts_of<LinearParams>(p)),
        width_(p.kernels().width),
        x_step_(step_of(p.inputs[0])),
        dy_step_(step_of(p.inputs[1])) {
    panel_ = (params_.in >= 12 * width_ ? 2 : 1) * width_;
    panels_ = p.wants(0) ? ceil_div(params_.in, panel_) : 0;
    chunk_ = std::min<std::int64_t>(kMaxChunk / width_, ceil_div(params_.n, width_)) * width_;
    rows_ = own_.add(chunk_ * panel_);
    stages_ = {panels_ + (p.wants(1) ? 1 : 0)};
  }
  void item(const RunArgs& a, int, std::int64_t i, const Worker& w) const override {
    if (i < panels_)
      panel(a, i * panel_, rows_.in(w.own));
    else
      k_.linear->sum_blocks(floats(a.in[1]), dy_step_, params_.n, params_.out, floats(a.out[1]));
  }

 private:
  static constexpr std::int64_t kMaxChunk = 1024;  // images whose rows stay in L2

  void panel(const RunArgs& a, std::int64_t first, float* rows) const {
    OuterProduct o;
    o.a_m = width_, o.run = width_, o.a_run = dy_step_;
    o.b = rows, o.b_k = panel_;
    o.c = floats(a.out[0]) + first, o.c_m = params_.in;
    o.m = params_.out, o.n = std::min(panel_, params_.in - first);
    in_runs(k_.linear->outer, o, params_.n, chunk_, [&](std::int64_t image) {
      for (std::int64_t i = 0; i < o.k; i += width_)
        k_.layout->transpose(floats(a.in[0]) + (image + i) / width_ * x_step_ + first * width_, width_, o.n,
                             std::min(width_, o.k - i), rows + i * panel_, panel_);
      o.a = floats(a.in[1]) + image / width_ * dy_step_;
    });
  }

  const KernelTable& k_;
  LinearParams params_;
  std::int64_t width_, x_step_, dy_step_;
  std::int64_t panel_ = 0, panels_ = 0, chunk_ = 0;
  Range<float> rows_;
};

}  // namespace

const Impl kLinearForwardBlocks = {
    "interleaved",
    [](const Problem& p) { return first_of(unless_in(p, Layout::kInterleaved), unless_function(p)); },
    prepare<BlockProduct<false>>, true};
const Impl kLinearDataBlocks = {"interleaved", unless_plain_in<Layout::kInterleaved>,
                                prepare<BlockProduct<true>>, true};
const Impl kLinearWeightsBlocks = {"interleaved", unless_plain_in<Layout::kInterleaved>,
                                   prepare<InterleavedBackwardWeights>};

}  // namespace fastcnn::ops
