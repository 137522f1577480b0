// The batch-interleaved implementations of the convolution ops: slices of blocks [C][D][H][W][B].
#include "kernels/interleaved.h"

#include <algorithm>
#include <cstring>

#include "kernels/conv.h"
#include "kernels/pointwise.h"
#include "ops/conv/conv.h"
#include "ops/sliced.h"

namespace fastcnn::ops {
namespace {

// Elements of a dense [.][d][h][w] from one position to the next along dimension s.
std::int64_t step_along(const std::int64_t (&size)[3], int s) {
  std::int64_t step = 1;
  while (++s < 3) step *= size[s];
  return step;
}

// Forward and backward data. Outputs of one phase (of the gradient: position mod stride, in each dimension)
// use the same taps, and each phase is a convolution of its own: the gradient's have stride 1 over dy.
class InterleavedOutputs final : public Sliced {
 public:
  InterleavedOutputs(const Problem& p, bool transposed)
      : Sliced(p),
        k_(*p.kernels().interleaved),
        conv_(*p.kernels().conv),
        c_(facts_of<ConvParams>(p)),
        transposed_(transposed),
        bias_(own_input(p, 2)),
        function_(function_of(p.after)) {
    if (transposed) std::swap(c_.in, c_.out), std::swap(c_.ic, c_.oc);
    std::int64_t first[3], phases[3];
    for (int s = 0; s < 3; ++s) phases[s] = transposed ? std::min(c_.stride[s], c_.out[s]) : 1;
    for (first[0] = 0; first[0] < phases[0]; ++first[0])
      for (first[1] = 0; first[1] < phases[1]; ++first[1])
        for (first[2] = 0; first[2] < phases[2]; ++first[2]) add_phase(first);
    if (const PostOp* post = find(p.after, PostKind::kAdd)) residual_ = post->in;
    if (const PostOp* post = find(p.after, PostKind::kFunction)) kept_ = post->out;
    if (const PostOp* post = find(p.after, PostKind::kPool)) plan_pool(*post);
    if (pools_ && unpooled_ < 0) y_ = own_.add(c_.oc * channel());
  }

  // Rows are convolved, finished and pooled one after the other, so that each step finds them in cache. Those
  // of several phases lie between each other.
  void slice(const SliceArgs& a) const override {
    float* y = floats(a.out[0]);
    if (pools_) y = unpooled_ >= 0 ? floats(a.out[unpooled_]) : y_.in(a.own);
    const bool finishes = residual_ >= 0 || function_ || kept_ >= 0;
    if (phases_.size() > 1 || (!finishes && !pools_)) {
      for (const Phase& f : phases_) convolve(a, f, y, 0, f.conv.axis[0].out * f.conv.axis[1].out);
      if (finishes) finish(a, y, 0, channel());
      return;
    }
    const std::int64_t row = c_.out[2] * block();
    for (std::int64_t i = 0; i < c_.out[0] * c_.out[1]; ++i) {
      convolve(a, phases_[0], y, i, i + 1);
      if (finishes) finish(a, y, i * row, row);
      if (pools_) pool_row_ending_at(i / c_.out[1], i % c_.out[1], y, floats(a.out[0]));
    }
  }

  std::string detail() const override {
    const IlConv::Section& s = phases_.front().conv.sections[1];
    return str(phases_.size(), phases_.size() == 1 ? " phase, tile " : " phases, tile ", s.channels,
               " channels x ", s.pixels, " pixels");
  }

 private:
  struct Phase {
    Phase() = default;
    Phase(Phase&&) = default;  // a copy would read the other's taps
    IlConv conv;
    std::vector<IlTap> taps;
    std::ptrdiff_t w = 0, y = 0;  // of its first tap and output
  };

  void add_phase(const std::int64_t (&first)[3]) {
    Phase& phase = phases_.emplace_back();
    IlConv& c = phase.conv;
    c.sum = c_.gic(), c.out = c_.goc();
    std::int64_t n = c.sum;
    for (int s = 0; s < 3; ++s) {
      const std::vector<AxisTap> taps = taps_along(c_, s, transposed_, first[s]);
      const AxisTap from = taps.empty() ? AxisTap{} : taps[0];
      const AxisTap next = taps.size() < 2 ? AxisTap{from.at + 1, from.index} : taps[1];
      const std::int64_t w_step = step_along(c_.kernel, s), y_step = step_along(c_.out, s) * block();
      const std::int64_t stride = transposed_ ? c_.stride[s] : 1;
      c.axis[s] = {c_.in[s],
                   ceil_div(c_.out[s] - first[s], stride),
                   from.at,
                   transposed_ ? 1 : c_.stride[s],
                   static_cast<std::int64_t>(taps.size()),
                   next.at - from.at,
                   stride * y_step,
                   (next.index - from.index) * w_step};
      phase.w += from.index * w_step, phase.y += first[s] * y_step;
      n *= c.axis[s].taps;
    }
    c.y_c = channel();
    c.w_o = transposed_ ? c_.taps() : c_.gic() * c_.taps();
    c.w_c = transposed_ ? c_.goc() * c_.taps() : c_.taps();
    phase.taps.resize(static_cast<std::size_t>(n));
    k_.plan(&c, phase.taps.data());
  }

  void plan_pool(const PostOp& post) {
    pools_ = true, unpooled_ = post.out;
    const PoolSpec& s = post.pool;
    pool_.average = s.average;
    pool_.kh = s.kernel[1], pool_.kw = s.kernel[2], pool_.sw = s.stride[2];
    pool_stride_ = s.stride[1];
    pool_.in_row = c_.out[2] * block(), pool_.in_pixel = pool_.out_pixel = pool_.c = block();
    pool_.cols = (c_.out[2] - pool_.kw) / pool_.sw + 1;
    pool_rows_ = (c_.out[1] - pool_.kh) / pool_stride_ + 1;
    pool_.runs = c_.oc, pool_.in_run = channel();
    pool_.out_run = c_.out[0] * pool_rows_ * pool_.cols * block();
  }

  // Floats of an output channel.
  std::int64_t channel() const { return c_.out_pixels() * block(); }

  void convolve(const SliceArgs& a, const Phase& f, float* y, std::int64_t first, std::int64_t last) const {
    const float* const bias = floats(a.in, bias_);
    const std::int64_t x_group = c_.gic() * c_.in_pixels() * block();
    for (std::int64_t g = 0; g < c_.groups; ++g)
      k_.conv_rows(f.conv, floats(a.in[0]) + g * x_group,
                   floats(a.in[1]) + g * c_.goc() * c_.gic() * c_.taps() + f.w,
                   bias ? bias + g * c_.goc() : nullptr, y + g * c_.goc() * channel() + f.y, first, last);
  }

  // y = f(y + residual) for n floats of each channel; y + residual goes to `kept` too.
  void finish(const SliceArgs& a, float* y, std::int64_t at, std::int64_t n) const {
    const float* const residual = floats(a.in, residual_);
    float* const kept = floats(a.out, kept_);
    conv_.finish({y + at, residual ? residual + at : nullptr, kept ? kept + at : nullptr, channel(),
                  channel(), channel(), c_.oc, n, function_});
  }

  // The pooled row whose window ends with row i of a plane of y, if there is one.
  void pool_row_ending_at(std::int64_t plane, std::int64_t i, const float* y, float* pooled) const {
    const std::int64_t top = i - (pool_.kh - 1), row = top / pool_stride_;
    if (top < 0 || top % pool_stride_ != 0 || row >= pool_rows_) return;
    ConvPool p = pool_;
    p.in = y + (plane * c_.out[1] + top) * pool_.in_row;
    p.out = pooled + (plane * pool_rows_ + row) * pool_.cols * block();
    conv_.pool(p);
  }

  const InterleavedKernels& k_;
  const ConvKernels& conv_;
  ConvParams c_;  // of the gradient: with x and y exchanged
  bool transposed_, pools_ = false;
  int bias_, residual_ = -1, kept_ = -1, unpooled_ = -1;
  Function function_;
  std::vector<Phase> phases_;
  Range<float> y_;  // where only the pooled value is wanted
  ConvPool pool_{};
  std::int64_t pool_stride_ = 1, pool_rows_ = 0;
};

class InterleavedBackwardWeights final : public Sliced {
 public:
  explicit InterleavedBackwardWeights(const Problem& p)
      : Sliced(p),
        k_(*p.kernels().interleaved),
        pointwise_(*p.kernels().pointwise),
        c_(facts_of<ConvParams>(p)),
        want_dw_(p.wants(0)),
        want_db_(p.wants(1)) {
    il_.ic = c_.gic(), il_.oc = c_.goc();
    for (int s = 0; s < 3; ++s)
      il_.axis[s] = {c_.in[s], c_.out[s], -c_.before[s], c_.stride[s], c_.kernel[s], c_.dilation[s]};
    k_.plan_weights(&il_);
    table_.resize(static_cast<std::size_t>(il_.pixels));
    k_.fill_pixels(il_, table_.data());
    il_.table = table_.data();
    weights_ = c_.oc * c_.gic() * c_.taps();
    // The group's sums as in the partial, then the kernel's work.
    sums_ = own_.add(weights_ + c_.oc), work_ = own_.add(il_.work);
    dw_items_ = want_dw_ ? ceil_div(weights_, kRange) : 0;
    reduces(sums_bytes(), dw_items_ + (want_db_ ? ceil_div(c_.oc, kRange) : 0));
  }

  void start(std::byte* own) const override { std::memset(sums_.in(own), 0, sums_bytes()); }
  void end(std::byte* own, std::byte* partial) const override {
    std::memcpy(partial, sums_.in(own), sums_bytes());
  }

  void slice(const SliceArgs& a) const override {
    float* const sums = sums_.in(a.own);
    const std::int64_t group = il_.oc * il_.ic * c_.taps();
    for (std::int64_t g = 0; g < c_.groups; ++g)
      k_.conv_weights(il_, floats(a.in[0]) + g * il_.ic * c_.in_pixels() * block(),
                      floats(a.in[1]) + g * il_.oc * c_.out_pixels() * block(), static_cast<int>(a.images),
                      work_.in(a.own), want_dw_ ? sums + g * group : nullptr,
                      want_db_ ? sums + weights_ + g * il_.oc : nullptr);
  }

  // An item adds the groups' sums in a range of dw or db.
  void finish(const std::byte* partials, std::int64_t groups, const RunArgs& a,
              std::int64_t item) const override {
    const bool dw = item < dw_items_;
    const std::int64_t begin = (dw ? item : item - dw_items_) * kRange;
    const std::int64_t n = std::min(kRange, (dw ? weights_ : c_.oc) - begin);
    float* const to = floats(a.out[dw ? 0 : 1]) + begin;
    const void* parts[kItems];
    for (std::int64_t g = 0; g < groups; ++g)
      parts[g] =
          floats(partials + static_cast<std::size_t>(g) * partial_step()) + (dw ? 0 : weights_) + begin;
    if (groups > 0)
      pointwise_.add({}, parts, groups, to, n);
    else
      std::fill_n(to, n, 0.0f);
  }

  std::string detail() const override {
    return str("tile ", il_.channels, " channels x ", il_.columns, il_.by_taps ? " taps" : " input channels",
               ", strips of ", il_.strip, " rows");
  }

 private:
  static constexpr std::int64_t kRange = 512;  // sums of an item that adds partials

  std::size_t sums_bytes() const { return static_cast<std::size_t>(weights_ + c_.oc) * sizeof(float); }

  const InterleavedKernels& k_;
  const PointwiseKernels& pointwise_;
  ConvParams c_;
  bool want_dw_, want_db_;
  IlWeights il_;
  std::vector<IlPixel> table_;
  std::int64_t weights_ = 0, dw_items_ = 0;
  Range<float> sums_, work_;
};

// Offsets in x, dy and w are kept in 32 bits.
std::string unless_near(const Problem& p) {
  const ConvParams& c = facts_of<ConvParams>(p);
  constexpr double kMost = 2e9;
  double image = static_cast<double>(std::max(c.gic(), c.goc())) * p.kernels().width;
  for (int s = 0; s < 3; ++s)
    image *= static_cast<double>(c.in[s] + c.before[s] + c.after[s] + c.kernel[s] * c.dilation[s]);
  if (image >= kMost) return str("images are too large for its offsets: ", c.text());
  const double weights = static_cast<double>(c.goc() * c.gic()) * static_cast<double>(c.taps());
  return weights < kMost ? "" : str("weights are too many for its offsets: ", c.text());
}

template <PostKind... kAfter>
std::string declines(const Problem& p) {
  const PostOp* pool = find(p.after, PostKind::kPool);
  if (pool && (pool->pool.kernel[0] != 1 || pool->pool.stride[0] != 1)) return "pools within planes only";
  return first_of(unless_plain_in<Layout::kInterleaved, kAfter...>(p), unless_near(p));
}

}  // namespace

const Impl kConvInterleaved[3] = {
    {"interleaved", declines<PostKind::kAdd, PostKind::kFunction, PostKind::kPool>,
     prepare_conv<InterleavedOutputs, false>, true},
    {"interleaved", declines<PostKind::kAdd>, prepare_conv<InterleavedOutputs, true>, true},
    {"interleaved", declines<>, prepare<InterleavedBackwardWeights>, true}};

}  // namespace fastcnn::ops
