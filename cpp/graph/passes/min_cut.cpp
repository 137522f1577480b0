#include "graph/passes/min_cut.h"

#include <algorithm>
#include <limits>

#include "graph/graph.h"

namespace fastcnn::graph {
namespace {

constexpr int kSource = 0, kSink = 1;  // label 0 stays with the source
constexpr double kForbidden = 1e9;     // seconds; finite, so that two refusals can still be compared
constexpr double kNothing = 1e-15;

}  // namespace

MinCut::MinCut(int vertices) : vertices_(vertices), out_(at(vertices) + 2) {}

int MinCut::add_vertex() {
  out_.emplace_back();
  return vertices_++;
}

void MinCut::link(int from, int to, double room) {
  out_[at(from)].push_back(static_cast<int>(edges_.size()));
  edges_.push_back({to, std::min(room, kForbidden)});
  out_[at(to)].push_back(static_cast<int>(edges_.size()));
  edges_.push_back({from, 0});
}

void MinCut::price(int v, double zero, double one) {
  link(kSource, v + 2, one);
  link(v + 2, kSink, zero);
}

void MinCut::differ(int a, int b, double cost) { link(a + 2, b + 2, cost); }

bool MinCut::levels() {
  level_.assign(out_.size(), -1);
  std::vector<int> queue = {kSource};
  level_[kSource] = 0;
  for (std::size_t i = 0; i < queue.size(); ++i)
    for (const int e : out_[at(queue[i])]) {
      const Edge& edge = edges_[at(e)];
      if (edge.room <= kNothing || level_[at(edge.to)] >= 0) continue;
      level_[at(edge.to)] = level_[at(queue[i])] + 1;
      queue.push_back(edge.to);
    }
  return level_[kSink] >= 0;
}

double MinCut::push(int v, double most) {
  if (v == kSink) return most;
  const auto& out = out_[at(v)];
  for (int& i = next_[at(v)]; i < static_cast<int>(out.size()); ++i) {
    const int e = out[at(i)];
    Edge& edge = edges_[at(e)];
    if (edge.room <= kNothing || level_[at(edge.to)] != level_[at(v)] + 1) continue;
    const double sent = push(edge.to, std::min(most, edge.room));
    if (sent <= kNothing) continue;
    edge.room -= sent;
    edges_[at(e ^ 1)].room += sent;
    return sent;
  }
  return 0;
}

std::vector<bool> MinCut::solve() {
  while (levels()) {
    next_.assign(out_.size(), 0);
    while (push(kSource, std::numeric_limits<double>::infinity()) > kNothing) {
    }
  }
  std::vector<bool> one(at(vertices_));
  for (int v = 0; v < vertices_; ++v) one[at(v)] = level_[at(v) + 2] < 0;
  return one;
}

}  // namespace fastcnn::graph
