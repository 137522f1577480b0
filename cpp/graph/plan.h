// A plan: the flat list of launches that a graph became, with an address for every operand. Running it
// decides, checks and allocates nothing but the arena it borrows.
#pragma once

#include <memory>
#include <mutex>

#include "core/arena.h"
#include "graph/graph.h"
#include "graph/memory.h"
#include "graph/schedule.h"

namespace fastcnn::graph {

struct StepInfo {
  std::string layer, op, implementation, detail, layout, fused;
  std::string output;  // shape of output 0
  int launch = 0, section = 0;
  bool segment = false;
  double flops = 0, bytes = 0;
};

struct BufferInfo {
  std::string value;  // layer that makes it
  std::string shape;
  std::string layout;
  std::string place;  // "arena", "thread" (inside a segment), "persistent"
  std::int64_t bytes = 0, offset = 0;
  int first = 0, last = 0;
};

class Plan {
 public:
  // outputs: values to deliver. late: inputs that are only there in a second section (the gradient of an
  // output): what does not depend on them is section 0, the rest section 1. layout: "auto", "nhwc" or
  // "interleaved".
  Plan(const Graph& graph, const std::vector<ValueId>& outputs, const std::vector<ValueId>& late,
       const std::string& layout);

  using Bindings = std::vector<std::pair<int, Tensor>>;

  const TensorDesc& output_desc(int i) const { return graph_.desc(outputs_[static_cast<std::size_t>(i)]); }
  int output_section(int i) const { return output_section_[static_cast<std::size_t>(i)]; }
  int output_count() const { return static_cast<int>(outputs_.size()); }
  int sections() const { return two_sections_ ? 2 : 1; }
  bool holds_forward() const { return forward_done_; }

  // Runs section 0 or 1 on memory for its operands, by index: of Graph::input() and of `outputs`. Shapes must
  // be those of the plan. One caller after the other; seconds, if given, gets the time of each step (steps()
  // order).
  void run(int section, const Bindings& inputs, const Bindings& outputs,
           std::vector<double>* seconds = nullptr);
  void drop_forward();  // gives the arena back without a section 1

  std::vector<StepInfo> steps() const;
  std::vector<BufferInfo> buffers() const;
  std::int64_t arena_bytes() const { return arena_bytes_ + static_cast<std::int64_t>(scratch_bytes_); }
  std::int64_t scratch_bytes() const { return static_cast<std::int64_t>(scratch_bytes_); }
  std::int64_t persistent_bytes() const { return persistent_bytes_; }
  int threads() const { return threads_; }

 private:
  struct Operand {
    enum Kind : std::uint8_t { kNull, kArena, kThread, kInput, kOutput, kTensor, kPersistent } kind = kNull;
    std::int64_t at = 0;  // offset, or index of the input, output or value
  };
  struct Step {
    int node = 0;
    std::vector<Operand> in, out;
    std::vector<const void*> in_ptr;
    std::vector<void*> out_ptr;
    Operand packed;
  };
  struct RunLaunch {
    int section = 0;
    std::vector<Step> steps;
    std::unique_ptr<ops::SegmentRunner> segment;
    std::size_t scratch = 0;
  };

  void plan_nodes();
  void find_sections(const std::vector<ValueId>& late);
  void find_roots();
  void plan_memory(const std::vector<Launch>& launches);
  void plan_locals(const Launch& launch, std::int64_t* local_bytes);
  void build(const std::vector<Launch>& launches);
  Operand operand(ValueId v) const;
  void* address(const Operand& o) const;
  void resolve(Step& s);
  void run_launches(int section, bool renew, double* seconds);
  void run_launch(RunLaunch& l, double* seconds);
  std::uint64_t stamp(bool* exported) const;
  bool packs_every_run(const PlannedNode& p) const;
  void bind_input(int i, const Tensor& t);
  void bind_output(int i, const Tensor& t);
  void unbind();
  void check_bound(int section) const;

  Graph graph_;
  std::vector<ValueId> outputs_;
  std::vector<int> output_section_;
  bool two_sections_ = false, forward_done_ = false;
  int threads_ = 1;
  std::vector<bool> written_;  // per value: a tensor that a step changes
  std::vector<int> section_;   // per value
  std::vector<PlannedNode> nodes_;
  std::vector<ValueId> root_;
  std::vector<Operand> where_;  // per value
  std::vector<BufferInfo> buffers_;
  std::vector<std::int64_t> local_values_;  // per launch: bytes of a thread's values
  std::vector<RunLaunch> launches_;
  std::int64_t arena_bytes_ = 0, persistent_bytes_ = 0;
  std::size_t scratch_bytes_ = 0;
  std::vector<Tensor> input_, output_;
  ArenaLoan loan_;
  std::unique_ptr<Arena> persistent_;
  std::uint64_t last_stamp_ = 0;
  bool prologue_done_ = false;
  std::mutex mutex_;
};

}  // namespace fastcnn::graph
