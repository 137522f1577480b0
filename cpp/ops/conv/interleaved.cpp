// The batch-interleaved implementations of the three convolution ops: block ops on [C][H][W][B].
#include "kernels/interleaved.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "kernels/table.h"
#include "ops/block.h"
#include "ops/checks.h"
#include "ops/conv/conv.h"
#include "ops/pieces.h"

namespace fastcnn::ops {
namespace {

// The kernel's sum with the table of taps it reads.
struct Sum {
  Sum() = default;
  Sum(Sum&&) = default;  // a copy would read the other's taps
  IlConv conv;
  std::vector<IlTap> taps;

  void plan() {
    kernels().interleaved->plan(&conv);
    taps.resize(static_cast<std::size_t>(conv.kh * conv.sum * conv.kw));
    kernels().interleaved->fill_taps(conv, taps.data());
    conv.taps = taps.data();
  }
};

// Rows are convolved, finished and pooled one after the other, so that each step finds them in cache.
class InterleavedForward final : public BlockOp {
 public:
  explicit InterleavedForward(const Problem& p)
      : BlockOp(p),
        params_(conv_forward_params(p.attrs, p.inputs)),
        at_(conv_operands(p)),
        act_(static_cast<Act>(p.fusion.activation)) {
    const std::int64_t width = kernels().width;
    IlConv& c = sum_.conv;
    c.sum = params_.gic(), c.out = params_.goc();
    c.in_h = params_.ih, c.in_w = params_.iw;
    c.rows = params_.oh, c.cols = params_.ow;
    c.y_c = params_.oh * params_.ow * width, c.y_row = params_.ow * width, c.y_col = width;
    c.row0 = -params_.pt, c.row_step = params_.sh, c.tap_row = params_.dh;
    c.col0 = -params_.pl, c.col_step = params_.sw, c.tap_col = params_.dw;
    c.kh = params_.kh, c.kw = params_.kw;
    c.w_q = 1, c.w_r = params_.kw, c.w_c = params_.kh * params_.kw, c.w_o = c.sum * c.w_c;
    sum_.plan();
    plan_pool(p.fusion.pool);
  }

  std::size_t local_bytes() const override {
    if (pool_kind_ == PoolSpec::kNone || at_.unpooled >= 0) return 0;
    return static_cast<std::size_t>(params_.oc * sum_.conv.y_c) * sizeof(float);
  }

  void block(const BlockArgs& a) const override {
    const float* const residual = at_.residual >= 0 ? floats(a.in[at_.residual]) : nullptr;
    float* y = floats(a.out[0]);
    if (pool_kind_ != PoolSpec::kNone)
      y = at_.unpooled >= 0 ? floats(a.out[at_.unpooled]) : reinterpret_cast<float*>(a.local);
    if (!residual && act_ == Act::kNone && pool_kind_ == PoolSpec::kNone) {
      rows(a, y, 0, params_.oh);
      return;
    }
    for (std::int64_t i = 0; i < params_.oh; ++i) {
      rows(a, y, i, i + 1);
      for (std::int64_t o = 0; o < params_.oc; ++o) {
        const std::ptrdiff_t at = o * sum_.conv.y_c + i * sum_.conv.y_row;
        kernels().interleaved->finish(y + at, residual ? residual + at : nullptr, sum_.conv.y_row, act_);
      }
      if (pool_kind_ != PoolSpec::kNone) pool_row_ending_at(i, y, floats(a.out[0]));
    }
  }

  std::string detail() const override {
    const IlConv::Section& s = sum_.conv.sections[1];
    return str("tile ", s.channels, " channels x ", s.pixels, " pixels");
  }

 private:
  void plan_pool(const PoolSpec& pool) {
    pool_kind_ = pool.kind;
    if (pool.kind == PoolSpec::kNone) return;
    pool_.max = pool.kind == PoolSpec::kMax;
    pool_.kh = pool.kernel[0], pool_.kw = pool.kernel[1], pool_.sw = pool.stride[1];
    pool_stride_ = pool.stride[0];
    pool_.in_w = params_.ow;
    pool_.out_w = (params_.ow - pool_.kw) / pool_.sw + 1;
    pool_rows_ = (params_.oh - pool_.kh) / pool_stride_ + 1;
  }

  void rows(const BlockArgs& a, float* y, std::int64_t first, std::int64_t last) const {
    const std::int64_t plane = params_.ih * params_.iw * kernels().width;
    for (std::int64_t g = 0; g < params_.groups; ++g) {
      const std::int64_t o = g * sum_.conv.out;
      kernels().interleaved->conv_rows(
          sum_.conv, floats(a.in[0]) + g * sum_.conv.sum * plane, floats(a.in[1]) + o * sum_.conv.w_o,
          at_.bias >= 0 ? floats(a.in[at_.bias]) + o : nullptr, y + o * sum_.conv.y_c, first, last);
    }
  }

  // The pooled row whose window ends with row i of y, if there is one.
  void pool_row_ending_at(std::int64_t i, const float* y, float* pooled) const {
    const std::int64_t top = i - (pool_.kh - 1);
    if (top < 0 || top % pool_stride_ != 0 || top / pool_stride_ >= pool_rows_) return;
    const std::int64_t width = kernels().width, row = top / pool_stride_;
    for (std::int64_t o = 0; o < params_.oc; ++o)
      kernels().interleaved->pool_row(pool_, y + o * sum_.conv.y_c + top * sum_.conv.y_row,
                                      pooled + (o * pool_rows_ + row) * pool_.out_w * width);
  }

  ConvParams params_;
  ConvOperands at_;
  Act act_;
  Sum sum_;
  PoolSpec::Kind pool_kind_ = PoolSpec::kNone;
  IlPool pool_;
  std::int64_t pool_stride_ = 1, pool_rows_ = 0;
};

// dx row y takes from dy rows (y + pt - r dh) / sh where that is whole: pixels of one phase (y mod sh, x mod
// sw) use the same taps, and each phase is a convolution of stride 1 over dy.
class InterleavedBackwardData final : public BlockOp {
 public:
  explicit InterleavedBackwardData(const Problem& p)
      : BlockOp(p), params_(conv_backward_data_params(p.attrs, p.inputs)), at_(conv_operands(p)) {
    const std::int64_t width = kernels().width;
    for (std::int64_t i = 0; i < std::min(params_.sh, params_.ih); ++i)
      for (std::int64_t j = 0; j < std::min(params_.sw, params_.iw); ++j) {
        const Taps rows(params_.kh, params_.sh, params_.dh, i + params_.pt);
        const Taps cols(params_.kw, params_.sw, params_.dw, j + params_.pl);
        Phase phase;
        IlConv& c = phase.sum.conv;
        c.sum = params_.goc(), c.out = params_.gic();
        c.in_h = params_.oh, c.in_w = params_.ow;
        c.rows = (params_.ih - i + params_.sh - 1) / params_.sh;
        c.cols = (params_.iw - j + params_.sw - 1) / params_.sw;
        c.y_c = params_.ih * params_.iw * width;
        c.y_row = params_.sh * params_.iw * width, c.y_col = params_.sw * width;
        c.row0 = rows.from, c.tap_row = -rows.distance, c.kh = rows.count;
        c.col0 = cols.from, c.tap_col = -cols.distance, c.kw = cols.count;
        c.w_q = cols.step, c.w_r = rows.step * params_.kw;
        c.w_o = params_.kh * params_.kw, c.w_c = params_.gic() * c.w_o;
        phase.w = rows.first * params_.kw + cols.first;
        phase.dx = (i * params_.iw + j) * width;
        phase.sum.plan();
        phases_.push_back(std::move(phase));
      }
  }

  void block(const BlockArgs& a) const override {
    const std::int64_t width = kernels().width, plane = params_.ih * params_.iw * width;
    float* const dx = floats(a.out[0]);
    for (std::int64_t g = 0; g < params_.groups; ++g) {
      const float* const dy = floats(a.in[0]) + g * params_.goc() * params_.oh * params_.ow * width;
      const float* const w = floats(a.in[1]) + g * params_.goc() * params_.gic() * params_.kh * params_.kw;
      for (const Phase& p : phases_)
        kernels().interleaved->conv_rows(p.sum.conv, dy, w + p.w, nullptr,
                                         dx + g * params_.gic() * plane + p.dx, 0, p.sum.conv.rows);
    }
    if (at_.residual >= 0)
      kernels().interleaved->finish(dx, floats(a.in[at_.residual]), params_.ic * plane, Act::kNone);
  }

  std::string detail() const override {
    const IlConv::Section& s = phases_.front().sum.conv.sections[1];
    return str(phases_.size(), phases_.size() == 1 ? " phase" : " phases", ", tile ", s.channels,
               " channels x ", s.pixels, " pixels");
  }

 private:
  // Taps r with r * dilation == at (mod stride): every step-th from `first`; `from` is the position in dy of
  // the first one for the phase's pixel 0, later ones lie `distance` before each other.
  struct Taps {
    std::int64_t first = 0, step = 1, count = 0, from = 0, distance = 1;
    Taps(std::int64_t k, std::int64_t stride, std::int64_t dilation, std::int64_t at) {
      std::int64_t a = stride, b = dilation % stride;
      while (b) std::swap(a %= b, b);  // a: greatest common divisor
      step = stride / a, distance = dilation / a;
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

  ConvParams params_;
  ConvOperands at_;
  std::vector<Phase> phases_;
};

class InterleavedBackwardWeights final : public BlockOp {
 public:
  explicit InterleavedBackwardWeights(const Problem& p)
      : BlockOp(p),
        params_(conv_backward_weights_params(p.attrs, p.inputs)),
        want_dw_(p.wanted.empty() || p.wanted[0]),
        want_db_(p.wanted.size() < 2 || p.wanted[1]) {
    conv_.ic = params_.gic(), conv_.ih = params_.ih, conv_.iw = params_.iw;
    conv_.oc = params_.goc(), conv_.oh = params_.oh, conv_.ow = params_.ow;
    conv_.kh = params_.kh, conv_.kw = params_.kw, conv_.sh = params_.sh, conv_.sw = params_.sw;
    conv_.pt = params_.pt, conv_.pl = params_.pl, conv_.dh = params_.dh, conv_.dw = params_.dw;
    kernels().interleaved->plan_weights(&conv_);
    table_.resize(static_cast<std::size_t>(conv_.pixels));
    kernels().interleaved->fill_pixels(conv_, table_.data());
    conv_.table = table_.data();
    group_ = conv_.oc * conv_.ic * conv_.kh * conv_.kw;
  }

  // Local: the group's sums as in the partial, then the kernel's work.
  std::size_t partial_bytes() const override {
    return static_cast<std::size_t>(weights() + params_.oc) * sizeof(float);
  }
  std::size_t local_bytes() const override {
    return align64(partial_bytes()) + static_cast<std::size_t>(conv_.work) * sizeof(float);
  }
  void begin(std::byte* local) const override { std::memset(local, 0, partial_bytes()); }
  void end(std::byte* local, std::byte* partial) const override {
    std::memcpy(partial, local, partial_bytes());
  }

  void block(const BlockArgs& a) const override {
    const std::int64_t width = kernels().width;
    float* const sums = reinterpret_cast<float*>(a.local);
    float* const work = reinterpret_cast<float*>(a.local + align64(partial_bytes()));
    for (std::int64_t g = 0; g < params_.groups; ++g)
      kernels().interleaved->conv_weights(conv_, floats(a.in[0]) + g * conv_.ic * conv_.ih * conv_.iw * width,
                                          floats(a.in[1]) + g * conv_.oc * conv_.oh * conv_.ow * width,
                                          a.valid, work, want_dw_ ? sums + g * group_ : nullptr,
                                          want_db_ ? sums + weights() + g * conv_.oc : nullptr);
  }

  void finish(const std::byte* partials, std::int64_t groups, void* const* out) const override {
    if (want_dw_) add_groups(partials, groups, 0, weights(), floats(out[0]));
    if (want_db_) add_groups(partials, groups, weights(), params_.oc, floats(out[1]));
  }

  std::string detail() const override {
    return str("tile ", conv_.channels, " channels x ", conv_.columns,
               conv_.by_taps ? " taps" : " input channels", ", strips of ", conv_.strip, " rows");
  }

 private:
  std::int64_t weights() const { return params_.groups * group_; }

  // to[i] = sum over groups of number first + i, in order; slice by slice, so that the inner loop is along
  // memory.
  void add_groups(const std::byte* partials, std::int64_t groups, std::int64_t first, std::int64_t count,
                  float* to) const {
    constexpr std::int64_t kSlice = 512;
    const std::size_t stride = align64(partial_bytes());
    parallel_for(ceil_div(count, kSlice), [&](std::int64_t item, int) {
      const std::int64_t begin = item * kSlice, n = std::min(kSlice, count - begin);
      std::fill_n(to + begin, n, 0.0f);
      for (std::int64_t g = 0; g < groups; ++g) {
        const auto* part =
            reinterpret_cast<const float*>(partials + static_cast<std::size_t>(g) * stride) + first + begin;
        for (std::int64_t i = 0; i < n; ++i) to[begin + i] += part[i];
      }
    });
  }

  ConvParams params_;
  bool want_dw_, want_db_;
  IlWeights conv_;
  std::vector<IlPixel> table_;
  std::int64_t group_ = 0;
};

std::string declines(const Problem& p) {
  const std::string why = unless_in(p, Layout::kInterleaved);
  if (!why.empty()) return why;
  if (p.fusion.statistics) return "does not compute batch-norm statistics";
  return "";
}

// Offsets in x and dy are kept in 32 bits.
std::string declines_far(const Problem& p, const ConvParams& q) {
  const std::string why = declines(p);
  if (!why.empty()) return why;
  const double reach = static_cast<double>(std::max(q.gic(), q.goc())) *
                       static_cast<double>(q.ih + q.pt + q.pb + q.kh * q.dh) *
                       static_cast<double>(q.iw + q.pl + q.pr + q.kw * q.dw) * kernels().width;
  return reach < 2e9 ? "" : str("images of ", q.ih, "x", q.iw, " are too large for its offsets");
}
std::string declines_forward(const Problem& p) {
  return declines_far(p, conv_forward_params(p.attrs, p.inputs));
}
std::string declines_backward_data(const Problem& p) {
  return declines_far(p, conv_backward_data_params(p.attrs, p.inputs));
}
std::string declines_backward_weights(const Problem& p) {
  return declines_far(p, conv_backward_weights_params(p.attrs, p.inputs));
}

template <class P>
Impl impl(std::string (*declines)(const Problem&)) {
  return {"interleaved", declines,
          [](const Problem& p) -> std::unique_ptr<Prepared> { return std::make_unique<P>(p); }};
}

}  // namespace

std::vector<Impl> conv2d_interleaved(ConvDirection d) {
  switch (d) {
    case ConvDirection::kForward:
      return {impl<InterleavedForward>(declines_forward)};
    case ConvDirection::kBackwardData:
      return {impl<InterleavedBackwardData>(declines_backward_data)};
    case ConvDirection::kBackwardWeights:
      return {impl<InterleavedBackwardWeights>(declines_backward_weights)};
  }
  return {};
}

}  // namespace fastcnn::ops
