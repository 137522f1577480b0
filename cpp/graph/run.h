// One run of a plan, section by section: a ticket that owns the memory of its values, so that callers side by
// side do not meet. Sections of one run follow one another; between them the caller may do anything.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "graph/plan.h"

namespace fastcnn::graph {

class Run {
 public:
  // Held while somebody is in section(); made and ended under a lock of the caller's (Python's).
  class Use {
   public:
    explicit Use(Run& run) : run_(run) {
      if (run.in_use_) throw ValueError("plan: this run is in use by another thread");
      run.in_use_ = true;
    }
    ~Use() { run_.in_use_ = false; }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Run& run_;
  };

  explicit Run(std::shared_ptr<Plan> plan);

  using Bindings = std::vector<std::pair<int, Tensor>>;

  // Runs the next section on memory for its operands, by index: of Graph::input() and of the plan's outputs.
  // Shapes must be those of the plan. Waits while another run writes what this one reads, or reads what it
  // writes; weights are used as they are when the section runs. seconds, if given, gets the time of each
  // step.
  void section(int section, const Bindings& inputs, const Bindings& outputs,
               std::vector<double>* seconds = nullptr);
  bool done() const { return next_ >= plan_->sections(); }
  const Plan& plan() const { return *plan_; }

 private:
  void bind(int section, const Bindings& inputs, const Bindings& outputs);
  std::byte* address(const Operand& o) const;
  void resolve(const Launch& l);
  void pack(const Launch& l);
  void renew(int section);
  void launch(const Launch& l, std::vector<double>* seconds);

  std::shared_ptr<Plan> plan_;
  int next_ = 0;
  bool in_use_ = false;
  ArenaLoan arena_;
  std::vector<Tensor> input_, output_;  // bound while a section runs
  std::vector<const void*> in_;         // operands of the launch that runs
  std::vector<void*> out_;
};

}  // namespace fastcnn::graph
