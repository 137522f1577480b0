#include "core/arena.h"

#include <sys/mman.h>

#include <mutex>
#include <new>

#include "core/error.h"
#include "core/fork.h"
#include "core/poison.h"

namespace fastcnn {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::mutex& pool_mutex() {
  static std::mutex* const m = [] {
    static std::mutex first;
    renew_in_child([] { new (&first) std::mutex; });
    return &first;
  }();
  return *m;
}
std::unique_ptr<Arena>& pooled() {
  static std::unique_ptr<Arena> arena;
  return arena;
}

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

ArenaLoan::ArenaLoan(std::size_t bytes) {
  {
    const std::lock_guard<std::mutex> lock(pool_mutex());
    if (pooled() && pooled()->bytes() >= bytes)
      arena_ = std::move(pooled());
    else
      pooled().reset();  // too small: give it back before asking for more
  }
  if (!arena_) arena_ = std::make_unique<Arena>(bytes);
  poison(arena_->data(), bytes);
}

ArenaLoan& ArenaLoan::operator=(ArenaLoan&& o) noexcept {
  std::swap(arena_, o.arena_);
  return *this;
}

ArenaLoan::~ArenaLoan() {
  if (!arena_) return;
  const std::lock_guard<std::mutex> lock(pool_mutex());
  if (!pooled() || pooled()->bytes() < arena_->bytes()) pooled() = std::move(arena_);
}

std::size_t pooled_arena_bytes() {
  const std::lock_guard<std::mutex> lock(pool_mutex());
  return pooled() ? pooled()->bytes() : 0;
}

void release_pooled_arenas() {
  const std::lock_guard<std::mutex> lock(pool_mutex());
  pooled().reset();
}

}  // namespace fastcnn
