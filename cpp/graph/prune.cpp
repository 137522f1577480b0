// Who reads what, dead nodes, and batch norm folded into weights.
#include <algorithm>

#include "graph/passes.h"

namespace fastcnn::graph {

Readers readers_of(const Graph& g, const std::vector<ValueId>& outputs) {
  Readers r;
  r.of.resize(static_cast<std::size_t>(g.value_count()));
  r.read.resize(static_cast<std::size_t>(g.value_count()), false);
  for (std::size_t i = 0; i < g.nodes().size(); ++i) {
    const Node& n = g.nodes()[i];
    if (n.dead) continue;
    for (const ValueId v : n.in) {
      if (v == kNoValue) continue;
      auto& list = r.of[static_cast<std::size_t>(v)];
      if (list.empty() || list.back() != static_cast<NodeId>(i)) list.push_back(static_cast<NodeId>(i));
      r.read[static_cast<std::size_t>(v)] = true;
    }
  }
  for (const ValueId v : outputs) r.read[static_cast<std::size_t>(v)] = true;
  return r;
}

void prune(Graph& g, const std::vector<ValueId>& outputs) {
  std::vector<bool> live(static_cast<std::size_t>(g.value_count()), false);
  for (const ValueId v : outputs) live[static_cast<std::size_t>(v)] = true;
  for (auto n = g.nodes().rbegin(); n != g.nodes().rend(); ++n) {
    bool needed = !n->writes.empty();
    for (const ValueId v : n->out) needed = needed || live[static_cast<std::size_t>(v)];
    n->dead = n->dead || !needed;
    if (n->dead) continue;
    for (const ValueId v : n->in)
      if (v != kNoValue) live[static_cast<std::size_t>(v)] = true;
  }
}

void fold_affine(Graph& g, const std::vector<ValueId>& outputs) {
  // Positions by convention: an op that absorbs kChannelAffine has its weight at input 1 and its bias at
  // input 2; the affine op's inputs are (x, mean, var, gamma, beta).
  const Readers readers = readers_of(g, outputs);
  const std::size_t count = g.nodes().size();
  std::vector<Node> folds;
  for (std::size_t i = 0; i < count; ++i) {
    Node& affine = g.nodes()[i];
    if (affine.dead || affine.op->role(affine.attrs) != ops::Role::kChannelAffine) continue;
    const ValueId x = affine.in[0];
    const NodeId producer = g.value(x).producer;
    const bool is_output = std::find(outputs.begin(), outputs.end(), x) != outputs.end();
    if (producer == kNoNode || is_output || readers.of[static_cast<std::size_t>(x)].size() != 1) continue;
    Node& conv = g.nodes()[static_cast<std::size_t>(producer)];
    if (conv.in.size() < 3 || !conv.op->absorbs(ops::Role::kChannelAffine, conv.fusion, conv.attrs)) continue;
    if (g.value(conv.in[1]).source != Source::kTensor)
      continue;  // weights that the graph itself computes stay

    const ops::OpDef& op = ops::find_op("fold_channel_affine");
    Node fold;
    fold.op = &op;
    fold.attrs.set("eps", affine.attrs.number("eps", 1e-5));
    fold.name = affine.name;
    fold.in = {conv.in[1], conv.in[2], affine.in[1], affine.in[2], affine.in[3], affine.in[4]};
    std::vector<TensorDesc> descs;
    for (const ValueId v : fold.in) descs.push_back(v == kNoValue ? ops::absent_desc() : g.desc(v));
    for (const TensorDesc& d : op.infer(fold.attrs, descs)) fold.out.push_back(g.new_value(d));
    conv.in[1] = fold.out[0];
    conv.in[2] = fold.out[1];
    conv.out[0] = affine.out[0];
    g.value(affine.out[0]).producer = producer;
    affine.dead = true;
    folds.push_back(fold);
  }
  if (folds.empty()) return;
  // The folded weights are computed before everything else.
  std::vector<Node>& nodes = g.nodes();
  nodes.insert(nodes.begin(), folds.begin(), folds.end());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].forward != kNoNode) nodes[i].forward += static_cast<NodeId>(folds.size());
    if (!nodes[i].dead)
      for (const ValueId v : nodes[i].out) g.value(v).producer = static_cast<NodeId>(i);
  }
}

}  // namespace fastcnn::graph
