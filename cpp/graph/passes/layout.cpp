// Layout: which nodes compute channels-last and which batch-interleaved, and the conversions between them. A
// node and its gradients are one vertex of a minimum cut: prices per vertex and layout, prices for moving the
// values between vertices that differ.
#include <algorithm>
#include <limits>
#include <map>

#include "graph/passes/min_cut.h"
#include "graph/passes/passes.h"
#include "graph/passes/price.h"

namespace fastcnn::graph {
namespace {

constexpr double kRefused = std::numeric_limits<double>::infinity();
constexpr Layout kLayouts[] = {Layout::kNHWC, Layout::kInterleaved};

class Placer : Pass {
 public:
  explicit Placer(Program& p) : Pass(p) {
    const auto& nodes = g_.nodes();
    for (std::size_t i = 0; i < nodes.size(); ++i)
      vertex_.push_back(nodes[i].forward == kNoNode ? vertices_++ : vertex_[at(nodes[i].forward)]);
  }

  void choose(const std::string& wish) {
    if (wish != "auto" && wish != "nhwc" && wish != "interleaved")
      throw ValueError(str("layout: expected auto, nhwc or interleaved, got '", wish, "'"));
    MinCut cut(vertices_);
    if (wish == "auto") find_segments();
    for (std::size_t i = 0; i < g_.nodes().size(); ++i)
      if (!g_.nodes()[i].dead) price(i, wish, cut);
    if (wish == "auto")
      for (ValueId v = 0; v < g_.value_count(); ++v) price_moves(v, cut);
    const std::vector<bool> interleaved = cut.solve();
    for (std::size_t i = 0; i < g_.nodes().size(); ++i) {
      Node& n = g_.nodes()[i];
      if (n.dead) continue;  // a folded node's output belongs to the node that took its place
      n.layout = kLayouts[interleaved[at(vertex_[i])]];
      for (const ValueId v : n.out) g_.value(v).desc = placed(v, n.layout);
    }
  }

 private:
  TensorDesc placed(ValueId v, Layout layout) const {
    return ops::placed(g_.desc(v), layout, p_.context.kernels->width);
  }

  ops::Problem problem_in(const Node& n, Layout layout) const {
    ops::Problem p = problem_of(g_, n, p_.context, &readers_.read);
    for (std::size_t i = 0; i < p.inputs.size(); ++i)
      if (!n.op->any_layout(static_cast<int>(i)))
        p.inputs[i] = ops::placed(p.inputs[i], layout, p_.context.kernels->width);
    for (TensorDesc& d : p.outputs) d = ops::placed(d, layout, p_.context.kernels->width);
    return p;
  }

  static bool has_layout(const ops::Problem& p) {
    for (const auto* list : {&p.inputs, &p.outputs})
      for (const TensorDesc& d : *list)
        if (ops::takes_layout(d)) return true;
    return false;
  }

  // The segment that each node could be part of if everything were interleaved: steps that need the whole
  // batch (statistics, weight gradients of fully connected layers) end one.
  void find_segments() {
    segment_.assign(g_.nodes().size(), 0);
    std::vector<bool> whole(g_.nodes().size(), false);
    for (std::size_t i = 0; i < g_.nodes().size(); ++i) {
      const Node& n = g_.nodes()[i];
      if (n.dead) continue;
      const ops::Impl* impl = ops::taker(*n.op, problem_in(n, Layout::kInterleaved));
      whole[i] = !impl || !impl->sliced;
      for (const ValueId v : n.in) {
        const NodeId from = v == kNoValue ? kNoNode : g_.value(v).producer;
        if (from == kNoNode) continue;
        segment_[i] = std::max(segment_[i], segment_[at(from)] + (whole[at(from)] || whole[i] ? 1 : 0));
      }
    }
  }

  // Born and read within one segment, and small enough to stay in its thread's cache.
  bool stays(ValueId v) const {
    const NodeId from = v == kNoValue ? kNoNode : g_.value(v).producer;
    if (from == kNoNode || !fits_cache(placed(v, Layout::kInterleaved))) return false;
    for (const NodeId r : readers_.of[at(v)])
      if (segment_[at(r)] != segment_[at(from)]) return false;
    return true;
  }

  void price(std::size_t i, const std::string& wish, MinCut& cut) {
    const Node& n = g_.nodes()[i];
    double seconds[2];
    for (int k = 0; k < 2; ++k) {
      const ops::Problem p = problem_in(n, kLayouts[k]);
      if (k == 0 && !has_layout(p)) return;
      if (!ops::taker(*n.op, p)) {
        seconds[k] = kRefused;
      } else if (wish != "auto") {
        seconds[k] = wish == ops::name_of(kLayouts[k]) ? 0 : 1;
      } else {
        std::vector<bool> in, out;
        if (k == 1) {
          for (const ValueId v : n.in) in.push_back(stays(v));
          for (const ValueId v : n.out) out.push_back(stays(v));
        }
        seconds[k] = seconds_of(*n.op, p, in, out);
      }
    }
    cut.price(vertex_[i], seconds[0], seconds[1]);
  }

  // v is moved once for all readers that differ from its producer.
  void price_moves(ValueId v, MinCut& cut) {
    const NodeId from = g_.value(v).producer;
    if (from == kNoNode || node(from).dead || !ops::takes_layout(g_.desc(v))) return;
    std::vector<int> others;
    for (const NodeId r : readers_.of[at(v)])
      if (vertex_[at(r)] != vertex_[at(from)]) others.push_back(vertex_[at(r)]);
    if (others.empty()) return;
    const double seconds = seconds_to_move(g_.desc(v), p_.context);
    const int own = vertex_[at(from)], any_one = cut.add_vertex(), any_zero = cut.add_vertex();
    cut.differ(own, any_one, seconds);  // the producer is 0 and some reader 1
    cut.differ(any_zero, own, seconds);
    for (const int other : others) {
      cut.differ(any_one, other, kRefused);
      cut.differ(other, any_zero, kRefused);
    }
  }

  std::vector<int> vertex_;  // by position
  int vertices_ = 0;
  std::vector<int> segment_;
};

}  // namespace

Node conversion(Program& p, ValueId from, Layout to, const Node& beside, bool copy) {
  Graph& g = p.graph;
  TensorDesc d = ops::placed(g.desc(from), to, p.context.kernels->width);
  d.pitch = 0;
  Node n = g.node_of(ops::find_op("convert"), {{"copy", std::int64_t{copy}}}, {from});
  g.value(n.out[0]).desc = d;
  n.name = beside.name;
  n.layout = beside.layout;
  n.section = beside.section;
  return n;
}

namespace {

// A view would show what is written later: views of tensors that the plan writes are of copies.
void copy_changing(Program& p) {
  Graph& g = p.graph;
  const std::set<const Storage*> written = g.written();
  if (written.empty()) return;
  std::vector<std::pair<std::size_t, Node>> copies;
  for (std::size_t i = 0; i < g.nodes().size(); ++i) {
    Node& n = g.nodes()[i];
    if (n.dead || !n.op->may_alias()) continue;
    for (ValueId& v : n.in) {
      if (v == kNoValue || !written.count(g.value(v).tensor.storage().get())) continue;
      Node copy = conversion(p, v, g.desc(v).layout, n, true);
      copy.effects = n.effects;
      copy.forward = n.forward;
      for (Node& writer : g.nodes())
        if (std::find(writer.effects.begin(), writer.effects.end(), n.id) != writer.effects.end())
          writer.effects.push_back(copy.id);
      v = copy.out[0];
      copies.emplace_back(i, std::move(copy));
    }
  }
  insert_before(p, std::move(copies));
}

}  // namespace

void insert_before(Program& p, std::vector<std::pair<std::size_t, Node>> made) {
  if (made.empty()) return;
  std::stable_sort(made.begin(), made.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  auto& nodes = p.graph.nodes();
  std::vector<Node> all;
  std::vector<NodeId> moved;  // where the node at each position went
  auto next = made.begin();
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (; next != made.end() && next->first == i; ++next) all.push_back(std::move(next->second));
    moved.push_back(static_cast<NodeId>(all.size()));
    all.push_back(std::move(nodes[i]));
  }
  for (Node& n : all)
    if (n.forward != kNoNode) n.forward = moved[at(n.forward)];
  nodes = std::move(all);
  p.renew_producers();
}

void place(Program& p, const std::string& layout) {
  copy_changing(p);
  Placer(p).choose(layout);
  Graph& g = p.graph;
  std::vector<Node> originals, nodes;
  const std::set<const Storage*> written = g.written();
  originals.swap(g.nodes());
  std::map<std::pair<ValueId, Layout>, ValueId> made;  // conversions so far
  std::vector<int> read_last(at(g.value_count()), 0);  // the last section that reads a value
  for (auto n = originals.rbegin(); n != originals.rend(); ++n) {
    if (n->dead) continue;
    for (const ValueId v : n->in)
      if (v != kNoValue) read_last[at(v)] = std::max(read_last[at(v)], n->section);
    if (n->op->may_alias() && n->in[0] != kNoValue)  // who reads a view reads what it shows
      read_last[at(n->in[0])] = std::max(read_last[at(n->in[0])], read_last[at(n->out[0])]);
  }
  const auto laid_out = [&](ValueId v, Layout want, const Node& n) {
    // Between two sections the caller may change its input array.
    const int section = g.value(v).section;
    const bool copy = g.value(v).source == Source::kInput && section < read_last[at(v)];
    const TensorDesc wanted = ops::placed(g.desc(v), want, p.context.kernels->width);
    if (g.desc(v).layout == wanted.layout && !copy) return v;
    ValueId& have = made.try_emplace({v, wanted.layout}, kNoValue).first->second;
    const bool changes = written.count(g.value(v).tensor.storage().get()) > 0;
    if (have == kNoValue || changes) {  // then every reader's is of its own place among the writers
      nodes.push_back(conversion(p, v, wanted.layout, n, copy));
      if (copy) nodes.back().section = section;
      if (changes) nodes.back().effects = n.effects;
      have = nodes.back().out[0];
    }
    return have;
  };
  for (Node& n : originals) {
    if (n.dead) continue;
    for (std::size_t i = 0; i < n.in.size(); ++i) {
      ValueId& v = n.in[i];
      if (v == kNoValue) continue;
      const bool any = n.op->any_layout(static_cast<int>(i)) && ops::takes_layout(g.desc(v));
      v = laid_out(v, any ? g.desc(v).layout : n.layout, n);
    }
    nodes.push_back(std::move(n));
  }
  g.nodes() = std::move(nodes);
  // Outputs: plain, in memory of their own that nobody in the plan reads again.
  const Readers readers = readers_of(p);
  for (ValueId& v : p.outputs) {
    const bool once = std::count(p.outputs.begin(), p.outputs.end(), v) == 1;
    const bool shared = g.value(v).source != Source::kNode || !readers.of[at(v)].empty() || !once;
    if (!ops::takes_layout(g.desc(v)) && !shared) continue;  // written straight into the caller's memory
    Node beside;
    beside.name = g.value(v).name;
    for (const Node& n : g.nodes())
      if (std::find(n.out.begin(), n.out.end(), v) != n.out.end()) beside = n;
    if (g.value(v).source == Source::kInput) beside.section = g.value(v).section;
    g.nodes().push_back(conversion(p, v, Layout::kPlain, beside, true));
    v = g.nodes().back().out[0];
  }
  for (Node& n : g.nodes()) n.forward = kNoNode;  // positions changed; nobody needs it after this pass
  p.tidy();
}

}  // namespace fastcnn::graph
