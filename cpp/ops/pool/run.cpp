// Runs the poolings: channels-last values image by image, strip by strip; a batch-interleaved block as C
// images of one vector's channels.
#include <algorithm>

#include "core/parallel.h"
#include "kernels/table.h"
#include "ops/block.h"
#include "ops/checks.h"
#include "ops/pieces.h"
#include "ops/pool/pool.h"

namespace fastcnn::ops {
namespace {

constexpr std::int64_t kStripElements = 32768;  // of the input: enough work for one item, small against L2

template <PoolOp kOp, PoolDirection kDirection>
PoolGeometry geometry_of(const Problem& p) {
  if (kDirection == PoolDirection::kForward) return pool_geometry(kOp, p.attrs, p.inputs[0].shape);
  return pool_backward_geometry(kOp, p.attrs, p.inputs[0].shape);
}

// A geometry with the kernels' view of it and the steps from image to image.
struct Bound {
  PoolGeometry g;
  std::int64_t channels;  // 0: the geometry's own
  std::int64_t index_bytes;
  Act act;            // whose gradient follows
  std::size_t y = 0;  // the input that is its output

  Bound(const Problem& p, PoolGeometry geometry, std::int64_t c)
      : g(std::move(geometry)),
        channels(c),
        index_bytes(size_of(index_type(g.kh, g.kw))),
        act(act_of(p.fusion.act_grad_after)),
        y(p.inputs.size() - 1) {}
  PoolParams params() const {
    return {channels,
            g.ih,
            g.iw,
            g.oh,
            g.ow,
            static_cast<std::int32_t>(g.kh),
            static_cast<std::int32_t>(g.kw),
            index_bytes > 1,
            g.tiled,
            g.rows.data(),
            g.cols.data(),
            g.row_cover.data(),
            g.col_cover.data()};
  }
  std::int64_t input_image() const { return g.ih * g.iw * channels; }
  std::int64_t output_image() const { return g.oh * g.ow * channels; }
};

const float* at(const void* base, std::int64_t offset) { return static_cast<const float*>(base) + offset; }
float* at(void* base, std::int64_t offset) { return static_cast<float*>(base) + offset; }

// Rows [r0, r1) of image i: output rows forward, input rows backward.
template <PoolOp kOp, PoolDirection kDirection>
void pool_image(const Bound& b, const void* const* in, void* const* out, std::int64_t i, std::int64_t r0,
                std::int64_t r1) {
  const PoolKernels& k = *kernels().pool;
  const PoolParams p = b.params();
  const std::int64_t x = i * b.input_image(), y = i * b.output_image();
  if constexpr (kDirection == PoolDirection::kForward) {
    if constexpr (kOp == PoolOp::kMax) {
      void* const index = out[1] ? static_cast<std::byte*>(out[1]) + y * b.index_bytes : nullptr;
      k.max_rows(p, at(in[0], x), at(out[0], y), index, r0, r1);
    } else {
      k.average_rows(p, at(in[0], x), at(out[0], y), r0, r1);
    }
  } else {
    const float* const activated = b.act == Act::kNone ? nullptr : at(in[b.y], x);
    if constexpr (kOp == PoolOp::kMax) {
      const void* const index = static_cast<const std::byte*>(in[1]) + y * b.index_bytes;
      k.max_grad_rows(p, at(in[0], y), index, b.act, activated, at(out[0], x), r0, r1);
    } else {
      k.average_grad_rows(p, at(in[0], y), b.act, activated, at(out[0], x), r0, r1);
    }
  }
}

template <PoolOp kOp, PoolDirection kDirection>
class PoolChannelsLast : public Prepared {
 public:
  explicit PoolChannelsLast(const Problem& p) : b_(p, geometry_of<kOp, kDirection>(p), p.inputs[0].shape[1]) {
    rows_ = kDirection == PoolDirection::kForward ? b_.g.oh : b_.g.ih;
    strip_ = std::clamp<std::int64_t>(kStripElements * rows_ / std::max<std::int64_t>(1, b_.input_image()), 1,
                                      rows_);
    strips_ = (rows_ + strip_ - 1) / strip_;
  }
  void run(const RunArgs& a) const override {
    parallel_for(b_.g.n * strips_, [&](std::int64_t item, int) {
      const std::int64_t image = item / strips_, r0 = item % strips_ * strip_;
      pool_image<kOp, kDirection>(b_, a.in, a.out, image, r0, std::min(rows_, r0 + strip_));
    });
  }
  std::string detail() const override { return str("strips of ", strip_, " rows"); }

 private:
  Bound b_;
  std::int64_t rows_, strip_, strips_;
};

template <PoolOp kOp, PoolDirection kDirection>
class PoolInterleaved : public BlockOp {
 public:
  explicit PoolInterleaved(const Problem& p)
      : BlockOp(p), b_(p, geometry_of<kOp, kDirection>(p), kernels().width) {
    // The index lies as the values do.
    if (kOp == PoolOp::kMax)
      (kDirection == PoolDirection::kForward ? out_access_[1] : in_access_[1]) = Access::kPerBlock;
  }
  void block(const BlockArgs& a) const override {
    const std::int64_t rows = kDirection == PoolDirection::kForward ? b_.g.oh : b_.g.ih;
    for (std::int64_t c = 0; c < b_.g.c; ++c) pool_image<kOp, kDirection>(b_, a.in, a.out, c, 0, rows);
  }

 private:
  Bound b_;
};

template <PoolOp kOp, PoolDirection kDirection, Layout kLayout>
std::string declines(const Problem& p) {
  const std::string why = unless_in(p, kLayout);
  if (!why.empty() || p.fusion.act_grad_after == Activation::kNone) return why;
  return geometry_of<kOp, kDirection>(p).tiled
             ? ""
             : "takes an activation's gradient only where windows do not overlap";
}

}  // namespace

template <PoolOp kOp, PoolDirection kDirection>
std::vector<Impl> pool_implementations() {
  return {{"interleaved", declines<kOp, kDirection, Layout::kInterleaved>,
           prepare<PoolInterleaved<kOp, kDirection>>},
          {"channels_last", declines<kOp, kDirection, Layout::kNHWC>,
           prepare<PoolChannelsLast<kOp, kDirection>>}};
}

template std::vector<Impl> pool_implementations<PoolOp::kMax, PoolDirection::kForward>();
template std::vector<Impl> pool_implementations<PoolOp::kMax, PoolDirection::kBackward>();
template std::vector<Impl> pool_implementations<PoolOp::kAverage, PoolDirection::kForward>();
template std::vector<Impl> pool_implementations<PoolOp::kAverage, PoolDirection::kBackward>();
template std::vector<Impl> pool_implementations<PoolOp::kGlobalAverage, PoolDirection::kForward>();
template std::vector<Impl> pool_implementations<PoolOp::kGlobalAverage, PoolDirection::kBackward>();
template std::vector<Impl> pool_implementations<PoolOp::kAdaptiveAverage, PoolDirection::kForward>();
template std::vector<Impl> pool_implementations<PoolOp::kAdaptiveAverage, PoolDirection::kBackward>();

}  // namespace fastcnn::ops
