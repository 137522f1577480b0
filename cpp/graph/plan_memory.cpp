#include "graph/plan_memory.h"

#include <algorithm>

namespace fastcnn::graph {
namespace {

// Output k has no memory: nobody reads it, and its op can do without.
bool left_out(const PlannedNode& p, std::size_t k) {
  if (p.problem.wants(k)) return false;
  const Node& n = *p.node;
  std::size_t own = n.out.size();  // the op's; those of its post-ops follow
  for (const auto* list : {&n.before, &n.after})
    for (const ops::PostOp& post : *list)
      if (post.out >= 0) own = std::min(own, at(post.out));
  return k >= own || n.op->optional_output(static_cast<int>(k));
}

}  // namespace

MemoryPlanner::MemoryPlanner(Plan& plan, const std::vector<LaunchOrder>& order)
    : plan_(plan), order_(order), uses_(at(plan.graph().value_count())) {
  for (std::size_t l = 0; l < order.size(); ++l)
    for (std::size_t s = 0; s < order[l].nodes.size(); ++s) {
      const Node& n = *planned(static_cast<int>(l), s).node;
      const auto use = [&](ValueId v, std::size_t operand, bool writes) {
        if (v != kNoValue)
          uses_[at(plan.root_[at(v)])].push_back(
              {static_cast<int>(l), static_cast<int>(s), static_cast<int>(operand), writes});
      };
      for (std::size_t k = 0; k < n.in.size(); ++k) use(n.in[k], k, false);
      for (std::size_t k = 0; k < n.out.size(); ++k) use(n.out[k], k, true);
    }
}

std::vector<std::int64_t> MemoryPlanner::run() {
  plan_.where_.assign(uses_.size(), {});
  place_outside();
  std::vector<std::int64_t> local_bytes;
  for (std::size_t l = 0; l < order_.size(); ++l)
    local_bytes.push_back(order_[l].segment ? place_locals(static_cast<int>(l)) : 0);
  place_arena();
  return local_bytes;
}

void MemoryPlanner::place_outside() {
  const Graph& g = plan_.graph();
  for (ValueId v = 0; v < g.value_count(); ++v) {
    if (g.value(v).source == Source::kInput) plan_.where_[at(v)] = {Operand::kInput, g.value(v).input, 0};
    if (g.value(v).source == Source::kTensor) plan_.where_[at(v)] = {Operand::kTensor, v, 0};
  }
  for (std::size_t k = 0; k < plan_.program_.outputs.size(); ++k)
    plan_.where_[at(plan_.program_.outputs[k])] = {Operand::kOutput, static_cast<std::int64_t>(k), 0};
}

bool MemoryPlanner::stays_inside(ValueId root, int launch) const {
  for (const Use& u : uses_[at(root)]) {
    if (u.launch != launch) return false;
    const ops::Sliced* op = planned(launch, at(u.step)).prepared->as_sliced();
    if (u.writes ? !op->cuts_out(u.operand) : !op->cuts_in(u.operand)) return false;
  }
  return true;
}

std::int64_t MemoryPlanner::slice_bytes(ValueId root, int launch) const {
  for (const Use& u : uses_[at(root)])
    if (u.writes) return planned(launch, at(u.step)).prepared->as_sliced()->out_step(u.operand);
  return 0;
}

// The value whose buffer output v of this step may take over, if it is free by then.
ValueId MemoryPlanner::reused(const PlannedNode& p, ValueId v) const {
  const int i = p.node->op->in_place(p.problem);
  if (i < 0 || p.node->out[0] != v || plan_.root_[at(v)] != v) return kNoValue;
  const ValueId from = p.node->in[at(i)];
  const ValueId root = plan_.root_[at(from)];
  const bool all_of_it =
      ops::storage_bytes(plan_.graph().desc(from)) == ops::storage_bytes(plan_.graph().desc(root));
  return all_of_it ? root : kNoValue;
}

template <class F>
void MemoryPlanner::each_new(int launch, F&& f) {
  for (std::size_t s = 0; s < order_[at(launch)].nodes.size(); ++s) {
    const PlannedNode& p = planned(launch, s);
    for (std::size_t k = 0; k < p.node->out.size(); ++k) {
      const ValueId v = p.node->out[k], root = plan_.root_[at(v)];
      const bool placed = plan_.where_[at(root)].kind != Operand::kNull;
      if (!placed && !(root == v && left_out(p, k))) f(p, v, root, static_cast<int>(s));
    }
  }
}

// The root has a buffer of `bytes` from launch (or step) `first` on; that of `from` if it is free by then.
void Area::add(ValueId root, const Buffer& b, ValueId from) {
  const auto old = of.find(from);
  if (old != of.end() && buffers[old->second].last == b.first && buffers[old->second].bytes == b.bytes) {
    buffers[old->second].last = b.last;
    of[root] = old->second;
    return;
  }
  of[root] = buffers.size();
  buffers.push_back(b);
  made_for.push_back(root);
}

std::int64_t MemoryPlanner::place_locals(int launch) {
  Area local;
  each_new(launch, [&](const PlannedNode& p, ValueId v, ValueId root, int step) {
    if (local.of.count(root) || !stays_inside(root, launch)) return;
    Buffer b{slice_bytes(root, launch), step, step, -1};
    for (const Use& u : uses_[at(root)]) b.last = std::max(b.last, u.step);
    local.add(root, b, reused(p, v));
  });
  return settle(local, Operand::kLocal, "thread");
}

void MemoryPlanner::place_arena() {
  Area arena, kept;
  for (int l = 0; l < static_cast<int>(order_.size()); ++l)
    each_new(l, [&](const PlannedNode& p, ValueId v, ValueId root, int) {
      if (arena.of.count(root) || kept.of.count(root)) return;
      Buffer b{ops::storage_bytes(plan_.graph().desc(root)), l, 0, -1};
      if (p.section == kPrologue) {
        b.first = 0, b.last = static_cast<int>(order_.size());
        kept.add(root, b, kNoValue);
        return;
      }
      for (const Use& u : uses_[at(root)]) b.last = std::max(b.last, u.launch);
      arena.add(root, b, order_[at(l)].segment ? kNoValue : reused(p, v));
    });
  plan_.arena_bytes_ = settle(arena, Operand::kArena, "arena");
  plan_.kept_bytes_ = settle(kept, Operand::kKept, "persistent");
}

std::int64_t MemoryPlanner::settle(Area& area, Operand::Kind kind, const char* place) {
  const std::int64_t bytes = assign_offsets(area.buffers);
  for (const auto& [root, i] : area.of) plan_.where_[at(root)] = {kind, 0, area.buffers[i].offset};
  for (std::size_t i = 0; i < area.buffers.size(); ++i) {
    const Buffer& b = area.buffers[i];
    const Value& value = plan_.graph().value(area.made_for[i]);
    const NodeId producer = value.producer;
    plan_.buffers_.push_back({{"layer", producer == kNoNode ? "" : plan_.graph().nodes()[at(producer)].name},
                              {"shape", value.desc.shape.text()},
                              {"layout", ops::name_of(value.desc.layout)},
                              {"place", place},
                              {"bytes", b.bytes},
                              {"offset", b.offset},
                              {"first", std::int64_t{b.first}},
                              {"last", std::int64_t{b.last}}});
  }
  return bytes;
}

}  // namespace fastcnn::graph
