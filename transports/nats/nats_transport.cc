#include "transports/nats/nats_transport.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "transports/api/mutex.h"
#include "transports/io/mailbox.h"
#include "transports/io/name_lookup.h"
#include "transports/io/worker.h"
#include "transports/nats/nats_address.h"
#include "transports/nats/nats_connection.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"nats", "natss"};
constexpr int kWindow = 256;

class NatsLink;

// What a link shares with its worker and with the threads of libnats, all of which may outlive it for as long as a
// server makes them wait. libnats writes and waits with its lock held, so no call of it is made on the loop: the worker
// publishes what the loop has handed over, as much as there is, and then waits for the server once for all of it.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(const NatsAddress& address, NatsLink& link, Loop& loop)
      : address_(address),
        name_(address_.ToString(/*masked=*/true)),
        link_(link),
        box_(std::make_shared<Mailbox>(loop)) {}
  ~Session() {
    if (tls_socket_ >= 0) close(tls_socket_);
  }

  // The loop's: takes over what Work() is to publish. True if somebody must call Work() for that.
  bool TakeOver(absl::Span<Parcel> parcels);
  // The loop's: ends all that is out. The link goes, and the loop may follow it.
  void Leave();

  // The worker's.
  void Open(const std::vector<SocketAddress>& addresses);
  void Work();
  void Disconnect() { connection_.reset(); }

 private:
  struct Waiting {
    MessageRef message;
    uint64_t token;
  };

  // Keeps a hand on the socket, to shut it down when the link goes: TLS is where libnats knows no deadlines.
  void Hold(int socket);

  // Any thread's.
  void Close(const absl::Status& why);
  void Finish(uint64_t token, const absl::Status& outcome);
  absl::Status Named(const absl::Status& status) const {
    return absl::Status(status.code(), absl::StrCat(name_, ": ", status.message()));
  }
  bool HasEnded() {
    MutexLock lock(&mutex_);
    return !ended_.ok();
  }

  const NatsAddress address_;
  const std::string name_;  // masked
  NatsLink& link_;          // for tasks in the box
  const std::shared_ptr<Mailbox> box_;
  std::unique_ptr<NatsConnection> connection_;  // the worker's

  Mutex mutex_;
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);
  int tls_socket_ ABSL_GUARDED_BY(mutex_) = -1;  // a duplicate of libnats' own
  bool working_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_token_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);                      // not yet in the worker's hands
  absl::btree_map<uint64_t, Completion> unreported_ ABSL_GUARDED_BY(mutex_);  // bounded by the window
};

class NatsLink final : public Link {
 public:
  NatsLink(const NatsAddress& address, Loop& loop, Host& host)
      : host_(host),
        worker_(std::make_unique<Worker>("nats")),
        session_(std::make_shared<Session>(address, *this, loop)) {
    lookup_ =
        std::make_unique<NameLookup>(loop, address.host, [this](absl::StatusOr<std::vector<SocketAddress>> addresses) {
          if (!addresses.ok()) return host_.OnClosed(addresses.status());
          worker_->Run([session = session_, addresses = *std::move(addresses)] { session->Open(addresses); });
        });
  }

  ~NatsLink() override {
    session_->Leave();
    // The worker's last task owns the worker, and disconnects.
    Worker& worker = *worker_;
    worker.Run([worker = std::move(worker_), session = std::move(session_)] { session->Disconnect(); });
  }

  void Send(absl::Span<Parcel> parcels) override {
    if (session_->TakeOver(parcels)) worker_->Run([session = session_] { session->Work(); });
  }

  void OnOpen() { host_.OnReady(kWindow); }
  void OnClosed(const absl::Status& why) { host_.OnClosed(why); }

 private:
  Host& host_;
  std::unique_ptr<Worker> worker_;
  std::shared_ptr<Session> session_;
  std::unique_ptr<NameLookup> lookup_;
};

bool Session::TakeOver(absl::Span<Parcel> parcels) {
  absl::Status ended;
  {
    MutexLock lock(&mutex_);
    if (ended_.ok()) {
      for (Parcel& parcel : parcels) {
        unreported_.emplace_hint(unreported_.end(), ++last_token_, std::move(parcel.done));
        waiting_.push_back({std::move(parcel.message), last_token_});
      }
      return !std::exchange(working_, true);
    }
    ended = Fresh(ended_);
  }
  for (Parcel& parcel : parcels) std::move(parcel.done).Finish(Fresh(ended));
  return false;
}

void Session::Leave() {
  box_->Leave();
  Close(absl::UnavailableError("the link was given up"));
}

void Session::Open(const std::vector<SocketAddress>& addresses) {
  // libnats holds them, perhaps longer than anybody wants to know.
  const std::weak_ptr<Session> weak = weak_from_this();
  auto reports = std::make_shared<NatsReports>();
  reports->on_handshake = [this](int socket) { Hold(socket); };  // not after Open()
  reports->on_closed = [weak](const absl::Status& why) {
    if (const std::shared_ptr<Session> session = weak.lock()) session->Close(why);
  };
  reports->on_published = [weak](uint64_t token, const absl::Status& outcome) {
    if (const std::shared_ptr<Session> session = weak.lock()) session->Finish(token, outcome);
  };
  absl::StatusOr<std::unique_ptr<NatsConnection>> opened = NatsConnection::Open(address_, addresses, reports);
  if (!opened.ok()) return Close(opened.status());
  connection_ = *std::move(opened);
  box_->Post([&link = link_] { link.OnOpen(); });
}

void Session::Hold(int socket) {
  MutexLock lock(&mutex_);
  if (tls_socket_ >= 0) close(tls_socket_);  // of an address that was tried before
  tls_socket_ = fcntl(socket, F_DUPFD_CLOEXEC, 0);
  // Without natss libnats would go over to TLS where the server wants it, and check no name.
  if (!ended_.ok() || !address_.tls) shutdown(socket, SHUT_RDWR);
}

void Session::Work() {
  std::vector<Waiting> batch;
  while (true) {
    batch.clear();
    {
      MutexLock lock(&mutex_);
      if (!ended_.ok() || waiting_.empty()) {
        working_ = false;
        return;
      }
      batch.swap(waiting_);
    }
    for (const Waiting& one : batch) {
      if (HasEnded()) return;
      const absl::Status published = connection_->Publish(*one.message, one.token);
      if (absl::IsInvalidArgument(published)) {
        Finish(one.token, published);
      } else if (!published.ok()) {
        return Close(published);
      }
    }
    if (const absl::Status processed = connection_->Flush(); !processed.ok()) return Close(processed);
    if (address_.jetstream) continue;  // it says by itself what it has stored
    for (const Waiting& one : batch) Finish(one.token, absl::OkStatus());
  }
}

void Session::Close(const absl::Status& why) {
  const absl::Status named = Named(why);
  absl::btree_map<uint64_t, Completion> unreported;
  std::vector<Waiting> waiting;
  {
    MutexLock lock(&mutex_);
    if (!ended_.ok()) return;
    ended_ = Fresh(named);
    if (tls_socket_ >= 0) shutdown(tls_socket_, SHUT_RDWR);
    unreported.swap(unreported_);
    waiting.swap(waiting_);
  }
  const uint64_t first_unsent = waiting.empty() ? std::numeric_limits<uint64_t>::max() : waiting.front().token;
  for (auto& [token, done] : unreported) {
    const bool may_have_arrived = token < first_unsent && absl::IsUnavailable(named);
    std::move(done).Finish(absl::Status(
        named.code(), absl::StrCat(named.message(), may_have_arrived ? "; the event may have arrived" : "")));
  }
  box_->Post([&link = link_, closed = Fresh(named)] { link.OnClosed(closed); });
}

void Session::Finish(uint64_t token, const absl::Status& outcome) {
  Completion done;
  {
    MutexLock lock(&mutex_);
    const auto found = unreported_.find(token);
    if (found == unreported_.end()) return;
    done = std::move(found->second);
    unreported_.erase(found);
  }
  std::move(done).Finish(outcome.ok() ? absl::OkStatus() : Named(outcome));
}

class NatsTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "nats://[user:password@|token@]host[:port]/subject[?jetstream=1&encoding=jsonrpc&timeout=2s]; "
           "natss:// with TLS: [&ca=/path&cert=/path&key=/path&server_name=NAME&verify=0]";
  }
  absl::string_view description() const override {
    return "Publishes to a subject of NATS. Success: the server has processed the event; with jetstream=1, a stream "
           "has "
           "stored it.";
  }
  AckLevel ack_level() const override { return AckLevel::kWritten; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<NatsAddress> address = ParseNatsAddress(uri);
    if (!address.ok()) return address.status();
    return TargetOf(*address, address->jetstream ? AckLevel::kDurable : AckLevel::kWritten, {address->host});
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<NatsLink>(AddressOf(target, &ParseNatsAddress), loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeNatsTransport() { return std::make_unique<NatsTransport>(); }

}  // namespace eventvirtual
