// FakeOpensips: OpenSIPS' list of subscribers behind its MI, with a clock of the test's.
#ifndef EVENTVIRTUAL_TESTS_SERVER_ENROLL_FAKE_OPENSIPS_H_
#define EVENTVIRTUAL_TESTS_SERVER_ENROLL_FAKE_OPENSIPS_H_

#include <simdjson.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "server/enroll/mi_client.h"
#include "transports/api/jsonrpc.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// Answers as OpenSIPS does: an event that is not published cannot be subscribed, a socket that is the same is
// refreshed, one that has expired is gone when it is looked at. Any thread.
class FakeOpensips {
 public:
  explicit FakeOpensips(std::vector<std::string> published) {
    for (const std::string& event : published) events_[event];
  }

  std::unique_ptr<MiClient> Client() { return std::make_unique<Mi>(*this); }

  // --- what a test does

  void Publish(const std::string& event) {
    MutexLock lock(&mutex_);
    events_[event];
  }
  void SetNow(absl::Time now) {
    MutexLock lock(&mutex_);
    now_ = now;
  }
  void SetDown(bool down) {
    MutexLock lock(&mutex_);
    down_ = down;
  }
  void Restart() {
    MutexLock lock(&mutex_);
    for (auto& [event, subscribers] : events_) subscribers.clear();
  }
  // At the `count`-th call from now, which gets no answer.
  void RestartDuringCall(int count) {
    MutexLock lock(&mutex_);
    restart_in_ = count;
  }
  void Forbid(const std::string& method) {  // -32601
    MutexLock lock(&mutex_);
    forbidden_.insert(method);
  }
  // `method`, or "METHOD of all" for its calls without parameters.
  void LeaveUnanswered(const std::string& method) {
    MutexLock lock(&mutex_);
    unanswered_.insert(method);
  }
  void ListNoSingleEvents() {  // subscribers_list takes no parameters
    MutexLock lock(&mutex_);
    no_single_ = true;
  }
  void PrintSocketsDifferently() {
    MutexLock lock(&mutex_);
    suffix_ = "/";
  }
  void NeverEnd(const std::string& socket) {  // as event_virtual, when a member of it was used
    MutexLock lock(&mutex_);
    endless_.insert(socket);
  }
  // By the script, or by somebody else over MI.
  void Subscribe(const std::string& event, const std::string& socket,
                 absl::Duration expire = absl::InfiniteDuration()) {
    MutexLock lock(&mutex_);
    Add(event, socket, expire);
  }

  // --- what a test asks

  // The sockets that an event would now be sent to.
  std::vector<std::string> Receivers(const std::string& event) {
    MutexLock lock(&mutex_);
    std::vector<std::string> sockets;
    for (const Subscriber& subscriber : Live(event)) sockets.push_back(subscriber.socket);
    return sockets;
  }
  std::vector<std::string> TakeCalls() {  // "event_subscribe E tcp:… 60"
    MutexLock lock(&mutex_);
    return std::exchange(calls_, {});
  }

 private:
  struct Subscriber {
    std::string socket;
    absl::Time expires;
  };

  class Mi final : public MiClient {
   public:
    explicit Mi(FakeOpensips& opensips) : opensips_(opensips) {}
    absl::StatusOr<std::string> Call(absl::string_view method, absl::string_view params) override {
      MutexLock lock(&opensips_.mutex_);
      return opensips_.Answer(std::string(method), params);
    }
    const std::string& name() const override { return name_; }

   private:
    FakeOpensips& opensips_;
    const std::string name_ = "http://fake/mi";
  };

  absl::StatusOr<std::string> Answer(const std::string& method, absl::string_view params) {
    std::vector<std::string> words;
    simdjson::dom::parser parser;
    simdjson::dom::array array;
    if (parser.parse(params.data(), params.size()).get(array) == simdjson::SUCCESS) {
      for (simdjson::dom::element word : array) {
        std::string_view text;
        words.push_back(word.get(text) == simdjson::SUCCESS ? std::string(text) : simdjson::minify(word));
      }
    }
    calls_.push_back(absl::StrCat(method, words.empty() ? "" : " ", absl::StrJoin(words, " ")));
    if (restart_in_ > 0 && --restart_in_ == 0) {
      for (auto& [event, subscribers] : events_) subscribers.clear();
      return absl::UnavailableError("Connection reset by peer");
    }
    if (unanswered_.contains(words.empty() ? method + " of all" : method)) return absl::UnavailableError("no answer");
    if (down_) return absl::UnavailableError("Connection refused");
    if (forbidden_.contains(method)) return absl::UnimplementedError("-32601 Method not found");
    if (method == "event_subscribe") {
      if (!events_.contains(words[0])) return absl::FailedPreconditionError("400 Bad parameter value");
      if (words[2] != "0" || !endless_.contains(words[1])) Add(words[0], words[1], absl::Seconds(std::stoi(words[2])));
      return std::string("\"OK\"");
    }
    if (method == "events_list") {
      std::vector<std::string> items;
      for (const auto& [event, subscribers] : events_)
        items.push_back(absl::StrCat(R"({"name":")", event, R"(","id":1})"));
      return absl::StrCat(R"({"Events":[)", absl::StrJoin(items, ","), "]}");
    }
    if (method == "subscribers_list" && !words.empty()) {
      if (no_single_) return absl::FailedPreconditionError("-32602 Invalid params");
      if (!events_.contains(words[0])) return absl::NotFoundError("404 Event not published");
      return absl::StrCat(R"({"Event":)", Text(words[0]), "}");
    }
    if (method == "subscribers_list") {
      std::vector<std::string> items;
      for (const auto& [event, subscribers] : events_) items.push_back(Text(event));
      return absl::StrCat(R"({"Events":[)", absl::StrJoin(items, ","), "]}");
    }
    if (method == "raise_event") {
      if (!events_.contains(words[0])) return absl::NotFoundError("404 Event not registered");
      return std::string("\"OK\"");
    }
    return absl::UnimplementedError("-32601 Method not found");
  }

  void Add(const std::string& event, const std::string& socket, absl::Duration expire) {
    for (Subscriber& subscriber : events_[event]) {
      if (subscriber.socket == socket) {
        subscriber.expires = now_ + expire;
        return;
      }
    }
    events_[event].push_back({socket, now_ + expire});
  }

  std::vector<Subscriber> Live(const std::string& event) {
    std::vector<Subscriber> live;
    for (const Subscriber& subscriber : events_[event]) {
      if (subscriber.expires > now_) live.push_back(subscriber);
    }
    return live;
  }

  std::string Text(const std::string& event) {
    std::vector<std::string> items;
    for (const Subscriber& subscriber : Live(event)) {
      std::string socket;
      AppendJsonString(subscriber.socket + suffix_, &socket);
      const std::string expire = subscriber.expires == absl::InfiniteFuture()
                                     ? R"("never")"
                                     : absl::StrCat("60,\"ttl\":", absl::ToInt64Seconds(subscriber.expires - now_));
      items.push_back(absl::StrCat(R"({"socket":)", socket, R"(,"expire":)", expire, "}"));
    }
    if (items.empty()) return "{}";
    return absl::StrCat(R"({"name":")", event, R"(","id":1,"Subscribers":[)", absl::StrJoin(items, ","), "]}");
  }

  Mutex mutex_;
  absl::Time now_ = absl::UnixEpoch();
  std::map<std::string, std::vector<Subscriber>> events_;
  std::vector<std::string> calls_;
  std::set<std::string> forbidden_, unanswered_, endless_;
  std::string suffix_;
  int restart_in_ = 0;  // calls
  bool down_ = false, no_single_ = false;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_SERVER_ENROLL_FAKE_OPENSIPS_H_
