// Who may use a memory now: any number of readers, or one writer. A run takes all it needs at once, so two
// runs never wait for each other in a circle, and a forked child finds everything free.
#pragma once

#include <vector>

namespace fastcnn {

class Lockable {
 private:
  friend class Access;
  int readers_ = 0, waiting_ = 0;  // waiting: writers, whom new readers let pass
  bool writer_ = false;
  unsigned generation_ = 0;  // of the process; what an earlier one held does not count
};

// For as long as it lives, `read` do not change and nobody else uses `write`. Nothing may stand in both
// lists, or twice in one.
class Access {
 public:
  Access(const std::vector<Lockable*>& read, const std::vector<Lockable*>& write);
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

 private:
  bool free() const;
  const std::vector<Lockable*>&read_, &write_;
};

}  // namespace fastcnn
