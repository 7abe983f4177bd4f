// StreamConnector: a TCP connection to a host by name, without blocking the loop.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_STREAM_CONNECTOR_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_STREAM_CONNECTOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transports/api/loop.h"
#include "transports/api/uri.h"
#include "transports/io/name_lookup.h"

namespace eventvirtual {

// Looks the host up and tries its addresses one after the other; each gets an equal share of `timeout`, so that a dead
// first address does not use up the time of a living second. Created and destroyed on the loop.
class StreamConnector {
 public:
  // `on_connected` is called once, on the loop, not before the constructor has returned: with a non-blocking,
  // close-on-exec descriptor that now belongs to the caller, or with UNAVAILABLE naming what was tried and the last
  // error; PERMISSION_DENIED when the policy of destinations is against every address. `name_servers` is for tests, see
  // NameLookup.
  StreamConnector(Loop& loop, const HostPort& host, absl::Duration timeout,
                  absl::AnyInvocable<void(absl::StatusOr<int>) &&> on_connected, const std::string& name_servers = "");
  ~StreamConnector();  // cancels
  StreamConnector(const StreamConnector&) = delete;
  StreamConnector& operator=(const StreamConnector&) = delete;

 private:
  void TryNext();
  void OnWritable();
  void Fail(absl::Status why);
  void CloseAttempt();

  Loop& loop_;
  const HostPort host_;
  const absl::Duration timeout_;
  absl::AnyInvocable<void(absl::StatusOr<int>) &&> on_connected_;
  std::vector<SocketAddress> addresses_;
  size_t next_ = 0;
  absl::Status last_error_;
  int fd_ = -1;
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> timer_;
  std::unique_ptr<NameLookup> lookup_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_STREAM_CONNECTOR_H_
