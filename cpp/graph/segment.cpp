#include "graph/segment.h"

#include <algorithm>
#include <chrono>

namespace fastcnn::graph {

using ops::align64;

Segment::Segment(std::vector<Step> steps, std::size_t local_bytes) : steps_(std::move(steps)) {
  std::size_t at = align64(local_bytes), pointers = 0, in = 0, out = 0;
  groups_ = ops::kItems;
  for (const Step& s : steps_) {
    first_in_.push_back(in), first_out_.push_back(out);
    in += s.in.size(), out += s.out.size();
    own_at_.push_back(at);
    at += align64(s.op->own_bytes());
    pointers = std::max(pointers, s.op->pointers_bytes());
    groups_ = std::min(groups_, s.op->groups());
    slices_ = s.op->slices();
  }
  pointers_at_ = at;
  thread_bytes_ = at + 2 * pointers;  // where operands begin, and where those of a slice do
  stages_ = {groups_};
  for (std::size_t k = 0; k < steps_.size(); ++k) {
    partial_at_.push_back(partial_bytes_);
    partial_bytes_ += steps_[k].op->partial_step() * static_cast<std::size_t>(groups_);
    if (steps_[k].op->partial_step() == 0) continue;
    stages_.push_back(steps_[k].op->finish_items());
    finishing_.push_back(k);
  }
}

void Segment::item(const ops::RunArgs& a, int stage, std::int64_t i, const ops::Worker& w) const {
  if (stage == 0)
    group(a, i, w);
  else
    finish(a, finishing_[static_cast<std::size_t>(stage) - 1], i);
}

void Segment::group(const ops::RunArgs& a, std::int64_t g, const ops::Worker& w) const {
  using Clock = std::chrono::steady_clock;
  const ops::Part part = ops::part_of(slices_, groups_, g);
  for (std::size_t k = 0; k < steps_.size(); ++k) steps_[k].op->start(w.own + own_at_[k]);
  for (std::int64_t slice = part.begin; slice < part.end; ++slice)
    for (std::size_t k = 0; k < steps_.size(); ++k) {
      const auto start = a.seconds ? Clock::now() : Clock::time_point();
      const Step& s = steps_[k];
      auto** const in = reinterpret_cast<const void**>(w.own + pointers_at_);
      auto** const out = reinterpret_cast<void**>(w.own + pointers_at_ + s.in.size() * sizeof(void*));
      // The thread's own buffers stay where they are from slice to slice.
      for (std::size_t j = 0; j < s.in.size(); ++j)
        in[j] = s.in[j] == kElsewhere ? a.in[first_in_[k] + j]
                                      : w.own + s.in[j] - slice * s.op->in_step(static_cast<int>(j));
      for (std::size_t j = 0; j < s.out.size(); ++j)
        out[j] = s.out[j] == kElsewhere ? a.out[first_out_[k] + j]
                                        : w.own + s.out[j] - slice * s.op->out_step(static_cast<int>(j));
      s.op->run_slice(in, out, w.own + own_at_[k], slice, w.own + pointers_at_ + s.op->pointers_bytes());
      if (a.seconds)
        a.seconds[steps_.size() * static_cast<std::size_t>(w.index) + k] +=
            std::chrono::duration<double>(Clock::now() - start).count();
    }
  for (std::size_t k = 0; k < steps_.size(); ++k)
    if (const std::size_t bytes = steps_[k].op->partial_step())
      steps_[k].op->end(w.own + own_at_[k], a.shared + partial_at_[k] + bytes * static_cast<std::size_t>(g));
}

void Segment::finish(const ops::RunArgs& a, std::size_t step, std::int64_t item) const {
  ops::RunArgs own = a;
  own.in += first_in_[step], own.out += first_out_[step];
  steps_[step].op->finish(a.shared + partial_at_[step], groups_, own, item);
}

}  // namespace fastcnn::graph
