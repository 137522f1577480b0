// parallel_for: the only way to threads. Its .cpp is the only file that knows OpenMP.
//
// Results must not depend on the number of threads: an item writes what no other item writes, and sums that
// cross items go through a fixed partition (see ops/partition.h), never through "one partial sum per thread".
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>

namespace fastcnn {

// How many threads the next parallel_for on this thread may use.
int num_threads();
// n >= 1; applies to the whole process.
void set_num_threads(int n);
// How many this process should use, and the sentence that says why (affinity, cgroup quota, OMP_NUM_THREADS).
int default_threads(std::string* why = nullptr);
std::string openmp_runtime();

// For as long as it lives, parallel_for on this thread uses n threads: a plan runs with the count it was made
// for.
class ThreadScope {
 public:
  explicit ThreadScope(int n);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int previous_;
};

using Body = std::function<void()>;
void run_session(const Body& body);

// Calls body() on this thread with the team held ready: every parallel_for in it hands its items to threads
// that are already awake, and nobody waits for a thread that took none. Anything that calls parallel_for
// often belongs in one session.
template <class F>
void parallel_session(F&& body) {
  run_session(std::ref(body));  // nothing is allocated
}

using ItemFn = void (*)(void* context, std::int64_t item, int thread);
void parallel_run(std::int64_t items, ItemFn fn, void* context);

// f(item, thread) for every item in [0, items); 0 <= thread < num_threads(). Items are handed out in order,
// in runs of consecutive ones. Denormals are flushed inside. f must not throw and must not call parallel_for.
template <class F>
void parallel_for(std::int64_t items, F&& f) {
  using Fn = std::remove_reference_t<F>;
  parallel_run(
      items, [](void* c, std::int64_t item, int thread) { (*static_cast<Fn*>(c))(item, thread); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

}  // namespace fastcnn
