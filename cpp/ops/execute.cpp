#include "ops/execute.h"

#include "core/parallel.h"
#include "core/poison.h"
#include "ops/scratch.h"

namespace fastcnn::ops {

std::size_t scratch_bytes(const Prepared& op, int threads) {
  return align64(op.shared_bytes()) + align64(op.thread_bytes()) * static_cast<std::size_t>(threads);
}

void execute(const Prepared& op, RunArgs args, std::byte* scratch, int threads) {
  args.shared = scratch;
  std::byte* const own = scratch + align64(op.shared_bytes());
  const std::size_t step = align64(op.thread_bytes());
  const ThreadScope scope(threads);
  poison(scratch, op.shared_bytes());
  int stage = 0;
  for (const std::int64_t items : op.stages()) {
    parallel_for(items, [&](std::int64_t i, int thread) {
      std::byte* const mine = own + step * static_cast<std::size_t>(thread);
      poison(mine, op.thread_bytes());
      op.item(args, stage, i, {thread, mine});
    });
    ++stage;
  }
}

void pack(const Prepared& op, const void* const* in, std::byte* packed) {
  parallel_for(op.pack_items(), [&](std::int64_t i, int) { op.pack(in, packed, i); });
}

}  // namespace fastcnn::ops
