// The parts of an op that are the same for all, and the walk along the list of implementations.
#include "ops/op.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/parallel.h"

namespace fastcnn::ops {

Context current_context() { return {Device::kCpu, &kernels(), num_threads()}; }

std::vector<ValueId> OpDef::backward(GradBuilder&, const Call&, const std::vector<ValueId>&) const {
  throw ValueError("has no gradient");
}

namespace {

bool verbose_dispatch() {
  static const bool on = [] {
    const char* v = std::getenv("FASTCNN_VERBOSE");
    return v && std::strstr(v, "dispatch");
  }();
  return on;
}

std::string shapes_of(const Problem& p) {
  std::string s;
  for (const TensorDesc& d : p.inputs)
    s += (s.empty() ? "" : ", ") + (d.absent ? std::string("-") : d.shape.text() + " " + name_of(d.layout));
  return s;
}

}  // namespace

const Impl* taker(const OpDef& op, const Problem& p, std::string* reasons) {
  bool named = false;
  for (const Impl& impl : op.implementations(p.context.device)) {
    if (!p.implementation.empty() && p.implementation != impl.name) continue;
    named = true;
    const std::string why = impl.declines(p);
    if (why.empty()) return &impl;
    if (reasons) *reasons += (reasons->empty() ? "" : "; ") + str(impl.name, ": ", why);
  }
  if (!named && reasons) {
    *reasons = str("no implementation named '", p.implementation, "'; there are:");
    for (const Impl& impl : op.implementations(p.context.device)) *reasons += str(" ", impl.name);
  }
  return nullptr;
}

Choice choose(const OpDef& op, const Problem& p) {
  std::string reasons;
  const Impl* impl = taker(op, p, &reasons);
  const std::string name = impl ? str(op.name(), ":", impl->name, ":", p.kernels().isa) : "none";
  if (verbose_dispatch())
    std::fprintf(stderr, "fastcnn: %s(%s): %s%s%s%s\n", op.name(), shapes_of(p).c_str(), name.c_str(),
                 reasons.empty() ? "" : " [", reasons.c_str(), reasons.empty() ? "" : "]");
  if (!impl) throw ValueError(str("no implementation takes this problem (", shapes_of(p), "): ", reasons));
  return {name, impl};
}

}  // namespace fastcnn::ops
