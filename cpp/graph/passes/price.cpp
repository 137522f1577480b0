#include "graph/passes/price.h"

#include <algorithm>
#include <cstring>

#include "ops/partition.h"

namespace fastcnn::graph {
namespace {

// One core of a recent server, by instruction set. Only ratios matter; docs/architecture.md, "Prices".
struct Machine {
  const char* isa;
  double peak;                   // multiply-adds, FLOP/s
  double memory, shared, cache;  // bytes/s of one core from memory, from L3 and from its L2
};
constexpr Machine kMachines[] = {{"avx512", 170e9, 12e9, 28e9, 48e9},
                                 {"avx2", 85e9, 10e9, 24e9, 40e9},
                                 {"neon", 40e9, 10e9, 20e9, 30e9},
                                 {"", 8e9, 8e9, 12e9, 16e9}};
constexpr std::int64_t kSliceBytes = 384 << 10;  // of one value of a slice: a few of them fill an L2
constexpr std::int64_t kSharedBytes = 4 << 20;   // of a value that the next step still finds in L3
constexpr double kCores = 2;  // at least: fewer blocks of images than this leave cores idle

const Machine& machine_of(const ops::Context& context) {
  const Machine* m = kMachines;
  while (*m->isa && std::strcmp(m->isa, context.kernels->isa) != 0) ++m;
  return *m;
}

// Seconds to move a whole value; near: between a core and its own cache.
double moved(const TensorDesc& d, const Machine& m, bool near) {
  const std::int64_t bytes = ops::storage_bytes(d);
  return static_cast<double>(bytes) / (near ? m.cache : bytes <= kSharedBytes ? m.shared : m.memory);
}

std::int64_t block_bytes(const TensorDesc& d) {
  return d.shape[0] == 0 ? 0 : d.shape.numel() / d.shape[0] * d.block * size_of(d.dtype);
}

}  // namespace

bool fits_cache(const TensorDesc& d) {
  return d.layout != Layout::kInterleaved || block_bytes(d) <= kSliceBytes;
}

double seconds_of(const ops::OpDef& op, const ops::Problem& p, const std::vector<bool>& near_in,
                  const std::vector<bool>& near_out) {
  const Machine& m = machine_of(p.context);
  double memory = 0, idle = 1;
  const auto add = [&](const TensorDesc& d, bool near) {
    if (d.absent) return;
    memory += moved(d, m, near);
    if (d.layout == Layout::kInterleaved && d.shape[0] > 0)
      idle = std::max(idle, kCores / static_cast<double>(ops::ceil_div(d.shape[0], d.block)));
  };
  for (std::size_t i = 0; i < p.inputs.size(); ++i) add(p.inputs[i], i < near_in.size() && near_in[i]);
  for (std::size_t i = 0; i < p.outputs.size(); ++i)
    if (p.wants(i)) add(p.outputs[i], i < near_out.size() && near_out[i]);
  const ops::Cost cost = op.cost(p);
  double arithmetic = cost.efficiency > 0 ? cost.flops / (m.peak * cost.efficiency) : 0;
  const TensorDesc& first = p.inputs.empty() ? p.outputs[0] : p.inputs[0];
  if (first.layout == Layout::kInterleaved && first.shape[0] > 0) {
    arithmetic *=
        static_cast<double>(ops::round_up(first.shape[0], first.block)) / static_cast<double>(first.shape[0]);
    // Every tile of channels reads the block anew.
    if (cost.efficiency > 0 && !fits_cache(first)) arithmetic *= 2;
  }
  return std::max(arithmetic, memory) * idle;
}

double seconds_to_move(const TensorDesc& d, const ops::Context& context) {
  return 2.0 * moved(d, machine_of(context), false);
}

}  // namespace fastcnn::graph
