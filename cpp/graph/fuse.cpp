// Fusion: a node absorbs its neighbours, one at a time, as long as its op allows it and the fused step has an
// implementation. The fused node stands where the absorbed neighbour stood, if that is later.
#include <algorithm>

#include "graph/passes.h"

namespace fastcnn::graph {
namespace {

using ops::Fusion;
using ops::Role;

class Fuser {
 public:
  Fuser(Graph& g, const std::vector<ValueId>& outputs) : g_(g), outputs_(outputs) { refresh(); }

  void run() {
    for (std::size_t i = 0; i < g_.nodes().size(); ++i)
      while (!g_.nodes()[i].dead && (absorb_follower(i) || absorb_gradient(i))) refresh();
  }

 private:
  Node& node(NodeId i) { return g_.nodes()[static_cast<std::size_t>(i)]; }
  const std::vector<NodeId>& readers(ValueId v) const { return readers_.of[static_cast<std::size_t>(v)]; }
  bool is_output(ValueId v) const { return std::find(outputs_.begin(), outputs_.end(), v) != outputs_.end(); }

  void refresh() {
    readers_ = readers_of(g_, outputs_);
    for (std::size_t i = 0; i < g_.nodes().size(); ++i)
      if (!g_.nodes()[i].dead)
        for (const ValueId v : g_.nodes()[i].out) g_.value(v).producer = static_cast<NodeId>(i);
  }

  bool feasible(const Node& n) {
    std::vector<bool> read = readers_.read;
    read.resize(static_cast<std::size_t>(g_.value_count()), false);
    if (!n.out.empty()) read[static_cast<std::size_t>(n.out[0])] = true;
    return ops::why_not(*n.op, problem_of(g_, n, read)).empty();
  }

  // The node that reads n's first output and could ride on it.
  bool absorb_follower(std::size_t i) {
    Node& n = g_.nodes()[i];
    if (n.out.empty()) return false;
    const ValueId y = n.out[0];
    for (const NodeId r : readers(y)) {
      Node& c = node(r);
      Role role = c.op->role(c.attrs);
      if (role == Role::kActivationGrad) role = Role::kActivationGradAfter;
      if (role == Role::kNone || c.mode != n.mode || !c.fusion.empty() ||
          !n.op->absorbs(role, n.fusion, n.attrs))
        continue;
      Node fused = n;
      bool at_follower = true;
      if (!merge(fused, c, role, y, at_follower) || !feasible(fused)) continue;
      if (at_follower && !can_move(n, r)) continue;
      c.dead = true;
      if (at_follower) {
        c = fused;
        n.dead = true;
      } else {
        n = fused;
      }
      return true;
    }
    return false;
  }

  bool merge(Node& n, const Node& c, Role role, ValueId y, bool& at_follower) {
    const bool alone = readers(y).size() == 1 && !is_output(y);
    switch (role) {
      case Role::kActivation:
        if (!alone) return false;
        n.fusion.activation = c.op->activation(c.attrs);
        n.out[0] = c.out[0];
        return true;
      case Role::kAdd: {
        const ValueId other = c.in[0] == y ? c.in[1] : c.in[0];
        if (!alone || other == y || g_.desc(other).layout != g_.desc(y).layout) return false;
        n.fusion.add = true;
        n.in.push_back(other);
        n.out[0] = c.out[0];
        return true;
      }
      case Role::kStatistics:
        if (c.in[0] != y) return false;
        at_follower = false;  // its other inputs are running statistics, there from the start
        n.fusion.statistics = true;
        n.fusion.momentum = c.attrs.number("momentum", 0.1);
        n.fusion.eps = c.attrs.number("eps", 1e-5);
        n.in.insert(n.in.end(), c.in.begin() + 1, c.in.end());
        n.out.insert(n.out.end(), c.out.begin(), c.out.end());
        n.writes.insert(n.writes.end(), c.writes.begin(), c.writes.end());
        return true;
      case Role::kPool: {
        n.fusion.pool = c.op->pool(c.attrs);
        if (n.fusion.pool.kind == ops::PoolSpec::kNone) return false;
        for (std::size_t k = 1; k < c.out.size(); ++k)
          if (readers_.read[static_cast<std::size_t>(c.out[k])]) return false;  // the arg-max is wanted
        at_follower = false;
        n.fusion.keep_unpooled = !alone;
        n.out[0] = c.out[0];
        if (!alone) n.out.push_back(y);
        return true;
      }
      case Role::kActivationGradAfter:
        if (!alone || c.in[0] != y || g_.desc(c.in[1]).layout != g_.desc(y).layout) return false;
        n.fusion.act_grad_after = c.op->activation(c.attrs);
        n.in.push_back(c.in[1]);
        n.out[0] = c.out[0];
        return true;
      default:
        return false;
    }
  }

  // n may run as late as node r if nothing before r reads what n makes, except r itself.
  bool can_move(const Node& n, NodeId r) const {
    for (const ValueId v : n.out)
      for (const NodeId reader : readers(v))
        if (reader < r) return false;
    return true;
  }

  // The activation's gradient that makes n's first input and could be computed on the way in.
  bool absorb_gradient(std::size_t i) {
    Node& n = g_.nodes()[i];
    if (n.in.empty() || n.in[0] == kNoValue || n.fusion.act_grad != ops::Activation::kNone) return false;
    const ValueId masked = n.in[0];
    const NodeId producer = g_.value(masked).producer;
    if (g_.value(masked).source != Source::kNode || producer == kNoNode || is_output(masked)) return false;
    Node& a = node(producer);
    if (a.dead || a.op->role(a.attrs) != Role::kActivationGrad || a.mode != n.mode || !a.fusion.empty() ||
        !n.op->absorbs(Role::kActivationGrad, n.fusion, n.attrs))
      return false;
    // Who else reads the masked gradient gets it from n: if one of them stands before n, n moves to a's
    // place.
    const bool early = readers(masked).front() < static_cast<NodeId>(i);
    if (early && !could_run_at(n, producer)) return false;
    Node fused = n;
    fused.in[0] = a.in[0];
    fused.in.push_back(a.in[1]);
    fused.fusion.act_grad = a.op->activation(a.attrs);
    if (readers(masked).size() > 1) {
      fused.fusion.keep_masked = true;
      fused.out.push_back(masked);
    }
    if (!feasible(fused)) return false;
    a.dead = true;
    if (early) {
      n.dead = true;
      a = fused;
    } else {
      n = fused;
    }
    return true;
  }

  // Everything n reads but its first input is there before node `at`.
  bool could_run_at(const Node& n, NodeId at) const {
    for (std::size_t k = 1; k < n.in.size(); ++k)
      if (n.in[k] != kNoValue && g_.value(n.in[k]).producer >= at) return false;
    return true;
  }

  Graph& g_;
  const std::vector<ValueId>& outputs_;
  Readers readers_;
};

}  // namespace

void fuse(Graph& g, const std::vector<ValueId>& outputs) {
  Fuser(g, outputs).run();
  auto& nodes = g.nodes();
  nodes.erase(std::remove_if(nodes.begin(), nodes.end(), [](const Node& n) { return n.dead; }), nodes.end());
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (const ValueId v : nodes[i].out) g.value(v).producer = static_cast<NodeId>(i);
}

}  // namespace fastcnn::graph
