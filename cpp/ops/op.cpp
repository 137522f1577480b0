// The parts of an op that are the same for all: sizes of values in each layout, and the walk along the list
// of implementations.
#include "ops/op.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/table.h"

namespace fastcnn::ops {

const char* name_of(Layout layout) {
  switch (layout) {
    case Layout::kPlain:
      return "nchw";
    case Layout::kNHWC:
      return "nhwc";
    case Layout::kInterleaved:
      return "interleaved";
  }
  return "?";
}

TensorDesc absent_desc() {
  TensorDesc d;
  d.absent = true;
  return d;
}

std::int64_t storage_elements(const TensorDesc& d) {
  if (d.layout != Layout::kInterleaved || d.shape.rank() == 0) return d.shape.numel();
  const std::int64_t n = d.shape[0], width = kernels().width;
  if (n == 0) return 0;
  return checked_product(d.shape.numel() / n, (n + width - 1) / width * width);
}

std::int64_t storage_bytes(const TensorDesc& d) {
  return checked_product(storage_elements(d), size_of(d.dtype));
}

bool same_memory(const TensorDesc& d, Layout a, Layout b) {
  if (a == b) return true;
  if (a == Layout::kInterleaved || b == Layout::kInterleaved) return false;
  return d.shape.rank() != 4 || d.shape[1] == 1 || d.shape[2] * d.shape[3] == 1;
}

std::vector<ValueId> OpDef::backward(GradBuilder&, const Call&, const std::vector<ValueId>&) const {
  throw ValueError("has no gradient");
}

Cost OpDef::cost(const Problem& p) const {
  return {p.outputs.empty() ? 0.0 : static_cast<double>(p.outputs[0].shape.numel())};
}

namespace {

bool verbose_dispatch() {
  static const bool on = [] {
    const char* v = std::getenv("FASTCNN_VERBOSE");
    return v && std::strstr(v, "dispatch");
  }();
  return on;
}

std::string full_name(const OpDef& op, const Impl& impl) {
  return str(op.name(), ":", impl.name, ":", kernels().isa);
}

std::string shapes_of(const Problem& p) {
  std::string s;
  for (const TensorDesc& d : p.inputs)
    s += (s.empty() ? "" : ", ") + (d.absent ? std::string("-") : d.shape.text() + " " + name_of(d.layout));
  return s;
}

// The first implementation that takes p, or null; `reasons` collects what the others said.
const Impl* first_taker(const OpDef& op, const Problem& p, std::string* reasons) {
  const std::string forced = p.attrs.text("implementation", "auto");
  for (const Impl& impl : op.implementations()) {
    if (forced != "auto" && forced != impl.name) continue;
    const std::string why = impl.declines(p);
    if (why.empty()) return &impl;
    *reasons += (reasons->empty() ? "" : "; ") + str(impl.name, ": ", why);
  }
  if (reasons->empty()) {
    *reasons = str("no implementation named '", forced, "'; there are:");
    for (const Impl& impl : op.implementations()) *reasons += str(" ", impl.name);
  }
  return nullptr;
}

}  // namespace

Choice choose(const OpDef& op, const Problem& p) {
  std::string reasons;
  const Impl* impl = first_taker(op, p, &reasons);
  if (verbose_dispatch())
    std::fprintf(stderr, "fastcnn: %s(%s): %s%s%s%s\n", op.name(), shapes_of(p).c_str(),
                 impl ? full_name(op, *impl).c_str() : "none", reasons.empty() ? "" : " [", reasons.c_str(),
                 reasons.empty() ? "" : "]");
  if (!impl) throw ValueError(str("no implementation takes this problem (", shapes_of(p), "): ", reasons));
  return {full_name(op, *impl), impl->prepare(p)};
}

std::string why_not(const OpDef& op, const Problem& p) {
  std::string reasons;
  return first_taker(op, p, &reasons) ? "" : reasons;
}

bool blockwise(const OpDef& op, const Problem& p) {
  std::string reasons;
  const Impl* impl = first_taker(op, p, &reasons);
  return impl && impl->prepare(p)->as_block_op();
}

}  // namespace fastcnn::ops
