#include "core/arena.h"

#include <sys/mman.h>

#include <mutex>

#include "core/error.h"
#include "core/fork.h"
#include "core/poison.h"

namespace fastcnn {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct PoolMutex : std::mutex {};
using PoolLock = std::lock_guard<std::mutex>;
std::unique_ptr<Arena> pooled;

}  // namespace

Arena::Arena(std::size_t bytes) {
  // Whole huge pages from an aligned start; a small arena is not worth one.
  const std::size_t unit = bytes >= kHugePage ? kHugePage : 4096;
  bytes_ = (bytes + unit - 1) / unit * unit;
  if (bytes_ == 0) return;
  const std::size_t mapped = bytes_ + (unit == kHugePage ? kHugePage : 0);
  void* p = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw MemoryError(str("cannot allocate ", bytes, " bytes for a plan's buffers"));
  auto start = reinterpret_cast<std::uintptr_t>(p);
  const std::uintptr_t aligned = (start + unit - 1) / unit * unit;
  if (aligned > start) munmap(p, aligned - start);
  if (const std::size_t tail = start + mapped - (aligned + bytes_))
    munmap(reinterpret_cast<void*>(aligned + bytes_), tail);
  data_ = reinterpret_cast<std::byte*>(aligned);
#ifdef MADV_HUGEPAGE
  if (unit == kHugePage) madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
}

Arena::~Arena() {
  if (data_) munmap(data_, bytes_);
}

ArenaLoan borrow_arena(std::size_t bytes) {
  std::unique_ptr<Arena> arena;
  {
    const PoolLock lock(of_process<PoolMutex>());
    arena = std::move(pooled);
  }
  if (arena && arena->bytes() < bytes) arena.reset();  // give it back before asking for more
  if (!arena) arena = std::make_unique<Arena>(bytes);
  poison(arena->data(), bytes);
  return ArenaLoan(arena.release());
}

void GiveBack::operator()(Arena* arena) const {
  std::unique_ptr<Arena> given(arena);
  const PoolLock lock(of_process<PoolMutex>());
  if (!pooled || pooled->bytes() < given->bytes()) pooled.swap(given);
}

std::size_t pooled_arena_bytes() {
  const PoolLock lock(of_process<PoolMutex>());
  return pooled ? pooled->bytes() : 0;
}

void release_pooled_arenas() {
  const PoolLock lock(of_process<PoolMutex>());
  pooled.reset();
}

}  // namespace fastcnn
