// Who reads what, dead nodes, and batch norm folded into weights.
#include <algorithm>

#include "graph/passes/passes.h"

namespace fastcnn::graph {

bool Program::is_output(ValueId v) const {
  return std::find(outputs.begin(), outputs.end(), v) != outputs.end();
}

void Program::tidy() {
  auto& nodes = graph.nodes();
  nodes.erase(std::remove_if(nodes.begin(), nodes.end(), [](const Node& n) { return n.dead; }), nodes.end());
  renew_producers();
}

void Program::renew_producers() {
  for (std::size_t i = 0; i < graph.nodes().size(); ++i)
    if (!graph.nodes()[i].dead)
      for (const ValueId v : graph.nodes()[i].out) graph.value(v).producer = static_cast<NodeId>(i);
}

Readers readers_of(const Program& p) {
  const Graph& g = p.graph;
  Readers r;
  r.of.resize(at(g.value_count()));
  r.read.resize(at(g.value_count()), false);
  for (std::size_t i = 0; i < g.nodes().size(); ++i) {
    if (g.nodes()[i].dead) continue;
    for (const ValueId v : g.nodes()[i].in) {
      if (v == kNoValue) continue;
      auto& list = r.of[at(v)];
      if (list.empty() || list.back() != static_cast<NodeId>(i)) list.push_back(static_cast<NodeId>(i));
      r.read[at(v)] = true;
    }
  }
  for (const ValueId v : p.outputs) r.read[at(v)] = true;
  return r;
}

void prune(Program& p) {
  std::vector<bool> live(at(p.graph.value_count()), false);
  for (const ValueId v : p.outputs) live[at(v)] = true;
  for (auto n = p.graph.nodes().rbegin(); n != p.graph.nodes().rend(); ++n) {
    bool needed = !n->writes.empty();
    for (const ValueId v : n->out) needed = needed || live[at(v)];
    n->dead = n->dead || !needed;
    if (n->dead) continue;
    for (const ValueId v : n->in)
      if (v != kNoValue) live[at(v)] = true;
  }
}

namespace {

ValueId operand(const Node& n, int i) { return i >= 0 && at(i) < n.in.size() ? n.in[at(i)] : kNoValue; }

// The fold of `affine` into `base`, whose weight and bias it replaces.
Node fold_of(Graph& g, Node& base, const ops::FoldSite& site, const Node& affine,
             const ops::ChannelAffine& a) {
  if (base.in.size() <= at(site.bias)) base.in.resize(at(site.bias) + 1, kNoValue);
  ValueId &weight = base.in[at(site.weight)], &bias = base.in[at(site.bias)];
  std::vector<ValueId> in = {weight, bias};
  for (const int i : {a.mean, a.var, a.gamma, a.beta}) in.push_back(operand(affine, i));
  Node fold =
      g.node_of(ops::find_op("fold_channel_affine"), {{"eps", a.eps}, {"axis", std::int64_t{site.axis}}}, in);
  fold.name = affine.name;
  weight = fold.out[0], bias = fold.out[1];
  return fold;
}

}  // namespace

void fold_affine(Program& p) {
  Graph& g = p.graph;
  const Readers readers = readers_of(p);
  std::vector<std::pair<std::size_t, Node>> folds;  // all computed before everything else
  const std::set<const Storage*> written = g.written();
  const auto constant = [&](const Node& n, int i) {
    const ValueId v = operand(n, i);
    return v == kNoValue ||
           (g.value(v).source == Source::kTensor && !written.count(g.value(v).tensor.storage().get()));
  };
  for (Node& affine : g.nodes()) {
    if (affine.dead) continue;
    const ops::ChannelAffine a = affine.op->channel_affine(affine.facts.get());
    if (a.mean < 0) continue;
    bool changes = false;
    for (const int i : {a.mean, a.var, a.gamma, a.beta}) changes = changes || !constant(affine, i);
    if (changes) continue;
    const ValueId x = affine.in[0];
    const NodeId producer = g.value(x).producer;
    if (producer == kNoNode || p.is_output(x) || readers.of[at(x)].size() != 1) continue;
    Node& base = g.nodes()[at(producer)];
    const ops::FoldSite site = base.op->fold_site(base.facts.get());
    // Weights that the graph itself computes or changes stay.
    if (site.weight < 0 || base.section != affine.section || operand(base, site.weight) == kNoValue ||
        !constant(base, site.weight) || !constant(base, site.bias))
      continue;
    folds.emplace_back(0, fold_of(g, base, site, affine, a));
    base.out[0] = affine.out[0];
    affine.dead = true;
  }
  insert_before(p, std::move(folds));
}

}  // namespace fastcnn::graph
