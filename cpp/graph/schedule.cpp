#include "graph/schedule.h"

#include <algorithm>
#include <set>
#include <stdexcept>

namespace fastcnn::graph {
namespace {

class Scheduler {
 public:
  Scheduler(const Program& p, const std::vector<PlannedNode>& nodes)
      : nodes_(nodes), writers_(at(p.graph.value_count())), waits_(nodes.size(), 0), next_(nodes.size()) {
    std::vector<int> of_id(at(p.graph.id_count()), -1);
    for (std::size_t i = 0; i < nodes.size(); ++i) of_id[at(nodes[i].node->id)] = static_cast<int>(i);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const Node& n = *nodes[i].node;
      std::set<int> before;
      for (const ValueId v : n.in)
        if (v != kNoValue) before.insert(writers_[at(v)].begin(), writers_[at(v)].end());
      if (nodes[i].view) {  // what reads it waits for all who write into it
        writers_[at(n.out[0])].assign(before.begin(), before.end());
        continue;
      }
      for (const ValueId v : n.out) writers_[at(v)] = {static_cast<int>(i)};
      for (const int e : n.effects)
        if (const int j = of_id[at(p.now(e))]; j >= 0 && j != static_cast<int>(i) && !nodes[at(j)].view)
          before.insert(j);
      waits_[i] = static_cast<int>(before.size());
      for (const int j : before) next_[at(j)].push_back(static_cast<int>(i));
    }
    last_section_ = p.graph.sections() - 1;
  }

  std::vector<LaunchOrder> run() {
    for (int section = kPrologue; section <= last_section_; ++section) {
      open_.clear();
      for (std::size_t i = 0; i < nodes_.size(); ++i)
        if (waits_[i] == 0) offer(static_cast<int>(i), section);
      while (!ready_.empty()) take(pick(), section);
    }
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      if (!nodes_[i].view && waits_[i] >= 0)
        throw std::logic_error(str("a plan without an order: ", nodes_[i].node->op->name(), " '",
                                   nodes_[i].node->name, "' waits for a step that never comes"));
    return std::move(launches_);
  }

 private:
  bool is_update(int i) const {
    return nodes_[at(i)].node->out.empty() && !nodes_[at(i)].node->writes.empty();
  }
  const ops::Sliced* sliced(int i) const { return nodes_[at(i)].prepared->as_sliced(); }

  void offer(int i, int section) {
    const PlannedNode& p = nodes_[at(i)];
    if (p.view || p.section != section) return;
    ready_.insert(i);
    if (is_update(i)) updates_.insert(i);
    if (sliced(i) && p.prepared->packed_bytes() == 0) cut_.insert(i);
  }

  // Inside a segment only what is cut into slices on both sides may flow.
  bool joins_open_segment(int i) const {
    const ops::Sliced* op = sliced(i);
    if (open_.empty() || op->batch() == 0) return false;
    const ops::Sliced* first = sliced(open_[0]);
    if (op->batch() != first->batch() || op->block() != first->block()) return false;
    const Node& n = *nodes_[at(i)].node;
    for (std::size_t k = 0; k < n.in.size(); ++k) {
      if (n.in[k] == kNoValue) continue;
      for (const int w : writers_[at(n.in[k])]) {
        if (std::find(open_.begin(), open_.end(), w) == open_.end()) continue;
        if (!op->cuts_in(static_cast<int>(k)) || !writes_slices(w, n.in[k])) return false;
      }
    }
    return true;
  }

  // Whether step w cuts the output that v is, or is seen through.
  bool writes_slices(int w, ValueId v) const {
    const auto& out = nodes_[at(w)].node->out;
    const auto k = std::find(out.begin(), out.end(), v);
    return sliced(w)->cuts_out(k == out.end() ? 0 : static_cast<int>(k - out.begin()));
  }

  // Steps that continue the open segment first, then updates (their gradient is still in cache), then
  // recorded order.
  int pick() const {
    for (const int i : cut_)
      if (joins_open_segment(i)) return i;
    return updates_.empty() ? *ready_.begin() : *updates_.begin();
  }

  void take(int i, int section) {
    if (cut_.count(i) && joins_open_segment(i)) {
      launches_.back().nodes.push_back(i);
      launches_.back().segment = true;
    } else {
      open_.clear();
      launches_.push_back({{i}, section, false});
    }
    if (cut_.count(i)) open_.push_back(i);
    ready_.erase(i), updates_.erase(i), cut_.erase(i);
    waits_[at(i)] = -1;
    for (const int j : next_[at(i)])
      if (--waits_[at(j)] == 0) offer(j, section);
  }

  const std::vector<PlannedNode>& nodes_;
  std::vector<std::vector<int>> writers_;  // per value: the steps that write it
  std::vector<int> waits_;                 // for how many steps; -1: done
  std::vector<std::vector<int>> next_;     // who waits for this one
  std::set<int> ready_, updates_, cut_;    // in recorded order
  std::vector<int> open_;                  // steps of the segment being filled
  std::vector<LaunchOrder> launches_;
  int last_section_ = 0;
};

}  // namespace

std::vector<LaunchOrder> schedule(const Program& p, const std::vector<PlannedNode>& nodes) {
  return Scheduler(p, nodes).run();
}

}  // namespace fastcnn::graph
