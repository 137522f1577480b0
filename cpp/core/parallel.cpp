#include "core/parallel.h"

#include <omp.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "core/error.h"

namespace fastcnn {
namespace {

// Flushes denormals while it lives and gives the caller's floating-point state back.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }  // FTZ, DAZ
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushDenormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" ::"r"(saved_ | (1ull << 24)));  // FZ
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  unsigned long long saved_ = 0;
#else
  FlushDenormals() {}
#endif
};

int affinity_cpus() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

// CPUs that the cgroup's quota pays for, or 0 where there is none.
int quota_cpus() {
  std::string quota;
  double period = 0;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2 >> quota >> period && quota != "max")
    return std::max(1, static_cast<int>(std::ceil(std::atof(quota.c_str()) / period)));
  double q = 0;
  std::ifstream v1q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), v1p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (v1q >> q && v1p >> period && q > 0) return std::max(1, static_cast<int>(std::ceil(q / period)));
  return 0;
}

std::atomic<int> global_threads{0};
thread_local int scope_threads = 0;

// The threads of an OpenMP team do not survive fork(), but the child's runtime believes they do and would
// wait for them for ever. A thread born in the child has no team yet, so in a forked child the regions are
// started from one.
std::atomic<bool> team_used{false};
std::atomic<bool> forked_with_team{false};

void run_region(std::int64_t items, int threads, ItemFn fn, void* context) {
  // Runs of consecutive items: a few per thread, so that a slow neighbour does not hold up the region.
  const std::int64_t run = std::max<std::int64_t>(1, items / (std::int64_t{threads} * 8));
  std::atomic<std::int64_t> next{0};
#pragma omp parallel num_threads(threads)
  {
    const FlushDenormals flush;
    const int thread = omp_get_thread_num();
    for (;;) {
      const std::int64_t begin = next.fetch_add(run, std::memory_order_relaxed);
      if (begin >= items) break;
      for (std::int64_t i = begin; i < std::min(items, begin + run); ++i) fn(context, i, thread);
    }
  }
}

class ChildDriver {
 public:
  void run(std::int64_t items, int threads, ItemFn fn, void* context) {
    const std::lock_guard<std::mutex> one_at_a_time(caller_);
    std::unique_lock<std::mutex> lock(mutex_);
    if (!started_) {
      started_ = true;
      std::thread([this] { serve(); }).detach();
    }
    job_ = {items, threads, fn, context};
    pending_ = true, done_ = false;
    wake_.notify_all();
    wake_.wait(lock, [this] { return done_; });
  }

 private:
  struct Job {
    std::int64_t items;
    int threads;
    ItemFn fn;
    void* context;
  };
  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return pending_; });
      pending_ = false;
      const Job job = job_;
      lock.unlock();
      run_region(job.items, job.threads, job.fn, job.context);
      lock.lock();
      done_ = true;
      wake_.notify_all();
    }
  }
  std::mutex caller_, mutex_;
  std::condition_variable wake_;
  Job job_{};
  bool started_ = false, pending_ = false, done_ = false;
};

ChildDriver* child_driver = nullptr;  // one per process generation: a grandchild needs a fresh one

void after_fork_in_child() {
  if (team_used.load()) {
    forked_with_team.store(true);
    child_driver = new ChildDriver;  // the parent's, if any, is left behind with its locks
  }
}

}  // namespace

int default_threads(std::string* why) {
  const int affinity = affinity_cpus(), quota = quota_cpus();
  int n = affinity;
  std::string reason = str("CPUs this process may run on: ", affinity);
  if (quota > 0 && quota < n) n = quota, reason = str("cgroup quota: ", quota, " CPUs");
  if (const char* env = std::getenv("OMP_NUM_THREADS")) {
    char* end = nullptr;
    const long v = std::strtol(env, &end, 10);
    if (end != env && v >= 1 && v <= 4096) n = static_cast<int>(v), reason = str("OMP_NUM_THREADS=", v);
  }
  if (why) *why = reason;
  return n;
}

int num_threads() {
  if (scope_threads > 0) return scope_threads;
  int n = global_threads.load(std::memory_order_relaxed);
  if (n == 0) global_threads.store(n = default_threads());
  return n;
}

void set_num_threads(int n) {
  if (n < 1 || n > 4096) throw ValueError(str("set_num_threads: expected 1 to 4096 threads, got ", n));
  global_threads.store(n);
}

std::string openmp_runtime() {
#if defined(__clang__)
  return str("libomp (OpenMP ", _OPENMP, ")");
#else
  return str("libgomp (OpenMP ", _OPENMP, ")");
#endif
}

ThreadScope::ThreadScope(int n) : previous_(scope_threads) { scope_threads = n; }
ThreadScope::~ThreadScope() { scope_threads = previous_; }

void parallel_run(std::int64_t items, ItemFn fn, void* context) {
  if (items <= 0) return;
  const int threads = static_cast<int>(std::min<std::int64_t>(num_threads(), items));
  if (threads == 1) {
    const FlushDenormals flush;
    for (std::int64_t i = 0; i < items; ++i) fn(context, i, 0);
    return;
  }
  if (!team_used.exchange(true)) {
    static std::once_flag once;
    std::call_once(once, [] { pthread_atfork(nullptr, nullptr, after_fork_in_child); });
  }
  if (forked_with_team.load(std::memory_order_relaxed))
    child_driver->run(items, threads, fn, context);
  else
    run_region(items, threads, fn, context);
}

}  // namespace fastcnn
