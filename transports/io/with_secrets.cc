#include "transports/io/with_secrets.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/api/completion.h"
#include "transports/api/ref.h"
#include "transports/io/mailbox.h"
#include "transports/io/secret_files.h"
#include "transports/io/worker.h"

namespace eventvirtual {
namespace {

// Whether `transport` takes what the files hold: that it is no password of a million bytes, say.
absl::Status CheckContents(const Transport& transport, const Target& target) {
  absl::StatusOr<Uri> uri = ParseUri(target.canonical);
  EV_CHECK(uri.ok());
  uri->secrets = target.secrets;
  return transport.Canonicalize(*uri).status();
}

// One whose files are being read, and then the link that they lead to. A server that does not take the password of an
// event (http, grpc: others ask once) ends it, so that the next connect reads the files anew.
class LinkWithSecrets final : public Link, private Link::Host {
 public:
  LinkWithSecrets(Transport& transport, const Target& target, Loop& loop, Link::Host& host)
      : transport_(transport), loop_(loop), host_(host), box_(std::make_shared<Mailbox>(loop)) {
    reader_->Run([this, box = box_, target = Target(target)]() mutable {
      absl::Status read = ReadSecrets(&target);
      box->Post([this, read = std::move(read), target = std::move(target)] { OnRead(read, target); });
    });
  }

  ~LinkWithSecrets() override { box_->Leave(); }

  void Send(absl::Span<Parcel> parcels) override {
    for (Parcel& parcel : parcels) {
      parcel.done = Completion(AdoptRef(new Outcome(*this, std::move(parcel.done))), 0);
    }
    link_->Send(parcels);
  }

 private:
  // Passes on what becomes of one event.
  class Outcome final : public Completion::Sink {
   public:
    Outcome(LinkWithSecrets& link, Completion done) : link_(link), box_(link.box_), done_(std::move(done)) {}

    void Settle(Ref<Sink>, uint64_t, absl::Status outcome) override {
      if (absl::IsUnauthenticated(outcome)) {
        box_->Post([&link = link_, why = Fresh(outcome)] { link.OnClosed(why); });
      }
      std::move(done_).Finish(std::move(outcome));
    }

   private:
    LinkWithSecrets& link_;
    const std::shared_ptr<Mailbox> box_;
    Completion done_;
  };

  void OnRead(absl::Status status, const Target& target) {
    reader_.reset();
    if (status.ok()) status = CheckContents(transport_, target);
    if (status.ok()) {
      link_ = transport_.Connect(target, loop_, *this);
    } else {
      OnClosed(absl::Status(status.code(), absl::StrCat(target.masked, ": ", status.message())));
    }
  }

  void OnReady(int window) override {
    if (!closed_) host_.OnReady(window);
  }
  void OnClosed(absl::Status why) override {
    if (!std::exchange(closed_, true)) host_.OnClosed(Fresh(why));
  }

  Transport& transport_;
  Loop& loop_;
  Link::Host& host_;
  bool closed_ = false;
  const std::shared_ptr<Mailbox> box_;
  std::unique_ptr<Worker> reader_ = std::make_unique<Worker>("secrets");
  std::unique_ptr<Link> link_;
};

class TransportWithSecrets final : public Transport {
 public:
  explicit TransportWithSecrets(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}

  absl::Span<const absl::string_view> schemes() const override { return transport_->schemes(); }
  absl::string_view syntax() const override { return transport_->syntax(); }
  absl::string_view description() const override { return transport_->description(); }
  AckLevel ack_level() const override { return transport_->ack_level(); }
  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override { return transport_->Canonicalize(uri); }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    if (target.secrets.empty()) return transport_->Connect(target, loop, host);
    return std::make_unique<LinkWithSecrets>(*transport_, target, loop, host);
  }

 private:
  const std::unique_ptr<Transport> transport_;
};

}  // namespace

std::unique_ptr<Transport> WithSecrets(std::unique_ptr<Transport> transport) {
  return std::make_unique<TransportWithSecrets>(std::move(transport));
}

}  // namespace eventvirtual
