#include "graph/plan_memory.h"

#include <algorithm>
#include <map>

#include "graph/memory.h"

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

std::int64_t MemoryPlanner::place_locals(int launch) {
  std::vector<Buffer> local;
  std::vector<ValueId> value;             // that each buffer was made for
  std::map<ValueId, std::size_t> shares;  // the buffer each root lies in
  for (std::size_t s = 0; s < order_[at(launch)].nodes.size(); ++s) {
    const PlannedNode& p = planned(launch, s);
    for (std::size_t k = 0; k < p.node->out.size(); ++k) {
      const ValueId v = p.node->out[k], root = plan_.root_[at(v)];
      if (root == v && left_out(p, k)) continue;
      if (plan_.where_[at(root)].kind != Operand::kNull || shares.count(root) || !stays_inside(root, launch))
        continue;
      Buffer b{slice_bytes(root, launch), static_cast<int>(s), static_cast<int>(s), -1};
      for (const Use& u : uses_[at(root)]) b.last = std::max(b.last, u.step);
      const auto old = shares.find(reused(p, v));
      if (old != shares.end() && local[old->second].last == b.first && local[old->second].bytes == b.bytes) {
        local[old->second].last = b.last;
        shares[root] = old->second;
        continue;
      }
      shares[root] = local.size();
      local.push_back(b);
      value.push_back(root);
    }
  }
  const std::int64_t bytes = assign_offsets(local);
  for (const auto& [root, buffer] : shares)
    plan_.where_[at(root)] = {Operand::kLocal, 0, local[buffer].offset};
  for (std::size_t i = 0; i < local.size(); ++i)
    note(value[i], local[i].bytes, local[i].offset, local[i].first, local[i].last, "thread");
  return bytes;
}

void MemoryPlanner::place_arena() {
  std::vector<Buffer> arena, kept;
  std::vector<ValueId> arena_value, kept_value;
  std::vector<int> shares(uses_.size(), -1);  // index in `arena` of the buffer that a root lies in
  const auto last_use = [&](ValueId root) {
    int last = 0;
    for (const Use& u : uses_[at(root)]) last = std::max(last, u.launch);
    return last;
  };
  for (std::size_t l = 0; l < order_.size(); ++l)
    for (std::size_t s = 0; s < order_[l].nodes.size(); ++s) {
      const PlannedNode& p = planned(static_cast<int>(l), s);
      for (std::size_t k = 0; k < p.node->out.size(); ++k) {
        const ValueId v = p.node->out[k], root = plan_.root_[at(v)];
        if (plan_.where_[at(root)].kind != Operand::kNull || shares[at(root)] >= 0) continue;
        if (root == v && left_out(p, k)) continue;
        const std::int64_t bytes = ops::storage_bytes(plan_.graph().desc(root));
        if (p.section == kPrologue) {
          kept.push_back({bytes, 0, static_cast<int>(order_.size()), -1});
          kept_value.push_back(root);
          plan_.where_[at(root)].kind = Operand::kKept;
          continue;
        }
        const int last = last_use(root);
        const ValueId from = order_[l].segment ? kNoValue : reused(p, v);
        const int b = from == kNoValue ? -1 : shares[at(from)];
        if (b >= 0 && arena[at(b)].last == static_cast<int>(l) && arena[at(b)].bytes == bytes) {
          arena[at(b)].last = last;
          shares[at(root)] = b;
          continue;
        }
        shares[at(root)] = static_cast<int>(arena.size());
        arena.push_back({bytes, static_cast<int>(l), last, -1});
        arena_value.push_back(root);
      }
    }
  plan_.arena_bytes_ = assign_offsets(arena);
  plan_.kept_bytes_ = assign_offsets(kept);
  for (std::size_t v = 0; v < shares.size(); ++v)
    if (shares[v] >= 0) plan_.where_[v] = {Operand::kArena, 0, arena[at(shares[v])].offset};
  for (std::size_t i = 0; i < arena.size(); ++i)
    note(arena_value[i], arena[i].bytes, arena[i].offset, arena[i].first, arena[i].last, "arena");
  for (std::size_t i = 0; i < kept.size(); ++i) {
    plan_.where_[at(kept_value[i])].offset = kept[i].offset;
    note(kept_value[i], kept[i].bytes, kept[i].offset, kept[i].first, kept[i].last, "persistent");
  }
}

void MemoryPlanner::note(ValueId v, std::int64_t bytes, std::int64_t offset, int first, int last,
                         const char* place) {
  const Value& value = plan_.graph().value(v);
  const NodeId producer = value.producer;
  plan_.buffers_.push_back({producer == kNoNode ? "" : plan_.graph().nodes()[at(producer)].name,
                            value.desc.shape.text(), ops::name_of(value.desc.layout), place, bytes, offset,
                            first, last});
}

}  // namespace fastcnn::graph
