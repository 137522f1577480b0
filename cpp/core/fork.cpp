#include "core/fork.h"

#include <pthread.h>

namespace fastcnn {

void renew_in_child(void (*renew)()) { pthread_atfork(nullptr, nullptr, renew); }

}  // namespace fastcnn
