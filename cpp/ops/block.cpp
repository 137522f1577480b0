#include "ops/block.h"

#include <algorithm>
#include <chrono>

#include "core/parallel.h"
#include "kernels/table.h"

namespace fastcnn::ops {
namespace {

// Bytes of `width` images of a batched operand.
std::int64_t block_bytes(const TensorDesc& d, std::int64_t width) {
  if (d.absent || d.shape.rank() == 0 || d.shape[0] == 0) return 0;
  return d.shape.numel() / d.shape[0] * width * size_of(d.dtype);
}

constexpr int kMaxOperands = 16;

const void* moved(const void* p, std::int64_t bytes) {
  return p ? static_cast<const std::byte*>(p) + bytes : nullptr;
}
void* moved(void* p, std::int64_t bytes) { return p ? static_cast<std::byte*>(p) + bytes : nullptr; }

}  // namespace

BlockOp::BlockOp(const Problem& p) {
  const std::int64_t width = kernels().width;
  const auto add = [&](const TensorDesc& d, std::vector<Access>& access, std::vector<std::int64_t>& bytes) {
    access.push_back(d.layout == Layout::kInterleaved && !d.absent ? Access::kPerBlock : Access::kWhole);
    bytes.push_back(block_bytes(d, width));
    if (access.back() == Access::kPerBlock) batch_ = d.shape[0];
  };
  for (const TensorDesc& d : p.inputs) add(d, in_access_, in_block_bytes_);
  for (const TensorDesc& d : p.outputs) add(d, out_access_, out_block_bytes_);
  if (p.inputs.size() > kMaxOperands || p.outputs.size() > kMaxOperands)
    throw ValueError(str("at most ", kMaxOperands, " operands per step, got ", p.inputs.size()));
}

void BlockOp::run(const RunArgs& a) const {
  SegmentStep step;
  step.op = this;
  step.args = a;
  SegmentRunner({step}, 0).run(a.scratch);
}

std::size_t BlockOp::scratch_bytes() const {
  SegmentStep step;
  step.op = this;
  return SegmentRunner({step}, 0).scratch_bytes();
}

SegmentRunner::SegmentRunner(std::vector<SegmentStep> steps, std::size_t local_values)
    : steps_(std::move(steps)), local_values_(align64(local_values)), threads_(num_threads()) {
  const std::int64_t width = kernels().width;
  for (SegmentStep& s : steps_) {
    s.in_local.resize(s.op->in_access_.size());
    s.out_local.resize(s.op->out_access_.size());
    batch_ = s.op->batch_;
    local_offset_.push_back(local_values_ + local_bytes_);
    local_bytes_ += align64(s.op->local_bytes());
    partial_offset_.push_back(partial_bytes_);
  }
  blocks_ = (batch_ + width - 1) / width;
  groups_ = std::min(blocks_, kMaxGroups);
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    partial_offset_[i] = partial_bytes_;
    partial_bytes_ += align64(steps_[i].op->partial_bytes()) * static_cast<std::size_t>(groups_);
  }
}

std::size_t SegmentRunner::scratch_bytes() const {
  return (local_values_ + local_bytes_) * static_cast<std::size_t>(threads_) + partial_bytes_;
}

void SegmentRunner::run(std::byte* scratch, double* seconds) const {
  const std::int64_t width = kernels().width;
  const std::size_t per_thread = local_values_ + local_bytes_;
  std::byte* const partials = scratch + per_thread * static_cast<std::size_t>(threads_);
  using Clock = std::chrono::steady_clock;
  std::vector<double> spent(seconds ? steps_.size() * static_cast<std::size_t>(threads_) : 0, 0.0);
  parallel_for(groups_, [&](std::int64_t group, int thread) {
    std::byte* const mine = scratch + per_thread * static_cast<std::size_t>(thread);
    for (std::size_t i = 0; i < steps_.size(); ++i) steps_[i].op->begin(mine + local_offset_[i]);
    const std::int64_t first = blocks_ * group / groups_, last = blocks_ * (group + 1) / groups_;
    for (std::int64_t b = first; b < last; ++b) {
      for (std::size_t i = 0; i < steps_.size(); ++i) {
        const SegmentStep& s = steps_[i];
        const void* in[kMaxOperands];
        void* out[kMaxOperands];
        for (std::size_t k = 0; k < s.in_local.size(); ++k)
          in[k] = s.in_local[k] ? mine + reinterpret_cast<std::uintptr_t>(s.args.in[k])
                  : s.op->in_access_[k] == Access::kPerBlock
                      ? moved(s.args.in[k], b * s.op->in_block_bytes_[k])
                      : s.args.in[k];
        for (std::size_t k = 0; k < s.out_local.size(); ++k)
          out[k] = s.out_local[k] ? mine + reinterpret_cast<std::uintptr_t>(s.args.out[k])
                   : s.op->out_access_[k] == Access::kPerBlock
                       ? moved(s.args.out[k], b * s.op->out_block_bytes_[k])
                       : s.args.out[k];
        BlockArgs a{in,
                    out,
                    s.args.packed,
                    mine + local_offset_[i],
                    b,
                    static_cast<int>(std::min(width, batch_ - b * width))};
        if (!seconds) {
          s.op->block(a);
          continue;
        }
        const auto start = Clock::now();
        s.op->block(a);
        spent[steps_.size() * static_cast<std::size_t>(thread) + i] +=
            std::chrono::duration<double>(Clock::now() - start).count();
      }
    }
    for (std::size_t i = 0; i < steps_.size(); ++i)
      if (const std::size_t bytes = align64(steps_[i].op->partial_bytes()))
        steps_[i].op->end(mine + local_offset_[i],
                          partials + partial_offset_[i] + bytes * static_cast<std::size_t>(group));
  });
  const auto busy = static_cast<double>(std::max<std::int64_t>(1, std::min<std::int64_t>(threads_, groups_)));
  for (std::size_t i = 0; i < spent.size(); ++i) seconds[i % steps_.size()] += spent[i] / busy;
  for (std::size_t i = 0; i < steps_.size(); ++i)
    if (steps_[i].op->partial_bytes())
      steps_[i].op->finish(partials + partial_offset_[i], groups_, steps_[i].args.out);
}

}  // namespace fastcnn::ops
