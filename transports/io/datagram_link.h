// DatagramLink: one connected, non-blocking datagram socket as a Link. What udp and unix have in common.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_DATAGRAM_LINK_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_DATAGRAM_LINK_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// Each parcel is one datagram with the message's JSON-RPC text; it ends OK when the kernel has taken it and knows of no
// error. Where there is no room it waits for some, in order.
//
// A connected UDP socket hears of a closed port by an ICMP error. From this host it is there when send() returns
// (measured: 40,000 of 40,000), so the parcels of that batch fail. From further away it comes when they have been
// reported already: the link closes with DATA_LOSS.
class DatagramLink : public Link {
 public:
  ~DatagramLink() override;
  void Send(absl::Span<Parcel> parcels) override;

 protected:
  // `name` is the masked target, for error texts. Larger payloads than `max_payload` bytes are INVALID_ARGUMENT.
  DatagramLink(std::string name, Encoding encoding, size_t max_payload, Loop& loop, Host& host)
      : name_(std::move(name)), encoding_(encoding), max_payload_(max_payload), loop_(loop), host_(host) {}

  // On the loop, once, not inside Connect(): takes the socket over and reports ready, or reports why there is none.
  void Ready(int connected_fd);
  void Close(absl::Status why);  // fails what waits; tells the host by a posted task

  const std::string& name() const { return name_; }

 private:
  void Flush();
  size_t RunLength() const;
  int SendRun(size_t count);
  int TakeSocketError();

  const std::string name_;
  const Encoding encoding_;
  const size_t max_payload_;
  Loop& loop_;
  Host& host_;
  int fd_ = -1;
  bool cuts_runs_ = false;  // the kernel takes several datagrams as one buffer (UDP_SEGMENT)
  absl::Status closed_;
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> retry_;
  bool retrying_ = false;                                       // the timer is armed
  std::deque<Parcel> waiting_;                                  // bounded by the window
  std::vector<Completion> sent_;                                // scratch of Flush()
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posted tasks look at it first
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_DATAGRAM_LINK_H_
