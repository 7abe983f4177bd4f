// InstantTransport: every attempt ends at once, so that nothing but the core is measured.
#ifndef EVENTVIRTUAL_BENCH_INSTANT_TRANSPORT_H_
#define EVENTVIRTUAL_BENCH_INSTANT_TRANSPORT_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// `instant:NAME` delivers at once, `failing:NAME` fails at once; both stay connected. On any loop.
class InstantTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override {
    static constexpr absl::string_view kSchemes[] = {"instant", "failing"};
    return kSchemes;
  }
  absl::string_view syntax() const override { return "instant:NAME, failing:NAME"; }
  absl::string_view description() const override { return "Delivers, or fails, at once."; }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }
  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const std::string text = absl::StrCat(uri.scheme, ":", uri.body);
    return Target{text, text, AckLevel::kConfirmed, absl::Seconds(10)};
  }
  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    const bool fails = target.canonical[0] == 'f';
    return std::make_unique<InstantLink>(fails ? absl::UnavailableError("it fails") : absl::OkStatus(), loop, host);
  }

 private:
  class InstantLink final : public Link {
   public:
    InstantLink(absl::Status outcome, Loop& loop, Host& host) : outcome_(std::move(outcome)) {
      loop.Post([alive = std::weak_ptr<bool>(alive_), &host] {
        if (!alive.expired()) host.OnReady(256);
      });
    }
    void Send(absl::Span<Parcel> parcels) override {
      for (Parcel& parcel : parcels) std::move(parcel.done).Finish(outcome_);
    }

   private:
    const absl::Status outcome_;
    const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  };
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_BENCH_INSTANT_TRANSPORT_H_
