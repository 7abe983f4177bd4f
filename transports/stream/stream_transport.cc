#include "transports/stream/stream_transport.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/io/mailbox.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"stream"};
constexpr absl::Duration kAttemptTimeout = absl::Seconds(2);

struct Peer {
  std::string name;
  absl::Duration timeout;
};

absl::StatusOr<Peer> ParsePeer(const Uri& uri) {
  if (absl::Status status = CheckStreamName(uri.body); !status.ok()) return status;
  QueryReader query(uri);
  Peer peer = {.name = uri.body};
  peer.timeout = query.TakeDuration("timeout", kAttemptTimeout, absl::Milliseconds(1), absl::Minutes(5));
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return peer;
}

// Without a listener the link closes at once, so that a failover moves on; it is the endpoint that looks again.
class StreamLink final : public Link {
 public:
  StreamLink(StreamListeners& listeners, const std::string& name, std::string shown, Loop& loop, Host& host)
      : shown_(std::move(shown)), host_(host), box_(std::make_shared<Mailbox>(loop)), listener_(listeners.Find(name)) {
    const bool joined = listener_ && listener_->Join(this, [this, box = box_](absl::Status why) {
      box->Post([this, why = std::move(why)]() mutable { Close(std::move(why)); });
    });
    box_->Post([this, joined] {
      if (closed_) return;
      if (joined) {
        host_.OnReady(kStreamWindow);
      } else {
        Close(absl::UnavailableError("nobody listens (EventService.Listen)"));
      }
    });
  }

  ~StreamLink() override {
    box_->Leave();
    if (listener_) listener_->Leave(this);
  }

  void Send(absl::Span<Parcel> parcels) override { listener_->Send(this, parcels); }

 private:
  void Close(absl::Status why) {
    closed_ = true;
    host_.OnClosed(absl::UnavailableError(absl::StrCat(shown_, ": ", why.message())));
  }

  const std::string shown_;
  Host& host_;
  const std::shared_ptr<Mailbox> box_;
  const Ref<StreamListener> listener_;
  bool closed_ = false;
};

class StreamTransport final : public Transport {
 public:
  explicit StreamTransport(StreamListeners& listeners) : listeners_(listeners) {}

  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override { return "stream:NAME[?timeout=2s]"; }
  absl::string_view description() const override {
    return "To the client that listens to NAME by EventService.Listen. Success: it has acknowledged the delivery.";
  }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<Peer> peer = ParsePeer(uri);
    if (!peer.ok()) return peer.status();
    QueryWriter options;
    if (peer->timeout != kAttemptTimeout) options.Add("timeout", absl::FormatDuration(peer->timeout));
    const std::string text = absl::StrCat("stream:", peer->name, options.text());
    return Target{.canonical = text, .masked = text, .ack_level = ack_level(), .attempt_timeout = peer->timeout};
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<StreamLink>(listeners_, AddressOf(target, &ParsePeer).name, target.masked, loop, host);
  }

 private:
  StreamListeners& listeners_;
};

}  // namespace

std::unique_ptr<Transport> MakeStreamTransport(StreamListeners& listeners) {
  return std::make_unique<StreamTransport>(listeners);
}

}  // namespace eventvirtual
