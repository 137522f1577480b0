// What a forked child must make new: locks that another thread of the parent held when it forked stay locked
// in the child for ever, for that thread does not exist there.
#pragma once

#include <pthread.h>

#include <new>

namespace fastcnn {

// renew() runs in every forked child, before anything else, on its only thread. Call once per function.
inline void renew_in_child(void (*renew)()) { pthread_atfork(nullptr, nullptr, renew); }

// The process's T, which a forked child makes anew where it lay.
template <class T>
T& of_process() {
  static T* const one = [] {
    static T first;
    renew_in_child([] { new (&first) T; });
    return &first;
  }();
  return *one;
}

}  // namespace fastcnn
