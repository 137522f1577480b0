#include "ops/registry.h"

namespace fastcnn::ops {
namespace {

const Registry& registry() {
  static const Registry all = [] {
    Registry r;
    register_conv(r);
    register_pool(r);
    register_norm(r);
    register_pointwise(r);
    register_linear(r);
    register_loss(r);
    register_shape(r);
    return r;
  }();
  return all;
}

}  // namespace

const OpDef& find_op(const std::string& name) {
  const auto& ops = registry().ops();
  if (const auto it = ops.find(name); it != ops.end()) return *it->second;
  std::string known;
  for (const auto& n : op_names()) known += (known.empty() ? "" : ", ") + n;
  throw ValueError(str("unknown op '", name, "'; known: ", known));
}

std::vector<std::string> op_names() {
  std::vector<std::string> out;
  for (const auto& [name, op] : registry().ops()) out.push_back(name);
  return out;
}

}  // namespace fastcnn::ops
