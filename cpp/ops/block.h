// Ops on batch-interleaved values work image block by image block. Such an op can run alone, or as one step
// of a segment: a thread carries a block through all steps of the segment before it takes the next, so what
// lives only inside the segment stays in its cache.
//
// Sums over the batch (weight gradients, the loss, statistics) use groups: a fixed partition of the blocks
// into at most kMaxGroups runs of consecutive blocks. A thread accumulates a whole group in `local`, end()
// writes the group's partial sum, finish() adds the partials in order. Nothing depends on the number of
// threads.
#pragma once

#include <vector>

#include "ops/op.h"

namespace fastcnn::ops {

// The last group to start holds up the others at the end; more of them cost memory for partial sums.
constexpr std::int64_t kMaxGroups = 64;

struct BlockArgs {
  const void* const* in;  // kPerBlock operands: already at this block's first byte
  void* const* out;
  const std::byte* packed;
  std::byte* local;    // this thread's local_bytes(); kept from begin() to end()
  std::int64_t block;  // index of the block
  int valid;           // images in it: B, or fewer in the last block
};

enum class Access : std::uint8_t { kWhole, kPerBlock };

class BlockOp : public Prepared {
 public:
  explicit BlockOp(const Problem& p);  // default access: kInterleaved operands kPerBlock, all others kWhole

  virtual void block(const BlockArgs& a) const = 0;
  virtual std::size_t local_bytes() const { return 0; }    // scratch and accumulators of one thread
  virtual std::size_t partial_bytes() const { return 0; }  // one group's result; > 0 makes it a reduction
  virtual void begin(std::byte* local) const {}            // at a group's start
  virtual void end(std::byte* local, std::byte* partial) const {}
  // partials: `groups` results, partial_bytes() rounded up to 64 apart. May use parallel_for.
  virtual void finish(const std::byte* partials, std::int64_t groups, void* const* out) const {}

  Access in_access(int i) const { return in_access_[static_cast<std::size_t>(i)]; }
  Access out_access(int i) const { return out_access_[static_cast<std::size_t>(i)]; }
  std::int64_t batch() const { return batch_; }

  void run(const RunArgs& a) const final;  // alone: a segment of one
  std::size_t scratch_bytes() const final;
  const BlockOp* as_block_op() const final { return this; }

 protected:
  std::vector<Access> in_access_,
      out_access_;  // set kPerBlock for plain operands that are cut along the batch
  std::int64_t batch_ = 0;
  std::vector<std::int64_t> in_block_bytes_, out_block_bytes_;

  friend class SegmentRunner;

 public:
  std::int64_t out_block_bytes(int i) const { return out_block_bytes_[static_cast<std::size_t>(i)]; }
};

constexpr std::size_t align64(std::size_t n) { return (n + 63) / 64 * 64; }

struct SegmentStep {
  const BlockOp* op = nullptr;
  RunArgs args{};                         // for kThreadLocal operands: the offset in the thread's area
  std::vector<bool> in_local, out_local;  // operand lives in the thread's area, one block of it
};

// Runs consecutive block ops over all blocks. `scratch` holds segment_scratch_bytes().
class SegmentRunner {
 public:
  // local_values: bytes per thread for the values that live only inside the segment.
  SegmentRunner(std::vector<SegmentStep> steps, std::size_t local_values);
  std::size_t scratch_bytes() const;
  // seconds: one per step, added to; null when nobody measures.
  void run(std::byte* scratch, double* seconds = nullptr) const;
  std::vector<SegmentStep>& steps() { return steps_; }

 private:
  std::vector<SegmentStep> steps_;
  std::size_t local_values_, local_bytes_ = 0, partial_bytes_ = 0;
  std::vector<std::size_t> local_offset_, partial_offset_;
  std::int64_t batch_ = 0, blocks_ = 0, groups_ = 0;
  int threads_ = 1;
};

}  // namespace fastcnn::ops
