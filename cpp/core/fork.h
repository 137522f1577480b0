// What a forked child must make new: locks that another thread of the parent held when it forked stay locked
// in the child for ever, for that thread does not exist there.
#pragma once

namespace fastcnn {

// renew() runs in every forked child, before anything else, on its only thread. Call once per function.
void renew_in_child(void (*renew)());

}  // namespace fastcnn
