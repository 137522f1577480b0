#include "core/access.h"

#include <condition_variable>
#include <mutex>

#include "core/fork.h"

namespace fastcnn {
namespace {

unsigned generations = 0;  // of processes so far: this one's door and those of its ancestors

struct Door {
  std::mutex mutex;
  std::condition_variable changed;
  unsigned generation = ++generations;
};

}  // namespace

bool Access::free() const {
  for (const Lockable* l : read_)
    if (l->writer_ || l->waiting_ > 0) return false;
  for (const Lockable* l : write_)
    if (l->writer_ || l->readers_ > 0) return false;
  return true;
}

Access::Access(const std::vector<Lockable*>& read, const std::vector<Lockable*>& write)
    : read_(read), write_(write) {
  Door& d = of_process<Door>();
  std::unique_lock<std::mutex> lock(d.mutex);
  for (const auto* list : {&read_, &write_})
    for (Lockable* l : *list)
      if (l->generation_ != d.generation) {
        *l = Lockable();
        l->generation_ = d.generation;
      }
  if (!free()) {
    for (Lockable* l : write_) ++l->waiting_;
    d.changed.wait(lock, [this] {
      // A writer waits for readers and writers; that others wait too does not hold it up.
      for (const Lockable* l : write_)
        if (l->writer_ || l->readers_ > 0) return false;
      for (const Lockable* l : read_)
        if (l->writer_ || (write_.empty() && l->waiting_ > 0)) return false;
      return true;
    });
    for (Lockable* l : write_) --l->waiting_;
  }
  for (Lockable* l : read_) ++l->readers_;
  for (Lockable* l : write_) l->writer_ = true;
}

Access::~Access() {
  Door& d = of_process<Door>();
  {
    const std::lock_guard<std::mutex> lock(d.mutex);
    for (Lockable* l : read_) --l->readers_;
    for (Lockable* l : write_) l->writer_ = false;
  }
  d.changed.notify_all();
}

}  // namespace fastcnn
