// A plan as people read it.
#include "graph/passes/price.h"
#include "graph/plan.h"

namespace fastcnn::graph {
namespace {

std::string fused_text(const Node& n) {
  std::string s;
  for (const auto* list : {&n.before, &n.after})
    for (const ops::PostOp& post : *list) s += (s.empty() ? "" : "+") + ops::text_of(post);
  return s;
}

}  // namespace

std::vector<Info> Plan::steps() const {
  std::vector<Info> out;
  for (std::size_t l = 0; l < launches_.size(); ++l) {
    const Launch& launch = launches_[l];
    std::size_t in = 0, made = 0;  // operands of the launch before this step's
    for (std::size_t s = launch.first_step; s < launch.first_step + launch.steps; ++s) {
      const PlannedNode& p = planned_[at(order_[s])];
      const auto& inputs = p.problem.inputs;
      const auto& outputs = p.problem.outputs;
      double bytes = 0;
      std::vector<bool> near_in, near_out;
      for (const TensorDesc& d : inputs) {
        if (!d.absent) bytes += static_cast<double>(ops::storage_bytes(d));
        near_in.push_back(launch.in[in++].kind == Operand::kLocal);
      }
      for (std::size_t k = 0; k < outputs.size(); ++k) {
        if (p.problem.wants(k)) bytes += static_cast<double>(ops::storage_bytes(outputs[k]));
        near_out.push_back(launch.out[made++].kind == Operand::kLocal);
      }
      out.push_back(
          {{"layer", p.node->name},
           {"op", p.node->op->name()},
           {"implementation", p.choice.name},
           {"detail", p.prepared->detail()},
           {"layout", outputs.empty() ? "" : ops::name_of(outputs[0].layout)},
           {"fused", fused_text(*p.node)},
           {"output", outputs.empty() ? "" : outputs[0].shape.text()},
           {"launch", static_cast<std::int64_t>(l)},
           {"section", std::int64_t{launch.section}},
           {"segment", std::int64_t{launch.segment != nullptr}},
           {"flops", p.node->op->cost(p.problem).flops},
           {"bytes", bytes},
           {"predicted", seconds_of(*p.node->op, p.problem, near_in, near_out) / context().threads}});
    }
  }
  return out;
}

}  // namespace fastcnn::graph
