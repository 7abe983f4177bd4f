// EV_CHECK: our own broken invariants end the process, with the place and the condition.
//
// What a peer, a file, a broker or a client does wrong is never one of these: it is an absl::Status.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_CHECK_H_
#define EVENTVIRTUAL_TRANSPORTS_API_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define EV_CHECK(condition)                                                                  \
  do {                                                                                       \
    if (!(condition)) [[unlikely]] {                                                         \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)

#endif  // EVENTVIRTUAL_TRANSPORTS_API_CHECK_H_
