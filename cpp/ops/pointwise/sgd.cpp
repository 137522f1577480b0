// The parameter update: SGD with momentum, dampening, Nesterov and coupled weight decay, as PyTorch defines
// them.
#include "ops/pointwise/flat.h"
#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

struct SgdKernel : FlatKernel {
  static constexpr int kWhole = 3;
  using FlatKernel::FlatKernel;
  void operator()(const void* const* in, void* const*, std::int64_t n) const {
    // Parameter and buffer are updated in their own memory.
    k.sgd(floats(const_cast<void*>(in[0])), floats(in[1]), floats(const_cast<void*>(in[2])), floats(in[3]),
          n);
  }
};

// sgd(param, grad, momentum_buffer?, hyper) updates param and buffer in place. hyper: learning rate,
// momentum, weight decay, dampening, nesterov, first step. Without a buffer there is no momentum.
class Sgd : public OpDef {
 public:
  Sgd() : OpDef("sgd", {}, flat<SgdKernel>()) {}
  Inferred infer(const Attrs&, const std::vector<TensorDesc>& in) const override {
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
  Cost cost(const Problem& p) const override {
    return {(p.inputs[2].absent ? 4.0 : 7.0) * static_cast<double>(p.inputs[0].shape.numel())};
  }
};

}  // namespace

void register_update(Registry& r) { r.add<Sgd>(); }

}  // namespace fastcnn::ops
