// The loop over a step's items: the only caller of parallel_for in the rooms below the graph.
#pragma once

#include "ops/op.h"

namespace fastcnn::ops {

// Scratch for one run of `op` by `threads` threads: its shared bytes, then each thread's own.
std::size_t scratch_bytes(const Prepared& op, int threads);
// All stages in order. args.shared is set from `scratch`, 64-byte aligned.
void execute(const Prepared& op, RunArgs args, std::byte* scratch, int threads);
void pack(const Prepared& op, const void* const* in, std::byte* packed);

}  // namespace fastcnn::ops
