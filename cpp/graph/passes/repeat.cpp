// Repeating: what is cheap to compute again from a slice that stays anyway is not kept for the backward pass.
// Each layer of a DenseNet normalises all maps before it; kept, those values would grow with the square of
// the depth (Pleiss et al. 2017).
#include <algorithm>

#include "graph/passes/passes.h"

namespace fastcnn::graph {
namespace {

class Repeater : Pass {
 public:
  using Pass::Pass;

  void run() {
    const std::size_t count = g_.nodes().size();
    for (std::size_t i = 0; i < count; ++i) {
      const Node& n = g_.nodes()[i];
      if (!n.dead && !n.gradient && n.op->cheap_to_repeat() && g_.value(n.in[0]).slice_of != kNoValue)
        repeat(i);
    }
    insert_before(p_, std::move(made_));
  }

 private:
  // The node and the function that follows it, once more for their gradients' readers.
  void repeat(std::size_t i) {
    std::vector<std::size_t> chain = {i};
    ValueId kept = g_.nodes()[i].out[0];
    for (const NodeId r : readers_.of[at(kept)]) {
      const Node& f = node(r);
      if (f.gradient || f.op->as_post(f.facts.get()).kind != ops::PostKind::kFunction) continue;
      if (gradient_readers(kept).empty()) chain.push_back(at(r)), kept = f.out[0];
      break;
    }
    const std::vector<NodeId> later = gradient_readers(kept);
    if (later.empty() || p_.is_output(kept) || g_.value(kept).slice_of != kNoValue) return;
    for (const std::size_t k : chain)
      if (!reads_the_same(g_.nodes()[k], later.front())) return;
    ValueId again = kNoValue;
    for (const std::size_t k : chain) again = copy(k, again, later.front());
    for (const NodeId r : later)
      for (ValueId& v : node(r).in)
        if (v == kept) v = again;
  }

  // Computed before position `before`, the node would still read what it reads now: nobody writes that until
  // then, and the caller of a later section has had no chance to.
  bool reads_the_same(const Node& n, NodeId before) const {
    if (n.section != node(before).section) return false;
    for (NodeId i = 0; i < before; ++i)
      if (writes_what(node(i), n)) return false;
    return true;
  }

  // Whether `writer` changes a memory that `reader` reads.
  bool writes_what(const Node& writer, const Node& reader) const {
    for (const ValueId v : writer.writes)
      for (const ValueId u : reader.in)
        if (u != kNoValue && g_.value(u).tensor.storage() == g_.value(v).tensor.storage()) return true;
    return false;
  }

  std::vector<NodeId> gradient_readers(ValueId v) const {
    std::vector<NodeId> out;
    for (const NodeId r : readers_.of[at(v)])
      if (node(r).gradient) out.push_back(r);
    return out;
  }

  // Node k again, before position `before`, on `x` instead of its first operand where that is one.
  ValueId copy(std::size_t k, ValueId x, NodeId before) {
    Node again = g_.nodes()[k];
    again.id = g_.new_id();
    again.section = node(before).section;
    again.gradient = true;
    if (x != kNoValue) again.in[0] = x;
    for (ValueId& v : again.out) v = g_.new_value(g_.desc(v));
    // Not before the gradient that needs it is there: early is as good as kept.
    NodeId latest = kNoNode;
    for (const ValueId v : node(before).in)
      if (v != kNoValue) latest = std::max(latest, g_.value(v).producer);
    if (latest != kNoNode) again.effects.push_back(node(latest).id);
    for (Node& n : g_.nodes())  // who changes what it reads waits for it
      if (writes_what(n, again)) n.effects.push_back(again.id);
    const ValueId out = again.out[0];
    made_.emplace_back(at(before), std::move(again));
    return out;
  }
};

}  // namespace

void repeat(Program& p) { Repeater(p).run(); }

}  // namespace fastcnn::graph
