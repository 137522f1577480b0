// Where every value of a plan lies: in the arena for as long as it lives, in a thread's area when it lives
// only inside a segment, in the memory that is kept from run to run, or outside.
#pragma once

#include "graph/plan.h"

namespace fastcnn::graph {

class MemoryPlanner {
 public:
  MemoryPlanner(Plan& plan, const std::vector<LaunchOrder>& order);
  // Fills the plan's where_, buffers_ and sizes; bytes of a thread's values, per launch.
  std::vector<std::int64_t> run();

 private:
  struct Use {
    int launch, step;  // step of the launch
    int operand;
    bool writes;
  };

  void place_outside();
  std::int64_t place_locals(int launch);
  bool stays_inside(ValueId root, int launch) const;
  std::int64_t slice_bytes(ValueId root, int launch) const;
  void place_arena();
  ValueId reused(const PlannedNode& p, ValueId v) const;
  const PlannedNode& planned(int launch, std::size_t step) const {
    return plan_.planned_[at(order_[at(launch)].nodes[step])];
  }
  void note(ValueId v, std::int64_t bytes, std::int64_t offset, int first, int last, const char* place);

  Plan& plan_;
  const std::vector<LaunchOrder>& order_;
  std::vector<std::vector<Use>> uses_;  // per root
};

}  // namespace fastcnn::graph
