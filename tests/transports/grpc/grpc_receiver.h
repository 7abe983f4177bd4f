// GrpcReceiver: a real gRPC server of this process that serves eventvirtual.v1.Receiver.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_GRPC_GRPC_RECEIVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_GRPC_GRPC_RECEIVER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "proto/eventvirtual/v1/event.grpc.pb.h"
#include "proto/eventvirtual/v1/receiver.grpc.pb.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/io/server_process.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// TLS by the certificates of `folder` (see MakeCertificates), with a client that has one of them.
inline std::shared_ptr<grpc::ServerCredentials> ServerTls(const TemporaryFolder& folder) {
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = ReadFile(folder / "ca.pem");
  options.pem_key_cert_pairs.push_back({ReadFile(folder / "server.key"), ReadFile(folder / "server.pem")});
  return grpc::SslServerCredentials(options);
}
// Options of a subscriber that it lets in.
inline std::string ClientTls(const TemporaryFolder& folder) {
  return absl::StrCat("ca=", folder / "ca.pem", "&cert=", folder / "client.pem", "&key=", folder / "client.key");
}

// Any thread.
class GrpcReceiver final : private v1::Receiver::Service {
 public:
  struct Received {
    v1::Event event;
    std::multimap<std::string, std::string> metadata;
    std::string peer;          // "ipv4:127.0.0.1:40012": another for each connection
    absl::Duration time_left;  // to the call's deadline
  };
  struct Options {
    std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
    // On a thread of the server; the event has been recorded before.
    std::function<grpc::Status(const v1::Event&, grpc::ServerContext&)> answer =
        [](const v1::Event&, grpc::ServerContext&) { return grpc::Status::OK; };
    std::map<std::string, int> arguments;  // of the channels, GRPC_ARG_…
    bool serves = true;                    // else the server has another service
  };

  GrpcReceiver() : GrpcReceiver(Options()) {}
  explicit GrpcReceiver(Options options) : options_(std::move(options)) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", options_.credentials, &port);
    for (const auto& [name, value] : options_.arguments) builder.AddChannelArgument(name, value);
    builder.RegisterService(options_.serves ? static_cast<grpc::Service*>(this) : &other_);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
    port_ = static_cast<uint16_t>(port);
  }
  ~GrpcReceiver() override { Stop(); }

  uint16_t port() const { return port_; }

  // Lets what has begun finish, refuses the rest, and goes; as GOAWAY says it to the clients.
  void Stop() { server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5)); }

  std::optional<Received> ReceiveEvent(absl::Duration patience = kPatience) {
    const absl::Time give_up = absl::Now() + patience;
    MutexLock lock(&mutex_);
    while (received_.empty() && absl::Now() < give_up) changed_.WaitFor(&mutex_, give_up - absl::Now());
    if (received_.empty()) return std::nullopt;
    Received received = std::move(received_.front());
    received_.pop_front();
    return received;
  }
  // The event alone, in protobuf's bytes.
  std::optional<std::string> Receive(absl::Duration patience) {
    const std::optional<Received> received = ReceiveEvent(patience);
    if (!received.has_value()) return std::nullopt;
    return received->event.SerializeAsString();
  }
  // Connections that have carried an event.
  size_t connections() {
    MutexLock lock(&mutex_);
    return peers_.size();
  }

 private:
  grpc::Status Deliver(grpc::ServerContext* context, const v1::DeliverRequest* request, v1::DeliverResponse*) override {
    Received received;
    received.event = request->event();
    for (const auto& [name, value] : context->client_metadata()) {
      received.metadata.emplace(std::string(name.data(), name.size()), std::string(value.data(), value.size()));
    }
    received.peer = context->peer();
    received.time_left = absl::FromChrono(context->deadline()) - absl::Now();
    {
      MutexLock lock(&mutex_);
      peers_.insert(received.peer);
      received_.push_back(std::move(received));
      changed_.SignalAll();
    }
    return options_.answer(request->event(), *context);
  }

  const Options options_;
  v1::EventService::Service other_;
  uint16_t port_ = 0;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Received> received_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> peers_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_GRPC_GRPC_RECEIVER_H_
