// A plan: what a graph became for one device, instruction set and number of threads. A flat list of launches
// with a place for every operand, and nothing that changes from run to run but the weights it keeps packed.
// run.h carries it out.
#pragma once

#include <memory>

#include "core/arena.h"
#include "graph/schedule.h"

namespace fastcnn::graph {

// What describe() and profile() tell of a step or a buffer, by name.
using Info = std::vector<std::pair<const char*, ops::AttrValue>>;

// Where an operand is found when the plan runs.
struct Operand {
  enum Kind : std::uint8_t { kNull, kArena, kLocal, kInput, kOutput, kTensor, kKept } kind = kNull;
  std::int64_t index = 0;   // of the input, output or value
  std::int64_t offset = 0;  // bytes; kLocal: in the thread's area
};

struct Launch {
  int section = 0;
  const ops::Prepared* op = nullptr;       // one step, or a segment
  std::unique_ptr<ops::Prepared> segment;  // owned here; single steps are owned by their nodes
  std::vector<Operand> in, out;
  Operand packed;            // kKept, or kArena: packed on every run
  std::int64_t scratch = 0;  // offset in the arena
  std::size_t first_step = 0, steps = 1;
};

// What something kept was made from, and whether that has changed since. Guarded by the plan's lock.
class Watch {
 public:
  void add(const Storage* s) { storages_.push_back(s); }
  bool stale() const;
  void note();
  const std::vector<const Storage*>& storages() const { return storages_; }

 private:
  std::uint64_t stamp() const;
  std::vector<const Storage*> storages_;
  std::uint64_t seen_ = 0;
  bool made_ = false;
};

class Plan {
 public:
  // outputs: values to deliver. layout: "auto", "nhwc" or "interleaved".
  Plan(Graph graph, std::vector<ValueId> outputs, const std::string& layout, const ops::Context& context);

  const TensorDesc& output_desc(int i) const { return graph().desc(program_.outputs[at(i)]); }
  int output_section(int i) const { return output_section_[at(i)]; }
  int output_count() const { return static_cast<int>(program_.outputs.size()); }
  int sections() const { return program_.graph.sections(); }
  const ops::Context& context() const { return program_.context; }

  // layer op implementation detail layout fused output (its shape) launch section segment flops bytes, and
  // predicted: seconds (passes/price.h).
  std::vector<Info> steps() const;
  std::size_t step_count() const { return order_.size(); }
  // layer (that makes it) shape layout place ("arena", "thread" inside a segment, "persistent" from run to
  // run) bytes offset first last.
  const std::vector<Info>& buffers() const { return buffers_; }
  std::int64_t arena_bytes() const { return arena_bytes_ + scratch_bytes_; }
  std::int64_t scratch_bytes() const { return scratch_bytes_; }
  std::int64_t kept_bytes() const { return kept_bytes_; }

 private:
  friend class Run;
  friend class MemoryPlanner;

  const Graph& graph() const { return program_.graph; }
  void find_sections();
  void plan_nodes();
  void own_outputs();
  void plan_node(const Node& n, const std::vector<bool>& read);
  void find_roots();
  void build(const std::vector<LaunchOrder>& order, const std::vector<std::int64_t>& local_bytes);
  void add_step(Launch& launch, const PlannedNode& p, std::int64_t& packed_bytes);
  void watch_prologue();
  void find_needs();
  Operand operand(ValueId v) const;
  bool stale(int section) const;

  Program program_;
  std::vector<int> output_section_;
  std::vector<ValueId> inputs_;       // by their index
  std::vector<int> section_;          // per value
  std::vector<PlannedNode> planned_;  // one per node
  std::vector<ValueId> root_;         // per value: whose memory it is in ...
  std::vector<std::int64_t> offset_;  // ... and at which byte
  std::vector<Operand> where_;        // per root
  std::vector<Info> buffers_;
  std::vector<Launch> launches_;
  std::vector<int> order_;  // planned nodes in the order of their steps
  std::int64_t arena_bytes_ = 0, scratch_bytes_ = 0, kept_bytes_ = 0;

  // What is kept from run to run: results of the prologue, and packed weights.
  struct Kept {
    const Launch* launch;
    Watch watch;
  };
  Watch prologue_;
  std::vector<Kept> packs_;
  std::unique_ptr<Arena> kept_;
  Lockable kept_lock_;
  struct Locks {
    std::vector<Lockable*> read, write;
  };
  struct Section {
    std::set<std::int64_t> inputs, outputs;  // that the caller has to bind
    Locks as_it_is, renewing;                // where nothing kept is made anew, and where it is
  };
  std::vector<Section> sections_;
};

}  // namespace fastcnn::graph
