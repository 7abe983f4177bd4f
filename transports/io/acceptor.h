// Acceptor: takes the connections that come to a listening socket.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_ACCEPTOR_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_ACCEPTOR_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "transports/api/loop.h"
#include "transports/io/bound_socket.h"

namespace eventvirtual {

// Keeps one descriptor in reserve. When the process has no other left, a connection is accepted with it and closed at
// once: its client learns that now, instead of waiting in a backlog that nobody empties, and the listener hears of the
// next one. All on the loop.
class Acceptor {
 public:
  // `take` gets the descriptor of each new connection (non-blocking, close-on-exec), and owns it from then on.
  // `on_shed` is told of each that was closed for want of a descriptor.
  Acceptor(
      BoundSocket listening, Loop& loop, absl::AnyInvocable<void(int fd)> take,
      absl::AnyInvocable<void()> on_shed = [] {});
  ~Acceptor();

  void Stop();  // takes no more; the socket stays bound

 private:
  void Accept();
  bool Shed();

  const BoundSocket listening_;
  Loop& loop_;
  absl::AnyInvocable<void(int fd)> take_;
  absl::AnyInvocable<void()> on_shed_;
  int reserve_;  // -1: it could not be had again yet
  const std::unique_ptr<Loop::Watch> watch_;
  const std::unique_ptr<Loop::Timer> retry_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_ACCEPTOR_H_
