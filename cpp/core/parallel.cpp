#include "core/parallel.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <exception>
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
#include "core/fork.h"

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#endif

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

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");  // about as long as a pause; yield takes no time on most cores
#endif
}

// The OpenMP runtime orders the start and the end of a region; a thread sanitizer does not see how.
#if defined(__SANITIZE_THREAD__)
void comes_before(void* what) { __tsan_release(what); }
void comes_after(void* what) { __tsan_acquire(what); }
#else
inline void comes_before(void*) {}
inline void comes_after(void*) {}
#endif

constexpr int kSpins = 8000;  // about 0.3 ms: longer than the pauses between the jobs of a plan

// Polls `ready`: briefly without giving up the core, then giving way to whoever else wants it.
template <class Ready>
void wait_until(Ready ready) {
  for (int spins = 0; !ready(); ++spins) {
    if (spins < kSpins)
      relax();
    else
      sched_yield();
  }
}

// One OpenMP region, in which thread 0 posts jobs and the others help with them. A job is finished when all
// of its items are; a thread that is late (asleep, or its core busy elsewhere) finds nothing left to do, and
// nobody waits for it.
class Session {
 public:
  explicit Session(int threads) : threads_(threads) {}
  int threads() const { return threads_; }

  void run(const Body& body);

  void post(std::int64_t items, ItemFn fn, void* context) {
    const std::uint64_t epoch = (state_.load(std::memory_order_relaxed) >> 32) + 1;
    state_.store(epoch << 32 | kItemBits, std::memory_order_relaxed);
    // Nobody takes an item now. The fence keeps the fields below behind that, so that who reads a new value
    // fails on the old state; on Arm a store's own release does not hold later stores back.
    std::atomic_thread_fence(std::memory_order_release);
    items_.store(items, std::memory_order_relaxed);
    chunk_.store(std::max<std::int64_t>(1, items / (std::int64_t{threads_} * 32)), std::memory_order_relaxed);
    fn_.store(fn, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    state_.store(epoch << 32, std::memory_order_release);
    take_items(0);
    wait_until([&] { return done_.load(std::memory_order_acquire) == items; });
  }

  static constexpr std::int64_t kClosed = 0xffffffff;  // as the next item: there is none to take

 private:
  static constexpr std::uint64_t kItemBits = 0xffffffffu;

  // Runs of consecutive items: a few per thread, so that a slow neighbour does not hold up the job.
  void take_items(int thread) {
    for (std::uint64_t s = state_.load(std::memory_order_acquire);;) {
      const auto next = static_cast<std::int64_t>(s & kItemBits);
      const std::int64_t items = items_.load(std::memory_order_relaxed),
                         chunk = chunk_.load(std::memory_order_relaxed);
      const ItemFn fn = fn_.load(std::memory_order_relaxed);
      void* const context = context_.load(std::memory_order_relaxed);
      if (next == kClosed || next >= items) return;
      const std::int64_t begin = next, end = std::min(items, begin + chunk);
      // Succeeds only while the job is still the one that was read above.
      if (!state_.compare_exchange_weak(s, (s & ~kItemBits) | static_cast<std::uint64_t>(end),
                                        std::memory_order_acq_rel, std::memory_order_acquire))
        continue;
      for (std::int64_t i = begin; i < end; ++i) fn(context, i, thread);
      done_.fetch_add(end - begin, std::memory_order_release);
      s = state_.load(std::memory_order_acquire);
    }
  }

  void help(int thread) {
    while (!over_.load(std::memory_order_acquire)) {
      take_items(thread);
      const std::uint64_t seen = state_.load(std::memory_order_acquire);
      wait_until([&] {
        return over_.load(std::memory_order_acquire) || state_.load(std::memory_order_acquire) != seen;
      });
    }
  }

  const int threads_;
  alignas(64) std::atomic<std::uint64_t> state_{kItemBits};  // job number, next item
  alignas(64) std::atomic<std::int64_t> done_{0};
  alignas(64) std::atomic<std::int64_t> items_{0};
  std::atomic<std::int64_t> chunk_{1};
  std::atomic<ItemFn> fn_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<bool> over_{false};
};

thread_local Session* session = nullptr;  // that this thread posts to

void Session::run(const Body& body) {
  comes_before(this);
#pragma omp parallel num_threads(threads_)
  {
    comes_after(this);
    const FlushDenormals flush;
    if (omp_get_thread_num() == 0) {
      session = this;
      body();
      session = nullptr;
      over_.store(true, std::memory_order_release);
    } else {
      help(omp_get_thread_num());
    }
    comes_before(&over_);
  }
  comes_after(&over_);
}

class ChildDriver {
 public:
  void run(int threads, const Body& body) {
    const std::lock_guard<std::mutex> one_at_a_time(caller_);
    std::unique_lock<std::mutex> lock(mutex_);
    if (!started_) std::thread([this] { serve(); }).detach();
    started_ = true;
    threads_ = threads, body_ = &body;
    wake_.notify_all();
    wake_.wait(lock, [this] { return !body_; });
  }

 private:
  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);  // which the caller, too, only needs when the job is done
    for (;; body_ = nullptr, wake_.notify_all()) {
      wake_.wait(lock, [this] { return body_; });
      Session(threads_).run(*body_);
    }
  }
  std::mutex caller_, mutex_;
  std::condition_variable wake_;
  const Body* body_ = nullptr;  // to be run; null: done
  int threads_ = 1;
  bool started_ = false;
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
  if (session) return session->threads();
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

void run_session(const Body& body) {
  const int threads = num_threads();  // read once: another thread may set it at any moment
  if (session || threads == 1) {
    const FlushDenormals flush;
    body();
    return;
  }
  if (!team_used.exchange(true)) {
    static std::once_flag once;
    std::call_once(once, [] { renew_in_child(after_fork_in_child); });
  }
  std::exception_ptr thrown;  // which must not leave the OpenMP region
  const Body guarded = [&] {
    try {
      body();
    } catch (...) {
      thrown = std::current_exception();
    }
  };
  if (forked_with_team.load(std::memory_order_relaxed))
    child_driver->run(threads, guarded);
  else
    Session(threads).run(guarded);
  if (thrown) std::rethrow_exception(thrown);
}

void parallel_run(std::int64_t items, ItemFn fn, void* context) {
  if (items <= 0) return;
  const int threads = num_threads();
  // More items than a job's counter holds do not occur; they would still be right.
  if (items == 1 || threads == 1 || items >= Session::kClosed) {
    const FlushDenormals flush;
    for (std::int64_t i = 0; i < items; ++i) fn(context, i, 0);
  } else if (session) {
    session->post(items, fn, context);
  } else {
    const ThreadScope scope(threads);
    parallel_session([&] { session->post(items, fn, context); });
  }
}

}  // namespace fastcnn
