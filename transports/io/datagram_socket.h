// DatagramSocket: a bound socket that datagrams come to, and answers leave from.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_DATAGRAM_SOCKET_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_DATAGRAM_SOCKET_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "transports/api/loop.h"
#include "transports/io/bound_socket.h"

namespace eventvirtual {

struct Datagram {
  absl::string_view bytes;
  bool cut = false;  // there were more than the socket takes
  // Who sent it; `from_length` is 0 if it has no address.
  sockaddr_storage from;
  socklen_t from_length = 0;
  std::optional<uid_t> user;  // who sent it, where that was asked for and the kernel says so
};

// All on the loop.
class DatagramSocket {
 public:
  // Calls `on_readable` when datagrams have come, to be taken by Receive(). One longer than `max_bytes` is cut.
  DatagramSocket(BoundSocket bound, Loop& loop, size_t max_bytes, absl::AnyInvocable<void()> on_readable);

  // From now on the kernel is asked for the user of each datagram; of a unix socket only.
  void AskForUsers();

  // Takes up to 16 of those that have come, in one system call, and calls `take` for each, which must not destroy this.
  // Whether there may be more.
  bool Receive(absl::FunctionRef<void(const Datagram&)> take);

  // Answers whoever sent `to`. Never blocks; a sender that has no address, has gone or does not read gets nothing.
  void Answer(const Datagram& to, absl::string_view bytes);

  void Stop();  // `on_readable` is not called any more

 private:
  const BoundSocket bound_;
  const size_t max_bytes_;
  bool asks_for_users_ = false;
  const std::unique_ptr<char[]> buffer_;  // of each only the pages that a datagram reached take memory
  const std::unique_ptr<Loop::Watch> watch_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_DATAGRAM_SOCKET_H_
