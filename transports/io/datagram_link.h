// DatagramLink: one connected, non-blocking datagram socket as a Link. What udp and unix have in common.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_DATAGRAM_LINK_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_DATAGRAM_LINK_H_

#include <deque>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// Each parcel is one datagram with the message's JSON-RPC text; it ends OK when the kernel has taken it and knows of no
// error. Where the receiver's buffer is full it waits for room, in order.
//
// A connected UDP socket hears of a closed port by an ICMP error. On this host that is known as soon as send() returns:
// every parcel of the batch fails. From further away it comes later: the link closes with DATA_LOSS.
class DatagramLink : public Link {
 public:
  // `name` is the masked target, for error texts.
  DatagramLink(std::string name, Loop& loop, Host& host) : name_(std::move(name)), loop_(loop), host_(host) {}
  ~DatagramLink() override;
  void Send(absl::Span<Parcel> parcels) override;

 protected:
  // On the loop, once, not inside Connect(): takes the socket over and reports ready, or reports why there is none.
  void Ready(int connected_fd);
  void Close(absl::Status why);  // fails what waits; tells the host by a posted task

  Loop& loop() const { return loop_; }
  const std::string& name() const { return name_; }

 private:
  void Flush();
  absl::Status TakeSocketError();

  const std::string name_;
  Loop& loop_;
  Host& host_;
  int fd_ = -1;
  absl::Status closed_;
  std::unique_ptr<Loop::Watch> watch_;
  std::deque<Parcel> waiting_;  // for room in the receiver's buffer; bounded by the window
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posted tasks look at it first
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_DATAGRAM_LINK_H_
