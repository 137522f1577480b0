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

std::vector<StepInfo> Plan::steps() const {
  std::vector<StepInfo> out;
  for (std::size_t l = 0; l < launches_.size(); ++l) {
    std::size_t in = 0, made = 0;  // operands of the launch before this step's
    for (std::size_t s = launches_[l].first_step; s < launches_[l].first_step + launches_[l].steps; ++s) {
      const PlannedNode& p = planned_[at(order_[s])];
      StepInfo info;
      info.layer = p.node->name;
      info.op = p.node->op->name();
      info.implementation = p.choice.name;
      info.detail = p.prepared->detail();
      info.fused = fused_text(*p.node);
      if (!p.problem.outputs.empty()) {
        info.layout = ops::name_of(p.problem.outputs[0].layout);
        info.output = p.problem.outputs[0].shape.text();
      }
      info.launch = static_cast<int>(l);
      info.section = launches_[l].section;
      info.segment = launches_[l].segment != nullptr;
      info.flops = p.node->op->cost(p.problem).flops;
      for (const TensorDesc& d : p.problem.inputs)
        if (!d.absent) info.bytes += static_cast<double>(ops::storage_bytes(d));
      for (std::size_t k = 0; k < p.problem.outputs.size(); ++k)
        if (p.problem.wants(k)) info.bytes += static_cast<double>(ops::storage_bytes(p.problem.outputs[k]));
      std::vector<bool> near_in, near_out;
      for (std::size_t k = 0; k < p.problem.inputs.size(); ++k)
        near_in.push_back(launches_[l].in[in + k].kind == Operand::kLocal);
      for (std::size_t k = 0; k < p.problem.outputs.size(); ++k)
        near_out.push_back(launches_[l].out[made + k].kind == Operand::kLocal);
      in += p.problem.inputs.size(), made += p.problem.outputs.size();
      info.predicted = seconds_of(*p.node->op, p.problem, near_in, near_out) / context().threads;
      out.push_back(std::move(info));
    }
  }
  return out;
}

}  // namespace fastcnn::graph
