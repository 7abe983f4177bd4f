// What every thread of ours begins with.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_BEGIN_THREAD_H_
#define EVENTVIRTUAL_TRANSPORTS_API_BEGIN_THREAD_H_

#include <string>

namespace eventvirtual {

// Names the thread that calls it, as ps(1) and top(1) show it; at most 15 characters are kept. And blocks all signals
// there: they are for the main thread.
void BeginThread(const std::string& name);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_BEGIN_THREAD_H_
