// One large aligned region, in huge pages where the system allows: a plan's buffers are offsets into it.
// Arenas come from a process-wide pool, so that plans for a thousand input shapes share the same memory.
#pragma once

#include <cstddef>
#include <memory>

namespace fastcnn {

class Arena {
 public:
  // At least `bytes`; contents undefined. MemoryError when the system refuses.
  explicit Arena(std::size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// A loan from the pool: returned when it goes out of scope. The pool keeps the largest arena that came back.
struct GiveBack {
  void operator()(Arena* arena) const;
};
using ArenaLoan = std::unique_ptr<Arena, GiveBack>;
ArenaLoan borrow_arena(std::size_t bytes);

std::size_t pooled_arena_bytes();  // held for the next loan
void release_pooled_arenas();

}  // namespace fastcnn
