// What every pass must leave true. For tests: FASTCNN_POISON=1 looks after each pass of each plan.
#include <algorithm>
#include <stdexcept>

#include "graph/passes/passes.h"

namespace fastcnn::graph {

void verify(const Program& p, const char* pass, bool laid_out) {
  const Graph& g = p.graph;
  const auto& nodes = g.nodes();
  const Node* n = nullptr;  // that is looked at
  NodeId i = kNoNode;
  const auto expect = [&](bool ok, const char* what) {
    if (ok) return;
    const std::string who = n ? str("at ", n->op->name(), " '", n->name, "' (", n->id, ") ") : "";
    throw std::logic_error(str("after the pass ", pass, ": ", who, "expected ", what));
  };
  const auto made = [&](ValueId v) {
    if (v < 0 || v >= g.value_count()) return false;
    if (g.value(v).source != Source::kNode) return true;
    const auto by = at(g.value(v).producer);  // kNoNode is past all
    return by < nodes.size() && !nodes[by].dead && std::count(nodes[by].out.begin(), nodes[by].out.end(), v);
  };
  const auto each_live = [&](auto&& look) {
    for (i = 0; at(i) < nodes.size(); ++i)
      if (n = &nodes[at(i)]; !n->dead) look();
    n = nullptr;
  };
  std::vector<NodeId> position(at(g.id_count()), kNoNode);
  each_live([&] {
    expect(position[at(n->id)] == kNoNode, "an id of its own");
    position[at(n->id)] = i;
    for (const ValueId v : n->in) expect(v == kNoValue || made(v), "operands that somebody makes");
    for (const ValueId v : n->out) expect(made(v) && g.value(v).producer == i, "results of its own");
  });
  expect(std::all_of(p.outputs.begin(), p.outputs.end(), made), "outputs that somebody makes");

  std::vector<std::vector<bool>> after(nodes.size());  // [i][j]: node i cannot run before node j
  std::map<const Storage*, std::vector<std::pair<NodeId, bool>>> touched;  // by whom so far; true: written
  const std::vector<bool> read = readers_of(p).read;
  each_live([&] {
    after[at(i)].resize(nodes.size());
    const auto need = [&](NodeId j) {
      if (j == kNoNode || j == i) return;
      expect(j < i, "a place after all that it needs");  // so there is no circle
      expect(nodes[at(j)].section <= n->section, "a section no earlier than that of what it needs");
      for (std::size_t k = 0; k < at(j); ++k) after[at(i)][k] = after[at(i)][k] || after[at(j)][k];
      after[at(i)][at(j)] = true;
    };
    for (const int e : n->effects) need(position[at(p.now(e))]);
    for (std::size_t k = 0; k < n->in.size(); ++k) {
      if (n->in[k] == kNoValue) continue;
      const Value& x = g.value(n->in[k]);
      need(x.producer);
      expect(x.source != Source::kInput || x.section <= n->section, "inputs that are bound by then");
      const Layout own = ops::placed(x.desc, n->layout, p.context.kernels->width).layout;
      expect(!laid_out || x.desc.layout == own || n->op->any_layout(static_cast<int>(k)),
             "operands in its layout");
    }
    for (const ValueId v : n->in) {
      const Storage* const memory = v == kNoValue ? nullptr : g.memory_of(v);
      if (!memory) continue;
      const bool writes = std::count(n->writes.begin(), n->writes.end(), v) > 0;
      for (const auto& [j, wrote] : touched[memory])
        expect(j == i || after[at(i)][at(j)] || !(wrote || writes), "to wait for who used its memory before");
      touched[memory].emplace_back(i, writes);
    }
    for (const ValueId v : n->out) {
      const Value& x = g.value(v);
      if (x.slice_of == kNoValue) continue;
      const TensorDesc& whole = g.desc(x.slice_of);
      expect(x.desc.layout == whole.layout && x.desc.pitch == (whole.pitch ? whole.pitch : whole.shape[1]) &&
                 x.first_channel >= 0 && x.first_channel + x.desc.shape[1] <= whole.shape[1],
             "slices inside their parents");
    }
    // Who was forced and declines is refused when the step is planned.
    const bool planned = n->alias || !n->implementation.empty();
    expect(!laid_out || planned || ops::taker(*n->op, problem_of(g, *n, p.context, &read)),
           "somebody to take it");
  });
}

}  // namespace fastcnn::graph
