// The batch-interleaved implementations of the convolution ops: slices of blocks [C][D][H][W][B].
#include "kernels/interleaved.h"

#include <algorithm>
#include <cstring>
#include <numeric>

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

// The kernel's sum with the table of taps it reads.
struct Sum {
  Sum() = default;
  Sum(Sum&&) = default;  // a copy would read the other's taps
  IlConv conv;
  std::vector<IlTap> taps;

  void plan(const InterleavedKernels& k) {
    k.plan(&conv);
    taps.resize(
        static_cast<std::size_t>(conv.axis[0].taps * conv.axis[1].taps * conv.axis[2].taps * conv.sum));
    k.fill_taps(conv, taps.data());
    conv.taps = taps.data();
  }
  std::string text() const {
    return str("tile ", conv.sections[1].channels, " channels x ", conv.sections[1].pixels, " pixels");
  }
};

// y = f(y + residual) for `rows` runs of n floats, `step` apart; y + residual goes to `kept` too.
void finish_rows(const ConvKernels& k, float* y, const float* residual, float* kept, std::int64_t rows,
                 std::ptrdiff_t step, std::int64_t n, const Function& f) {
  k.finish({y, residual, kept, step, step, step, rows, n, f});
}

class InterleavedConv : public Sliced {
 protected:
  explicit InterleavedConv(const Problem& p)
      : Sliced(p), k_(*p.kernels().interleaved), conv_(*p.kernels().conv), c_(facts_of<ConvParams>(p)) {}

  const InterleavedKernels& k_;
  const ConvKernels& conv_;
  ConvParams c_;
};

// Rows are convolved, finished and pooled one after the other, so that each step finds them in cache.
class InterleavedForward final : public InterleavedConv {
 public:
  explicit InterleavedForward(const Problem& p)
      : InterleavedConv(p), bias_(own_input(p, 2)), function_(function_of(p.after)) {
    IlConv& c = sum_.conv;
    c.sum = c_.gic(), c.out = c_.goc();
    for (int s = 0; s < 3; ++s)
      c.axis[s] = {c_.in[s],
                   c_.out[s],
                   -c_.before[s],
                   c_.stride[s],
                   c_.kernel[s],
                   c_.dilation[s],
                   step_along(c_.out, s) * block(),
                   step_along(c_.kernel, s)};
    c.y_c = c_.out_pixels() * block(), c.w_c = c_.taps(), c.w_o = c.sum * c.w_c;
    sum_.plan(k_);
    if (const PostOp* post = find(p.after, PostKind::kAdd)) residual_ = post->in;
    if (const PostOp* post = find(p.after, PostKind::kFunction)) kept_ = post->out;
    if (const PostOp* post = find(p.after, PostKind::kPool)) plan_pool(*post);
    if (pools_ && unpooled_ < 0) y_ = own_.add(c_.oc * c.y_c);
  }

  void slice(const SliceArgs& a) const override {
    const float* const residual = floats(a.in, residual_);
    float* const kept = floats(a.out, kept_);
    float* y = floats(a.out[0]);
    if (pools_) y = unpooled_ >= 0 ? floats(a.out[unpooled_]) : y_.in(a.own);
    const std::int64_t rows = c_.out[0] * c_.out[1], row = c_.out[2] * block();
    const bool finishes = residual || function_ || kept;
    if (!finishes && !pools_) return convolve(a, y, 0, rows);
    for (std::int64_t i = 0; i < rows; ++i) {
      convolve(a, y, i, i + 1);
      const std::ptrdiff_t at = i * row;
      if (finishes)
        finish_rows(conv_, y + at, residual ? residual + at : nullptr, kept ? kept + at : nullptr, c_.oc,
                    sum_.conv.y_c, row, function_);
      if (pools_) pool_row_ending_at(i / c_.out[1], i % c_.out[1], y, floats(a.out[0]));
    }
  }

  std::string detail() const override { return sum_.text(); }

 private:
  void plan_pool(const PostOp& post) {
    pools_ = true, unpooled_ = post.out;
    const PoolSpec& s = post.pool;
    pool_.average = s.average;
    pool_.kh = s.kernel[1], pool_.kw = s.kernel[2], pool_.sw = s.stride[2];
    pool_stride_ = s.stride[1];
    pool_.in_row = c_.out[2] * block(), pool_.in_pixel = pool_.out_pixel = pool_.c = block();
    pool_.cols = (c_.out[2] - pool_.kw) / pool_.sw + 1;
    pool_rows_ = (c_.out[1] - pool_.kh) / pool_stride_ + 1;
    pool_.runs = c_.oc, pool_.in_run = sum_.conv.y_c;
    pool_.out_run = c_.out[0] * pool_rows_ * pool_.cols * block();
  }

  void convolve(const SliceArgs& a, float* y, std::int64_t first, std::int64_t last) const {
    const float* const bias = floats(a.in, bias_);
    for (std::int64_t g = 0; g < c_.groups; ++g) {
      const std::int64_t o = g * sum_.conv.out;
      k_.conv_rows(sum_.conv, floats(a.in[0]) + g * sum_.conv.sum * c_.in_pixels() * block(),
                   floats(a.in[1]) + o * sum_.conv.w_o, bias ? bias + o : nullptr, y + o * sum_.conv.y_c,
                   first, last);
    }
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

  int bias_, residual_ = -1, kept_ = -1, unpooled_ = -1;
  Function function_;
  Sum sum_;
  Range<float> y_;  // where only the pooled value is wanted
  bool pools_ = false;
  ConvPool pool_{};
  std::int64_t pool_stride_ = 1, pool_rows_ = 0;
};

// dx position y takes from dy positions (y + before - t dilation) / stride where that is whole: positions of
// one phase (y mod stride, in each dimension) use the same taps, and each phase is a convolution of stride 1
// over dy.
class InterleavedBackwardData final : public InterleavedConv {
 public:
  explicit InterleavedBackwardData(const Problem& p) : InterleavedConv(p) {
    if (const PostOp* post = find(p.after, PostKind::kAdd)) residual_ = post->in;
    std::int64_t first[3], phases[3];
    for (int s = 0; s < 3; ++s) phases[s] = std::min(c_.stride[s], c_.in[s]);
    for (first[0] = 0; first[0] < phases[0]; ++first[0])
      for (first[1] = 0; first[1] < phases[1]; ++first[1])
        for (first[2] = 0; first[2] < phases[2]; ++first[2]) add_phase(first);
  }

  void slice(const SliceArgs& a) const override {
    float* const dx = floats(a.out[0]);
    const std::int64_t plane = c_.in_pixels() * block();
    for (std::int64_t g = 0; g < c_.groups; ++g) {
      const float* const dy = floats(a.in[0]) + g * c_.goc() * c_.out_pixels() * block();
      const float* const w = floats(a.in[1]) + g * c_.goc() * c_.gic() * c_.taps();
      for (const Phase& p : phases_)
        k_.conv_rows(p.sum.conv, dy, w + p.w, nullptr, dx + g * c_.gic() * plane + p.dx, 0,
                     p.sum.conv.axis[0].out * p.sum.conv.axis[1].out);
    }
    if (residual_ >= 0) finish_rows(conv_, dx, floats(a.in[residual_]), nullptr, 1, 0, c_.ic * plane, {});
  }

  std::string detail() const override {
    return str(phases_.size(), phases_.size() == 1 ? " phase, " : " phases, ", phases_.front().sum.text());
  }

 private:
  // Taps t with t * dilation == at (mod stride): every step-th from `first`; `from` is the position in dy of
  // the first one for the phase's position 0, later ones lie `distance` before each other.
  struct Taps {
    std::int64_t first = 0, step = 1, count = 0, from = 0, distance = 1;
    Taps(std::int64_t k, std::int64_t stride, std::int64_t dilation, std::int64_t at) {
      const std::int64_t common = std::gcd(stride, dilation);
      step = stride / common, distance = dilation / common;
      while (first < step && (at - first * dilation) % stride != 0) ++first;
      if (first >= std::min(step, k)) return;
      count = (k - first + step - 1) / step;
      from = (at - first * dilation) / stride;
    }
  };
  struct Phase {
    Sum sum;
    std::ptrdiff_t w = 0, dx = 0;
  };

  void add_phase(const std::int64_t (&first)[3]) {
    Phase phase;
    IlConv& c = phase.sum.conv;
    c.sum = c_.goc(), c.out = c_.gic();
    for (int s = 0; s < 3; ++s) {
      const Taps taps(c_.kernel[s], c_.stride[s], c_.dilation[s], first[s] + c_.before[s]);
      const std::int64_t w_step = step_along(c_.kernel, s), x_step = step_along(c_.in, s) * block();
      c.axis[s] = {c_.out[s],
                   ceil_div(c_.in[s] - first[s], c_.stride[s]),
                   taps.from,
                   1,
                   taps.count,
                   -taps.distance,
                   c_.stride[s] * x_step,
                   taps.step * w_step};
      phase.w += taps.first * w_step, phase.dx += first[s] * x_step;
    }
    c.y_c = c_.in_pixels() * block(), c.w_o = c_.taps(), c.w_c = c_.gic() * c.w_o;
    phase.sum.plan(k_);
    phases_.push_back(std::move(phase));
  }

  int residual_ = -1;
  std::vector<Phase> phases_;
};

class InterleavedBackwardWeights final : public InterleavedConv {
 public:
  explicit InterleavedBackwardWeights(const Problem& p)
      : InterleavedConv(p), pointwise_(*p.kernels().pointwise), want_dw_(p.wants(0)), want_db_(p.wants(1)) {
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

  void finish(const std::byte* partials, std::int64_t groups, void* const* out,
              std::int64_t item) const override {
    if (item < dw_items_)
      add_groups(partials, groups, 0, item, weights_, floats(out[0]));
    else if (want_db_)
      add_groups(partials, groups, weights_, item - dw_items_, c_.oc, floats(out[1]));
  }

  std::string detail() const override {
    return str("tile ", il_.channels, " channels x ", il_.columns, il_.by_taps ? " taps" : " input channels",
               ", strips of ", il_.strip, " rows");
  }

 private:
  static constexpr std::int64_t kRange = 512;  // sums of an item that adds partials

  std::size_t sums_bytes() const { return static_cast<std::size_t>(weights_ + c_.oc) * sizeof(float); }

  // Range `item` of the `count` sums from `first` on.
  void add_groups(const std::byte* partials, std::int64_t groups, std::int64_t first, std::int64_t item,
                  std::int64_t count, float* to) const {
    const std::int64_t begin = item * kRange, n = std::min(kRange, count - begin);
    const void* parts[kItems];
    for (std::int64_t g = 0; g < groups; ++g)
      parts[g] = floats(partials + static_cast<std::size_t>(g) * partial_step()) + first + begin;
    if (groups > 0)
      pointwise_.add({}, parts, groups, to + begin, n);
    else
      std::fill_n(to + begin, n, 0.0f);
  }

  const PointwiseKernels& pointwise_;
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
     prepare<InterleavedForward>, true},
    {"interleaved", declines<PostKind::kAdd>, prepare<InterleavedBackwardData>, true},
    {"interleaved", declines<>, prepare<InterleavedBackwardWeights>, true}};

}  // namespace fastcnn::ops
