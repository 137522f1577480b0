// Where every value of a plan lies: in the arena for as long as it lives, in a thread's area when it lives
// only inside a segment, in the memory that is kept from run to run, or outside.
#pragma once

#include <map>

#include "graph/memory.h"
#include "graph/plan.h"

namespace fastcnn::graph {

// The buffers of one memory.
struct Area {
  void add(ValueId root, const Buffer& b, ValueId from);
  std::vector<Buffer> buffers;
  std::vector<ValueId> made_for;      // the root that each was made for
  std::map<ValueId, std::size_t> of;  // the buffer that a root lies in
};

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
  // f(step's node, output, its root, step) for what a launch writes that has no place yet, and needs one.
  template <class F>
  void each_new(int launch, F&& f);
  std::int64_t settle(Area& area, Operand::Kind kind, const char* place);

  Plan& plan_;
  const std::vector<LaunchOrder>& order_;
  std::vector<std::vector<Use>> uses_;  // per root
};

}  // namespace fastcnn::graph
