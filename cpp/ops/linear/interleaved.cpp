// Fully connected layers on batch-interleaved values. Forward and backward data are block ops that read the
// weights where they lie, row by row or column by column; the weight gradient is one matrix product over the
// whole batch, whose tiles are summed image after image whatever the number of threads.
#include <algorithm>

#include "core/parallel.h"
#include "kernels/linear.h"
#include "kernels/table.h"
#include "ops/block.h"
#include "ops/checks.h"
#include "ops/linear/linear.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

class InterleavedForward final : public BlockOp {
 public:
  explicit InterleavedForward(const Problem& p)
      : BlockOp(p), params_(linear_forward_params(p.inputs)), act_(static_cast<Act>(p.fusion.activation)) {
    bias_ = p.inputs.size() > 2 && !p.inputs[2].absent;
  }
  void block(const BlockArgs& a) const override {
    const std::int64_t width = kernels().width;
    OuterProduct o;
    o.a = floats(a.in[1]), o.a_m = params_.in, o.a_k = 1;
    o.b = floats(a.in[0]), o.b_k = width;
    o.c = floats(a.out[0]), o.c_m = width;
    o.m = params_.out, o.n = width, o.k = params_.in;
    if (bias_) o.row_start = floats(a.in[2]);
    kernels().linear->outer(o);
    kernels().linear->activate(o.c, params_.out * width, act_);
  }

 private:
  LinearParams params_;
  Act act_;
  bool bias_;
};

class InterleavedBackwardData final : public BlockOp {
 public:
  explicit InterleavedBackwardData(const Problem& p)
      : BlockOp(p), params_(linear_backward_data_params(p.inputs)) {}
  void block(const BlockArgs& a) const override {
    const std::int64_t width = kernels().width;
    OuterProduct o;
    o.a = floats(a.in[1]), o.a_m = 1, o.a_k = params_.in;
    o.b = floats(a.in[0]), o.b_k = width;
    o.c = floats(a.out[0]), o.c_m = width;
    o.m = params_.in, o.n = width, o.k = params_.out;
    kernels().linear->outer(o);
  }

 private:
  LinearParams params_;
};

// dw[out][in]: images along the sum, in features along vectors. A panel of x's features is turned into rows
// of images [image][panel] in scratch; dy is broadcast from where it lies.
class InterleavedBackwardWeights final : public Prepared {
 public:
  explicit InterleavedBackwardWeights(const Problem& p)
      : params_(linear_backward_weights_params(p.inputs)), threads_(num_threads()) {
    const std::int64_t width = kernels().width;
    panel_ = (params_.in >= 12 * width ? 2 : 1) * width;
    panels_ = (params_.in + panel_ - 1) / panel_;
    chunk_ = std::min<std::int64_t>(kMaxChunk / width, (params_.n + width - 1) / width) * width;
  }
  std::size_t scratch_bytes() const override {
    return static_cast<std::size_t>(threads_) * rows_floats() * sizeof(float);
  }
  void run(const RunArgs& a) const override {
    float* const scratch = reinterpret_cast<float*>(a.scratch);
    parallel_for(panels_ + 1, [&](std::int64_t item, int thread) {
      if (item == panels_) {
        if (a.out[1]) kernels().linear->sum_blocks(floats(a.in[1]), params_.n, params_.out, floats(a.out[1]));
      } else if (a.out[0]) {
        panel(a, item * panel_, scratch + static_cast<std::size_t>(thread) * rows_floats());
      }
    });
  }

 private:
  static constexpr std::int64_t kMaxChunk = 1024;  // images whose rows stay in L2

  std::size_t rows_floats() const { return static_cast<std::size_t>(chunk_ * panel_); }

  void panel(const RunArgs& a, std::int64_t first, float* rows) const {
    const std::int64_t width = kernels().width;
    OuterProduct o;
    o.a_m = width, o.a_k = 1, o.run = width, o.a_run = params_.out * width;
    o.b = rows, o.b_k = panel_;
    o.c = floats(a.out[0]) + first, o.c_m = params_.in;
    o.m = params_.out, o.n = std::min(panel_, params_.in - first);
    std::int64_t done = 0;
    do {
      o.k = std::min(chunk_, params_.n - done);
      for (std::int64_t i = 0; i < o.k; i += width)
        kernels().linear->block_to_rows(floats(a.in[0]) + (done + i) * params_.in, params_.in, first, panel_,
                                        static_cast<int>(std::min(width, o.k - i)), rows + i * panel_);
      o.a = floats(a.in[1]) + done * params_.out;
      o.accumulate = done > 0;
      kernels().linear->outer(o);
      done += chunk_;
    } while (done < params_.n);
  }

  LinearParams params_;
  std::int64_t panel_ = 0, panels_ = 0, chunk_ = 0;
  int threads_;
};

std::string declines(const Problem& p) { return unless_in(p, Layout::kInterleaved); }

template <class P>
Impl impl() {
  return {"interleaved", declines,
          [](const Problem& p) -> std::unique_ptr<Prepared> { return std::make_unique<P>(p); }};
}

}  // namespace

std::vector<Impl> linear_interleaved(LinearDirection d) {
  switch (d) {
    case LinearDirection::kForward:
      return {impl<InterleavedForward>()};
    case LinearDirection::kBackwardData:
      return {impl<InterleavedBackwardData>()};
    case LinearDirection::kBackwardWeights:
      return {impl<InterleavedBackwardWeights>()};
  }
  return {};
}

}  // namespace fastcnn::ops
