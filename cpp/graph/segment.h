// A segment: consecutive sliced steps that one thread carries out for one slice before it takes the next.
// What lives only inside is a buffer of that thread, a slice in size.
#pragma once

#include <vector>

#include "ops/sliced.h"

namespace fastcnn::graph {

class Segment final : public ops::Prepared {
 public:
  // Operands stand in RunArgs step after step.
  struct Step {
    const ops::Sliced* op = nullptr;
    std::vector<std::int64_t> in, out;  // offset in the thread's area; kElsewhere: as RunArgs says
  };
  static constexpr std::int64_t kElsewhere = -1;
  // local_bytes: per thread, for the values that live only inside.
  Segment(std::vector<Step> steps, std::size_t local_bytes);

  void item(const ops::RunArgs& a, int stage, std::int64_t i, const ops::Worker& w) const override;
  std::size_t shared_bytes() const override { return partial_bytes_; }
  std::size_t thread_bytes() const override { return thread_bytes_; }

 private:
  void group(const ops::RunArgs& a, std::int64_t g, const ops::Worker& w) const;
  void finish(const ops::RunArgs& a, std::size_t step, std::int64_t item) const;

  std::vector<Step> steps_;
  std::vector<std::size_t> first_in_, first_out_;  // operand of each step
  std::vector<std::size_t> own_at_, partial_at_;
  std::vector<std::size_t> finishing_;  // the step that each stage after the first finishes
  std::size_t pointers_at_ = 0, thread_bytes_ = 0, partial_bytes_ = 0;
  std::int64_t slices_ = 0, groups_ = 1;
};

}  // namespace fastcnn::graph
