// Runs the poolings, in channels-last and in batch-interleaved values.
#include "kernels/table.h"
#include "ops/pool/pool.h"

namespace fastcnn::ops {
namespace {

PoolAxis axis_of(const PoolGeometry::Axis& a) {
  return {a.in, a.out, static_cast<std::int32_t>(a.kernel), a.windows.data(), a.cover.data()};
}
PoolSteps steps_of(const Map& m) { return {m.plane, m.row, m.pixel}; }

class PoolStep {
 public:
  explicit PoolStep(const Problem& p)
      : facts_(p.facts),
        g_(facts_of<PoolGeometry>(p)),
        k_(*p.kernels().pool),
        x_(map_of(x_of(p))),
        y_(map_of(y_of(p))),
        max_(g_.kind == PoolKind::kMax),
        index_bytes_(size_of(g_.index_type())) {
    params_ = {x_.c,         axis_of(g_.axes[0]), axis_of(g_.axes[1]), axis_of(g_.axes[2]),
               steps_of(x_), steps_of(y_),        index_bytes_ > 1,    g_.tiled()};
    index_bytes_ *= x_.c * g_.axes[0].out * g_.axes[1].out * g_.axes[2].out;
    if (const PostOp* post = find(p.after, PostKind::kFunctionGrad))
      function_ = post->function, operand_ = post->in;
  }
  void run(const void* const* in, void* const* out, std::int64_t map, std::int64_t r0,
           std::int64_t r1) const {
    const std::int64_t x = map * x_.step, y = map * y_.step, index = map * index_bytes_;
    if (g_.backward) {
      const void* const from = max_ ? static_cast<const std::byte*>(in[1]) + index : nullptr;
      const float* const v = operand_ < 0 ? nullptr : floats(in[operand_]) + x;
      k_.grad_rows(params_, floats(in[0]) + y, from, function_, v, floats(out[0]) + x, r0, r1);
    } else if (max_) {
      void* const to = out[1] ? static_cast<std::byte*>(out[1]) + index : nullptr;
      k_.max_rows(params_, floats(in[0]) + x, floats(out[0]) + y, to, r0, r1);
    } else {
      k_.average_rows(params_, floats(in[0]) + x, floats(out[0]) + y, r0, r1);
    }
  }

 private:
  std::shared_ptr<const Facts> facts_;
  const PoolGeometry& g_;
  const PoolKernels& k_;
  Map x_, y_;
  bool max_;
  std::int64_t index_bytes_;  // of a map
  PoolParams params_;
  Function function_;  // whose gradient follows
  int operand_ = -1;
};

template <Layout kLayout>
std::string declines(const Problem& p) {
  const auto& g = facts_of<PoolGeometry>(p);
  const std::string why =
      first_of(unless_in(p, kLayout), g.backward && p.before.empty()
                                          ? unless_in_order(p.after, {PostKind::kFunctionGrad})
                                          : unless_no_posts(p));
  if (!why.empty()) return why;
  if (g.kind == PoolKind::kMax && !dense(g.backward ? p.inputs[1] : p.outputs[1]))
    return "takes an index that has its own memory";
  if (p.after.empty()) return "";
  if (!g.tiled()) return "takes a function's gradient only where windows do not overlap";
  const TensorDesc& v = p.inputs[static_cast<std::size_t>(p.after[0].in)];
  return map_of(v).pixel == map_of(x_of(p)).pixel ? "" : "takes a function's operand that lies as the result";
}

}  // namespace

std::vector<Impl> pool_implementations() {
  return {{"interleaved", declines<Layout::kInterleaved>, prepare<ByBlocks<PoolStep>>, true},
          {"channels_last", declines<Layout::kNHWC>, prepare<ByRows<PoolStep>>}};
}

}  // namespace fastcnn::ops
