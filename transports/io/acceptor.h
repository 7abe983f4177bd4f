// Acceptor: takes the connections that come to a listening socket.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_ACCEPTOR_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_ACCEPTOR_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "transports/api/loop.h"
#include "transports/io/bound_socket.h"

namespace eventvirtual {

// All on the loop.
class Acceptor {
 public:
  // `take` gets the descriptor of each new connection (non-blocking, close-on-exec), and owns it from then on. When the
  // process has no descriptors left, the next is asked for a tenth of a second later.
  Acceptor(BoundSocket listening, Loop& loop, absl::AnyInvocable<void(int fd)> take);

  void Stop();  // takes no more; the socket stays bound

 private:
  void Accept();

  const BoundSocket listening_;
  Loop& loop_;
  absl::AnyInvocable<void(int fd)> take_;
  const std::unique_ptr<Loop::Watch> watch_;
  const std::unique_ptr<Loop::Timer> retry_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_ACCEPTOR_H_
