#include "graph/schedule.h"

#include <algorithm>

namespace fastcnn::graph {
namespace {

class Scheduler {
 public:
  Scheduler(const Graph& g, const std::vector<PlannedNode>& nodes, const std::vector<ValueId>& root)
      : nodes_(nodes), root_(root), waits_(nodes.size()), done_(nodes.size(), false) {
    producer_.assign(static_cast<std::size_t>(g.value_count()), -1);
    for (std::size_t i = 0; i < nodes.size(); ++i)
      if (!nodes[i].view)
        for (const ValueId v : nodes[i].node->out)
          producer_[static_cast<std::size_t>(v)] = static_cast<int>(i);
    find_dependencies();
  }

  std::vector<Launch> run() {
    for (int section = -1; section <= 1; ++section) {
      close();
      while (const int next = pick(section) + 1) place(next - 1, section);
    }
    return std::move(launches_);
  }

 private:
  ValueId rooted(ValueId v) const { return v == kNoValue ? v : root_[static_cast<std::size_t>(v)]; }

  static bool is_update(const Node& n) { return n.out.empty() && !n.writes.empty(); }

  void find_dependencies() {
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      for (ValueId v : nodes_[i].node->in)
        if ((v = rooted(v)) != kNoValue && producer_[static_cast<std::size_t>(v)] >= 0)
          waits_[i].push_back(producer_[static_cast<std::size_t>(v)]);
    // Who writes an operand comes after every earlier reader of it and before every later one.
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      for (const ValueId v : nodes_[i].node->writes)
        for (std::size_t j = 0; j < nodes_.size(); ++j) {
          const auto& in = nodes_[j].node->in;
          if (j == i || std::find(in.begin(), in.end(), v) == in.end()) continue;
          if (j < i)
            waits_[i].push_back(static_cast<int>(j));
          else
            waits_[j].push_back(static_cast<int>(i));
        }
  }

  bool ready(std::size_t i) const {
    for (const int w : waits_[i])
      if (!done_[static_cast<std::size_t>(w)]) return false;
    return true;
  }

  const ops::BlockOp* block_op(std::size_t i) const { return nodes_[i].choice.prepared->as_block_op(); }

  // Inside a segment only what is cut by image blocks on both sides may flow.
  bool joins_open_segment(std::size_t i) const {
    const ops::BlockOp* op = block_op(i);
    if (!op || open_.empty() || op->batch() != block_op(static_cast<std::size_t>(open_[0]))->batch() ||
        op->batch() == 0)
      return false;
    for (std::size_t k = 0; k < nodes_[i].node->in.size(); ++k) {
      const ValueId v = rooted(nodes_[i].node->in[k]);
      const int p = v == kNoValue ? -1 : producer_[static_cast<std::size_t>(v)];
      if (p < 0 || std::find(open_.begin(), open_.end(), p) == open_.end()) continue;
      const auto& out = nodes_[static_cast<std::size_t>(p)].node->out;
      const auto at = static_cast<int>(std::find(out.begin(), out.end(), v) - out.begin());
      if (op->in_access(static_cast<int>(k)) != ops::Access::kPerBlock ||
          block_op(static_cast<std::size_t>(p))->out_access(at) != ops::Access::kPerBlock)
        return false;
    }
    return true;
  }

  // Steps that continue the open segment first, then updates (their gradient is still in cache), then
  // recorded order.
  int pick(int section) const {
    int first = -1, update = -1;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (done_[i] || nodes_[i].view || nodes_[i].section != section || !ready(i)) continue;
      if (joins_open_segment(i)) return static_cast<int>(i);
      if (update < 0 && is_update(*nodes_[i].node)) update = static_cast<int>(i);
      if (first < 0) first = static_cast<int>(i);
    }
    return update >= 0 ? update : first;
  }

  void close() { open_.clear(); }

  void place(int i, int section) {
    const auto at = static_cast<std::size_t>(i);
    if (joins_open_segment(at)) {
      launches_.back().nodes.push_back(i);
      launches_.back().segment = true;
    } else {
      close();
      launches_.push_back({{i}, section, false});
    }
    if (block_op(at)) open_.push_back(i);
    done_[at] = true;
  }

  const std::vector<PlannedNode>& nodes_;
  const std::vector<ValueId>& root_;
  std::vector<std::vector<int>> waits_;
  std::vector<bool> done_;
  std::vector<int> producer_;
  std::vector<int> open_;
  std::vector<Launch> launches_;
};

}  // namespace

std::vector<Launch> schedule(const Graph& g, const std::vector<PlannedNode>& nodes,
                             const std::vector<ValueId>& root) {
  return Scheduler(g, nodes, root).run();
}

}  // namespace fastcnn::graph
