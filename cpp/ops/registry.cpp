#include "ops/registry.h"

#include <algorithm>

namespace fastcnn::ops {
namespace {

const Registry& registry() {
  static const Registry all = [] {
    Registry r;
    register_activation(r);
    register_batchnorm(r);
    register_conv2d(r);
    register_elementwise(r);
    register_shape_ops(r);
    register_layout(r);
    register_linear(r);
    register_loss(r);
    register_pool(r);
    register_sgd(r);
    return r;
  }();
  return all;
}

}  // namespace

void Registry::add(const OpDef& op) { ops_.push_back(&op); }

const OpDef* Registry::find(const std::string& name) const {
  for (const OpDef* op : ops_)
    if (name == op->name()) return op;
  return nullptr;
}

std::vector<std::string> Registry::names() const {
  std::vector<std::string> out;
  for (const OpDef* op : ops_) out.emplace_back(op->name());
  std::sort(out.begin(), out.end());
  return out;
}

const OpDef& find_op(const std::string& name) {
  if (const OpDef* op = registry().find(name)) return *op;
  std::string known;
  for (const auto& n : op_names()) known += (known.empty() ? "" : ", ") + n;
  throw ValueError(str("unknown op '", name, "'; known: ", known));
}

std::vector<std::string> op_names() { return registry().names(); }

}  // namespace fastcnn::ops
