#include "transports/api/begin_thread.h"

#include <pthread.h>
#include <signal.h>

namespace eventvirtual {

void BeginThread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

}  // namespace eventvirtual
