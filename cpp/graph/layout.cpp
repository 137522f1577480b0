// Layout: which nodes compute channels-last and which batch-interleaved, and the conversions between them.
#include <algorithm>
#include <limits>

#include "graph/passes.h"

namespace fastcnn::graph {
namespace {

bool placed(const TensorDesc& d) {
  return d.batched && (d.shape.rank() == 4 || (d.shape.rank() == 2 && d.takes_layout()));
}

Layout layout_in(Mode mode, const TensorDesc& d) {
  if (!placed(d)) return Layout::kPlain;
  if (mode == Mode::kInterleaved) return Layout::kInterleaved;
  return d.shape.rank() == 4 ? Layout::kNHWC : Layout::kPlain;
}

// The node's problem as it would be in `mode`.
ops::Problem problem_in(const Graph& g, const Node& n, Mode mode, const std::vector<bool>& read) {
  ops::Problem p = problem_of(g, n, read);
  for (TensorDesc& d : p.inputs) d.layout = layout_in(mode, d);
  for (TensorDesc& d : p.outputs) d.layout = layout_in(mode, d);
  return p;
}

// Seconds on one core of a recent server; only ratios matter. A value that is born and read within one
// segment stays in the thread's cache, where a byte costs about a quarter.
constexpr double kPeak = 170e9, kMemory = 12e9, kCache = 48e9;

// Which segment a node could be part of if everything were interleaved: steps that need the whole batch
// (statistics, weight gradients of fully connected layers) end one. Values that cross from one to the next go
// through memory.
std::vector<int> segments_of(const Graph& g, const std::vector<bool>& read) {
  std::vector<int> segment(g.nodes().size(), 0);
  std::vector<bool> whole(g.nodes().size(), false);
  for (std::size_t i = 0; i < g.nodes().size(); ++i) {
    const Node& n = g.nodes()[i];
    if (n.dead) continue;
    const ops::Problem p = problem_in(g, n, Mode::kInterleaved, read);
    whole[i] = !ops::why_not(*n.op, p).empty() || !ops::blockwise(*n.op, p);
    for (const ValueId v : n.in) {
      const NodeId from = v == kNoValue ? kNoNode : g.value(v).producer;
      if (from == kNoNode) continue;
      const auto at = static_cast<std::size_t>(from);
      segment[i] = std::max(segment[i], segment[at] + (whole[at] || whole[i] ? 1 : 0));
    }
  }
  return segment;
}

class CostModel {
 public:
  CostModel(const Graph& g, const Readers& readers)
      : g_(g), readers_(readers), segment_(segments_of(g, readers.read)) {}

  double seconds(std::size_t i, Mode mode) const {
    const Node& n = g_.nodes()[i];
    const ops::Problem p = problem_in(g_, n, mode, readers_.read);
    if (!ops::why_not(*n.op, p).empty()) return std::numeric_limits<double>::infinity();
    double memory = 0;
    for (std::size_t k = 0; k < n.in.size(); ++k)
      if (n.in[k] != kNoValue) memory += transfer(n.in[k], p.inputs[k], mode);
    for (std::size_t k = 0; k < n.out.size(); ++k)
      if (p.wanted[k]) memory += transfer(n.out[k], p.outputs[k], mode);
    const ops::Cost cost = n.op->cost(p);
    return cost.efficiency > 0 ? std::max(cost.flops / (kPeak * cost.efficiency), memory) : memory;
  }

 private:
  double transfer(ValueId v, const TensorDesc& d, Mode mode) const {
    const NodeId from = g_.value(v).producer;
    bool near = mode == Mode::kInterleaved && from != kNoNode;
    if (near)
      for (const NodeId r : readers_.of[static_cast<std::size_t>(v)])
        near = near && segment_[static_cast<std::size_t>(r)] == segment_[static_cast<std::size_t>(from)];
    return static_cast<double>(ops::storage_bytes(d)) / (near ? kCache : kMemory);
  }

  const Graph& g_;
  const Readers& readers_;
  std::vector<int> segment_;
};

// Networks have few channels at first and many later, so one cut decides: the first k forward nodes
// interleaved, the rest channels-last; a gradient node goes with its forward node. Tries every k.
std::int64_t best_cut(const Graph& g, const Readers& readers, std::int64_t batch_lanes_used,
                      std::int64_t lanes) {
  const auto& nodes = g.nodes();
  std::vector<std::int64_t> rank(nodes.size(), 0);  // position of the forward node among forward nodes
  std::int64_t forward = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (nodes[i].forward == kNoNode) rank[i] = forward++;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (nodes[i].forward != kNoNode) rank[i] = rank[static_cast<std::size_t>(nodes[i].forward)];
  std::vector<double> last(static_cast<std::size_t>(forward), 0.0), inter(last);
  const CostModel model(g, readers);
  const double waste =
      static_cast<double>(lanes) / static_cast<double>(std::max<std::int64_t>(1, batch_lanes_used));
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].dead) continue;
    last[static_cast<std::size_t>(rank[i])] += model.seconds(i, Mode::kChannelsLast);
    inter[static_cast<std::size_t>(rank[i])] += model.seconds(i, Mode::kInterleaved) * waste;
  }
  // Bytes of the values that cross a cut before rank k.
  std::vector<double> crossing(static_cast<std::size_t>(forward) + 1, 0.0);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].dead) continue;
    for (const ValueId v : nodes[i].out) {
      if (!placed(g.desc(v))) continue;
      for (const NodeId r : readers.of[static_cast<std::size_t>(v)]) {
        const std::int64_t a = std::min(rank[i], rank[static_cast<std::size_t>(r)]);
        const std::int64_t b = std::max(rank[i], rank[static_cast<std::size_t>(r)]);
        for (std::int64_t k = a + 1; k <= b; ++k)
          crossing[static_cast<std::size_t>(k)] += 2.0 * static_cast<double>(ops::storage_bytes(g.desc(v)));
      }
    }
  }
  double best = std::numeric_limits<double>::infinity();
  std::int64_t cut = 0;
  for (std::int64_t k = 0; k <= forward; ++k) {
    double t = k > 0 && k < forward ? crossing[static_cast<std::size_t>(k)] / kMemory : 0.0;
    for (std::int64_t i = 0; i < forward; ++i)
      t += i < k ? inter[static_cast<std::size_t>(i)] : last[static_cast<std::size_t>(i)];
    if (t < best) best = t, cut = k;
  }
  return cut;
}

std::int64_t batch_of(const Graph& g) {
  for (const Node& n : g.nodes())
    for (const ValueId v : n.out)
      if (placed(g.desc(v))) return g.desc(v).shape[0];
  return 0;
}

std::int64_t padded_batch(const Graph& g) {
  for (const Node& n : g.nodes())
    for (const ValueId v : n.out)
      if (placed(g.desc(v)) && g.desc(v).shape[0] > 0) {
        TensorDesc d = g.desc(v);
        d.layout = Layout::kInterleaved;
        return ops::storage_elements(d) / (d.shape.numel() / d.shape[0]);
      }
  return 0;
}

void choose_modes(Graph& g, const std::vector<ValueId>& outputs, const std::string& layout) {
  const Readers readers = readers_of(g, outputs);
  std::int64_t cut = 0;
  if (layout == "interleaved")
    cut = std::numeric_limits<std::int64_t>::max();
  else if (layout == "auto")
    cut = best_cut(g, readers, batch_of(g), padded_batch(g));
  else if (layout != "nhwc")
    throw ValueError(str("layout: expected auto, nhwc or interleaved, got '", layout, "'"));
  std::int64_t forward = 0;
  for (Node& n : g.nodes())
    n.mode = n.forward == kNoNode ? (forward++ < cut ? Mode::kInterleaved : Mode::kChannelsLast)
                                  : g.nodes()[static_cast<std::size_t>(n.forward)].mode;
  for (Node& n : g.nodes()) {
    if (n.dead) continue;  // a folded node's output belongs to the node that took its place
    for (const ValueId v : n.out) g.value(v).desc.layout = layout_in(n.mode, g.desc(v));
  }
}

// copy: into memory of its own, even where the bytes are the same.
Node conversion(Graph& g, ValueId from, Layout to, Mode mode, const std::string& name, bool copy) {
  TensorDesc d = g.desc(from);
  d.layout = to;
  Node n;
  n.op = &ops::find_op("convert");
  if (copy) n.attrs.set("copy", std::int64_t{1});
  n.in = {from};
  n.out = {g.new_value(d)};
  n.name = name;
  n.mode = mode;
  return n;
}

}  // namespace

void place(Graph& g, std::vector<ValueId>& outputs, const std::string& layout,
           const std::vector<ValueId>& kept) {
  choose_modes(g, outputs, layout);
  std::vector<Node> placed_nodes;
  std::vector<std::pair<std::pair<ValueId, Layout>, ValueId>> made;  // conversions so far
  const auto in_layout = [&](ValueId v, Layout want, const Node& n) {
    const bool copy = std::find(kept.begin(), kept.end(), v) != kept.end();
    if (g.desc(v).layout == want && !copy) return v;
    for (const auto& [key, have] : made)
      if (key.first == v && key.second == want) return have;
    placed_nodes.push_back(conversion(g, v, want, n.mode, n.name, copy));
    made.push_back({{v, want}, placed_nodes.back().out[0]});
    return placed_nodes.back().out[0];
  };
  std::vector<Node> originals;
  originals.swap(g.nodes());
  for (Node& n : originals) {
    if (n.dead) continue;
    for (ValueId& v : n.in)
      if (v != kNoValue) v = in_layout(v, layout_in(n.mode, g.desc(v)), n);
    placed_nodes.push_back(n);
  }
  g.nodes() = std::move(placed_nodes);
  // Outputs: plain, in memory of their own that nobody in the plan reads again.
  const Readers readers = readers_of(g, {});
  for (ValueId& v : outputs) {
    const bool once = std::count(outputs.begin(), outputs.end(), v) == 1;
    const bool shared =
        g.value(v).source != Source::kNode || !readers.of[static_cast<std::size_t>(v)].empty() || !once;
    if (!placed(g.desc(v)) && !shared) continue;  // written straight into the caller's memory
    Node n = conversion(g, v, Layout::kPlain, Mode::kChannelsLast, g.value(v).name, true);
    const auto from = std::find_if(g.nodes().begin(), g.nodes().end(), [&](const Node& m) {
      return std::find(m.out.begin(), m.out.end(), v) != m.out.end();
    });
    if (from != g.nodes().end()) n.mode = from->mode;
    v = n.out[0];
    g.nodes().push_back(n);
  }
  for (std::size_t i = 0; i < g.nodes().size(); ++i) {
    g.nodes()[i].forward = kNoNode;  // positions changed; nobody needs it after this pass
    for (const ValueId v : g.nodes()[i].out) g.value(v).producer = static_cast<NodeId>(i);
  }
}

}  // namespace fastcnn::graph
