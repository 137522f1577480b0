// The parameter update: SGD with momentum, dampening, Nesterov and coupled weight decay, as PyTorch defines
// them.
#include <algorithm>

#include "core/parallel.h"
#include "kernels/pointwise.h"
#include "kernels/table.h"
#include "ops/checks.h"
#include "ops/pieces.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

class SgdRun : public Prepared {
 public:
  explicit SgdRun(const Problem& p) : n_(p.inputs[0].shape.numel()) {}
  void run(const RunArgs& a) const override {
    // The plan updates through its parameters' own memory.
    auto* param = static_cast<float*>(const_cast<void*>(a.in[0]));
    const auto* grad = static_cast<const float*>(a.in[1]);
    auto* buffer = static_cast<float*>(const_cast<void*>(a.in[2]));
    const auto* hyper = static_cast<const float*>(a.in[3]);
    parallel_for((n_ + kFlatItem - 1) / kFlatItem, [&](std::int64_t item, int) {
      const std::int64_t at = item * kFlatItem;
      kernels().pointwise->sgd(param + at, grad + at, buffer ? buffer + at : nullptr, hyper,
                               std::min(kFlatItem, n_ - at));
    });
  }

 private:
  std::int64_t n_;
};

// sgd(param, grad, momentum_buffer?, hyper) updates param and buffer in place. hyper: learning rate,
// momentum, weight decay, dampening, nesterov, first step. Without a buffer there is no momentum.
class Sgd : public OpDef {
 public:
  const char* name() const override { return "sgd"; }
  std::vector<TensorDesc> infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
    expect_inputs(in, 2, 4, "param, grad, momentum buffer and hyper");
    check(in.size() == 4 && !in[3].absent, "expected param, grad, momentum buffer (or none) and hyper, got ",
          in.size(), " operands");
    expect_float(in[0], "param");
    expect_shape(in[1], "gradient", in[0].shape, "the parameter");
    if (!in[2].absent) expect_shape(in[2], "momentum buffer", in[0].shape, "the parameter");
    expect_float(in[3], "hyper");
    check(in[3].shape.numel() == 6,
          "expected 6 hyper values (lr, momentum, weight decay, dampening, nesterov, first step), got ",
          in[3].shape.numel());
    return {};
  }
  bool batched_input(int) const override { return false; }
  bool updates(int input) const override { return input == 0 || input == 2; }
  const std::vector<Impl>& implementations() const override {
    static const std::vector<Impl> list = {
        {"flat", [](const Problem&) { return std::string(); }, prepare<SgdRun>}};
    return list;
  }
  Cost cost(const Problem& p) const override {
    return {(p.inputs[2].absent ? 4.0 : 7.0) * static_cast<double>(p.inputs[0].shape.numel())};
  }
};

}  // namespace

void register_sgd(Registry& r) {
  static const Sgd sgd;
  r.add(sgd);
}

}  // namespace fastcnn::ops
