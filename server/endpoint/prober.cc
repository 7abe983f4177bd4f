#include "server/endpoint/prober.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/api/completion.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// One probe. All on the loop but Settle(). Held by the prober until it ends, and by the canary's completion.
class Prober::Run final : public Completion::Sink, private Link::Host {
 public:
  Run(Prober& prober, Destination destination, MessageRef canary, absl::AnyInvocable<void(ProbeResult) &&> done)
      : prober_(prober),
        destination_(std::move(destination)),
        canary_(std::move(canary)),
        done_(std::move(done)),
        patience_(std::max(prober.connect_timeout_, destination_.target.attempt_timeout)) {}

  void Start() {
    AddRef();  // the prober's, until End()
    prober_.running_.insert(this);
    started_ = prober_.loop_.Now();
    timer_ = prober_.loop_.NewTimer([this] {
      End(absl::DeadlineExceededError(absl::StrCat(
          destination_.target.masked, result_.reachable ? ": no outcome of the canary within " : ": not ready within ",
          absl::FormatDuration(patience_))));
    });
    timer_->Arm(started_ + patience_);
    link_ = destination_.transport->Connect(destination_.target, prober_.loop_, *this);
  }

  void End(absl::Status status) {
    if (done_ == nullptr) return;
    const Ref<Run> alive(this);
    absl::AnyInvocable<void(ProbeResult)&&> done = std::exchange(done_, nullptr);
    result_.status = std::move(status);
    result_.latency = prober_.loop_.Now() - started_;
    timer_.reset();
    link_.reset();
    prober_.running_.erase(this);
    {
      MutexLock lock(&prober_.mutex_);
      --prober_.count_;
    }
    DropRef();  // the prober's
    std::move(done)(std::move(result_));
  }

  void Settle(Ref<Sink> self, uint64_t, absl::Status outcome) override {
    prober_.loop_.Post(
        [this, self = std::move(self), outcome = std::move(outcome)]() mutable { End(std::move(outcome)); });
  }

 private:
  void OnReady(int) override {
    result_.reachable = true;
    if (!canary_)
      return Settle(Ref<Sink>(this), 0, absl::OkStatus());  // not inside the upcall: the link goes with the end
    timer_->Arm(prober_.loop_.Now() + patience_);
    Parcel parcel{std::move(canary_), Completion(Ref<Run>(this), 0)};
    link_->Send(absl::MakeSpan(&parcel, 1));
  }
  void OnClosed(absl::Status why) override { End(std::move(why)); }

  Prober& prober_;
  const Destination destination_;
  MessageRef canary_;
  absl::AnyInvocable<void(ProbeResult) &&> done_;
  const absl::Duration patience_;
  absl::Time started_;
  ProbeResult result_;
  std::unique_ptr<Loop::Timer> timer_;
  std::unique_ptr<Link> link_;
};

Prober::~Prober() { EV_CHECK(running_.empty()); }

void Prober::Probe(const Destination& destination, MessageRef canary, absl::AnyInvocable<void(ProbeResult) &&> done) {
  absl::Status refusal;
  {
    MutexLock lock(&mutex_);
    if (stopped_) {
      refusal = absl::UnavailableError("the server is stopping");
    } else if (count_ == kMaxProbes) {
      refusal = absl::ResourceExhaustedError(absl::StrCat(kMaxProbes, " probes are running; try again soon"));
    } else {
      ++count_;
      // Under the lock: none starts behind Stop().
      loop_.Post([run = AdoptRef(new Run(*this, destination, std::move(canary), std::move(done)))] { run->Start(); });
    }
  }
  if (!refusal.ok()) std::move(done)({.status = std::move(refusal)});
}

void Prober::Stop() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
  }
  loop_.Post([this] {
    const std::vector<Run*> running(running_.begin(), running_.end());
    for (Run* run : running) run->End(absl::UnavailableError("the server is stopping"));
  });
}

}  // namespace eventvirtual
