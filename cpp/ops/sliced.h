// Steps that can be carried out slice by slice, alone or in a segment: a thread carries a slice through all
// steps of the segment before it takes the next, so what lives only inside stays in its cache. A slice is a
// block of images: batch-interleaved operands are cut, all others whole.
//
// Sums over the batch use groups: a fixed partition of the blocks (ops/partition.h). A thread accumulates a
// whole group in its own memory, end() writes the group's partial sum, finish() adds the partials in order.
#pragma once

#include <vector>

#include "ops/op.h"
#include "ops/partition.h"

namespace fastcnn::ops {

struct SliceArgs {
  // Operands that are cut: at the block's first byte. All others: as in RunArgs.
  const void* const* in;
  void* const* out;
  std::byte* own;       // this thread's own_bytes(); kept from begin() to end()
  std::int64_t images;  // in the block
};

class Sliced : public Prepared {
 public:
  explicit Sliced(const Problem& p);

  virtual void slice(const SliceArgs& a) const = 0;
  virtual void start(std::byte* own) const {}  // at a group's start
  virtual void end(std::byte* own, std::byte* partial) const {}
  // partials: `groups` results, partial_step() bytes apart.
  virtual void finish(const std::byte* partials, std::int64_t groups, const RunArgs& a,
                      std::int64_t item) const {}

  bool cuts_in(int i) const { return in_step(i) >= 0; }
  bool cuts_out(int i) const { return out_step(i) >= 0; }
  // Bytes from slice to slice of a cut operand.
  std::int64_t in_step(int i) const { return in_step_[static_cast<std::size_t>(i)]; }
  std::int64_t out_step(int i) const { return out_step_[static_cast<std::size_t>(i)]; }
  std::int64_t batch() const { return batch_; }
  int block() const { return block_; }
  std::int64_t slices() const { return slices_; }
  std::size_t own_bytes() const { return own_.bytes(); }  // scratch and accumulators of one thread
  std::size_t partial_step() const { return align64(partial_bytes_); }  // one group's result; 0: no sums
  std::int64_t groups() const { return groups_; }                       // it wants its slices summed in
  std::int64_t finish_items() const { return finish_items_; }

  // Alone: a segment of one.
  void item(const RunArgs& a, int stage, std::int64_t i, const Worker& w) const final;
  std::size_t shared_bytes() const final { return partial_step() * static_cast<std::size_t>(groups_); }
  std::size_t thread_bytes() const final { return own_.bytes() + pointers_bytes(); }
  const Sliced* as_sliced() const final { return this; }

  // Runs slice i with the operands `in` and `out` as in RunArgs where they are whole, and from their first
  // slice on where they are cut. pointers: room for pointers_bytes().
  void run_slice(const void* const* in, void* const* out, std::byte* own, std::int64_t i,
                 std::byte* pointers) const;
  std::size_t pointers_bytes() const { return align64((in_step_.size() + out_step_.size()) * sizeof(void*)); }

 protected:
  // For the constructors of ops. Plain operands that are cut along the batch:
  void cut_in(const Problem& p, std::size_t i) { in_step_[i] = step_of(p.inputs[i]); }
  void cut_out(const Problem& p, std::size_t i) { out_step_[i] = step_of(p.outputs[i]); }
  // Sums over the batch, of so many bytes per group.
  void reduces(std::size_t partial_bytes, std::int64_t finish_items = 1);

 private:
  std::int64_t step_of(const TensorDesc& d) const;
  std::vector<std::int64_t> in_step_, out_step_;  // -1: not cut
  std::int64_t batch_ = 0, slices_ = 0, groups_ = 1, finish_items_ = 1;
  std::size_t partial_bytes_ = 0;
  int block_ = 1;
};

}  // namespace fastcnn::ops
