// Order: the steps of a plan as launches. A launch is one step, or a segment: consecutive sliced steps.
#pragma once

#include "graph/passes/passes.h"
#include "ops/sliced.h"

namespace fastcnn::graph {

constexpr int kPrologue = -1;  // the section of what is computed from unchanging parameters alone

// A node with its chosen implementation.
struct PlannedNode {
  const Node* node = nullptr;
  ops::Problem problem;
  ops::Choice choice;
  std::unique_ptr<ops::Prepared> prepared;  // null for aliases
  int section = 0;
  bool view = false;  // nothing to run: its values are seen elsewhere
};

struct LaunchOrder {
  std::vector<int> nodes;  // indices of planned nodes, in order
  int section = 0;
  bool segment = false;
};

std::vector<LaunchOrder> schedule(const Program& p, const std::vector<PlannedNode>& nodes);

}  // namespace fastcnn::graph
