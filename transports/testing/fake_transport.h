// FakeTransport: parks every parcel until the test ends it.
#ifndef EVENTVIRTUAL_TRANSPORTS_TESTING_FAKE_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_TESTING_FAKE_TRANSPORT_H_

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "transports/api/check.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// Speaks `fake:NAME` and `fake:user:password@NAME` on a SimulatedLoop. What happens at NAME is up to the test: see
// Site.
class FakeTransport final : public Transport {
 public:
  // One destination, controlled by the test. All fields may be changed at any time.
  struct Site {
    absl::Status connect_error;  // not OK: links close at once with it
    bool hang_connects = false;  // links neither get ready nor close
    int window = 4;
    int connects = 0;  // links that were started
    int open_links = 0;
    std::deque<Parcel> parked;  // in the order sent, over all links

    bool has_parcel() const { return !parked.empty(); }
    // The text of the oldest parked parcel, which is ended with `status`.
    std::string End(absl::Status status) {
      EV_CHECK(!parked.empty());
      Parcel parcel = std::move(parked.front());
      parked.pop_front();
      std::string text(parcel.message->jsonrpc());
      std::move(parcel.done).Finish(std::move(status));
      return text;
    }
  };

  Site& at(const std::string& name) { return sites_[name]; }

  // Ends the open link to NAME, as a peer would that goes away. Its parcels stay parked unless the link holds them:
  // they are dropped, which reports them as UNAVAILABLE.
  void CloseLink(const std::string& name, absl::Status why) {
    EV_CHECK(links_.count(name) > 0);
    links_[name]->host.OnClosed(std::move(why));
  }

  absl::Span<const absl::string_view> schemes() const override {
    static constexpr absl::string_view kSchemes[] = {"fake"};
    return kSchemes;
  }
  absl::string_view syntax() const override { return "fake:[user:password@]NAME[?timeout=1s]"; }
  absl::string_view description() const override { return "Parks events for tests."; }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    if (uri.body.empty()) return absl::InvalidArgumentError("the name is empty; write fake:NAME");
    QueryReader query(uri);
    Target target;
    target.attempt_timeout = query.TakeDuration("timeout", absl::Seconds(1), absl::Milliseconds(1), absl::Hours(1));
    if (absl::Status status = query.Done(); !status.ok()) return status;
    QueryWriter options;
    if (target.attempt_timeout != absl::Seconds(1))
      options.Add("timeout", absl::FormatDuration(target.attempt_timeout));
    const size_t at = uri.body.rfind('@');
    target.canonical = absl::StrCat("fake:", uri.body, options.text());
    target.masked = absl::StrCat(
        "fake:",
        at == std::string::npos ? uri.body
                                : absl::StrCat(uri.body.substr(0, uri.body.find(':')), ":***", uri.body.substr(at)),
        options.text());
    target.ack_level = ack_level();
    return target;
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    const absl::StatusOr<Uri> uri = ParseUri(target.canonical);
    const std::string name = uri->body.substr(uri->body.rfind('@') + 1);
    return std::make_unique<FakeLink>(*this, name, loop, host);
  }

 private:
  struct FakeLink final : public Link {
    FakeLink(FakeTransport& transport, const std::string& name, Loop& loop, Host& host)
        : transport(transport), name(name), site(transport.sites_[name]), host(host) {
      ++site.connects;
      ++site.open_links;
      transport.links_[name] = this;
      if (site.hang_connects) return;
      loop.Post([this, alive = std::weak_ptr<bool>(alive)] {
        if (alive.expired()) return;
        if (site.connect_error.ok()) {
          window = site.window;
          this->host.OnReady(window);
        } else {
          this->host.OnClosed(site.connect_error);
        }
      });
    }
    ~FakeLink() override {
      --site.open_links;
      if (transport.links_[name] == this) transport.links_.erase(name);
      std::deque<Parcel> dropped;
      dropped.swap(site.parked);
    }
    void Send(absl::Span<Parcel> parcels) override {
      for (Parcel& parcel : parcels) site.parked.push_back(std::move(parcel));
      EV_CHECK(static_cast<int>(site.parked.size()) <= window);
    }

    FakeTransport& transport;
    const std::string name;
    Site& site;
    Host& host;
    int window = 0;
    const std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };

  std::map<std::string, Site> sites_;
  std::map<std::string, FakeLink*> links_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_TESTING_FAKE_TRANSPORT_H_
