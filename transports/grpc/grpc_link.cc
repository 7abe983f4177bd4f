#include "transports/grpc/grpc_link.h"

#include <openssl/ssl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/io/tls_options.h"

namespace eventvirtual {
namespace {

constexpr unsigned char kHttp2[] = {2, 'h', '2'};  // RFC 7301: what is to be spoken on top of TLS

}  // namespace

GrpcLink::GrpcLink(GrpcAddress address, Loop& loop, Host& host)
    : address_(std::move(address)), name_(address_.ToString(/*masked=*/true)), loop_(loop), host_(host) {
  if (address_.tls) {
    PrepareTls();
  } else {
    Connect();
  }
}

GrpcLink::~GrpcLink() { box_->Leave(); }

void GrpcLink::PrepareTls() {
  reader_ = std::make_unique<Worker>("grpc-files");
  reader_->Run([this, box = box_, options = TlsOptions(address_)] {
    absl::StatusOr<TlsContext> context = MakeTlsContext(options);
    if (context.ok()) SSL_CTX_set_alpn_protos(context->get(), kHttp2, sizeof(kHttp2));
    box->Post([this, context = std::move(context)]() mutable {
      if (!context.ok()) {
        return Close(absl::Status(context.status().code(), absl::StrCat(name_, ": ", context.status().message())));
      }
      tls_ = *std::move(context);
      Connect();
    });
  });
}

void GrpcLink::Connect() {
  GrpcConnection::Reports reports;
  reports.on_open = [this] { OnOpen(); };
  reports.on_untouched = [this](Parcel parcel) { Carry(std::move(parcel)); };
  reports.on_ended = [this](const GrpcConnection& ended) { box_->Post([this, ended = &ended] { OnEnded(ended); }); };
  connection_ = std::make_unique<GrpcConnection>(address_, name_, tls_.get(), loop_, std::move(reports));
}

void GrpcLink::OnOpen() {
  if (!std::exchange(ready_, true)) {
    host_.OnReady(
        static_cast<int>(std::clamp<uint32_t>(connection_->max_calls(), 1, static_cast<uint32_t>(address_.window))));
  }
  std::vector<Parcel> waiting;
  waiting.swap(waiting_);
  for (Parcel& parcel : waiting) Carry(std::move(parcel));
  connection_->Flush();
}

void GrpcLink::Send(absl::Span<Parcel> parcels) {
  if (closed_.ok()) connection_->Look();
  for (Parcel& parcel : parcels) Carry(std::move(parcel));
  if (closed_.ok()) connection_->Flush();
}

void GrpcLink::Carry(Parcel parcel) {
  if (!closed_.ok()) return std::move(parcel.done).Finish(Fresh(closed_));
  switch (connection_->state()) {
    case GrpcConnection::State::kOpen:
      return connection_->Call(std::move(parcel));
    case GrpcConnection::State::kConnecting:
      return waiting_.push_back(std::move(parcel));
    case GrpcConnection::State::kLeaving:
    case GrpcConnection::State::kEnded:
      if (!connection_->may_be_followed()) return std::move(parcel.done).Finish(Fresh(connection_->why()));
      leaving_.push_back(std::move(connection_));
      Connect();
      return waiting_.push_back(std::move(parcel));
  }
}

void GrpcLink::OnEnded(const GrpcConnection* connection) {
  if (connection == connection_.get()) return Close(connection->why());
  leaving_.erase(std::find_if(leaving_.begin(), leaving_.end(),
                              [connection](const auto& one) { return one.get() == connection; }));
  if (!closed_.ok() && leaving_.empty()) host_.OnClosed(Fresh(closed_));
}

void GrpcLink::Close(const absl::Status& why) {
  closed_ = Fresh(why);
  std::vector<Parcel> waiting;
  waiting.swap(waiting_);
  for (Parcel& parcel : waiting) std::move(parcel.done).Finish(Fresh(why));
  if (leaving_.empty()) host_.OnClosed(Fresh(closed_));
}

}  // namespace eventvirtual
