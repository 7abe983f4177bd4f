// GrpcLink: events as calls of eventvirtual.v1.Receiver/Deliver.
#ifndef EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_LINK_H_
#define EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_LINK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "transports/api/transport.h"
#include "transports/grpc/grpc_address.h"
#include "transports/grpc/grpc_connection.h"
#include "transports/io/byte_stream.h"
#include "transports/io/mailbox.h"
#include "transports/io/worker.h"

namespace eventvirtual {

// A connection that the server ends in order, as many servers do every few minutes, is no failure: what is out on it is
// let finish, and what comes next, and what the server says it has not looked at, goes to another. Any other end of
// a connection is that of the link.
class GrpcLink final : public Link {
 public:
  GrpcLink(GrpcAddress address, Loop& loop, Host& host);
  ~GrpcLink() override;
  void Send(absl::Span<Parcel> parcels) override;

 private:
  void PrepareTls();
  void Connect();
  void Carry(Parcel parcel);
  void OnOpen();
  void OnEnded(const GrpcConnection* connection);
  void Close(const absl::Status& why);

  const GrpcAddress address_;
  const std::string name_;  // masked
  Loop& loop_;
  Host& host_;
  const std::shared_ptr<Mailbox> box_ = std::make_shared<Mailbox>(loop_);
  std::unique_ptr<Worker> reader_;
  TlsContext tls_;  // null: no TLS
  bool ready_ = false;
  absl::Status closed_;
  std::unique_ptr<GrpcConnection> connection_;
  std::vector<std::unique_ptr<GrpcConnection>> leaving_;  // each with calls that are out, so bounded by the window
  std::vector<Parcel> waiting_;                           // for connection_ to open; bounded by the window
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_LINK_H_
