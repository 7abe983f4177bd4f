#include "server/enroll/enroller.h"

#include <utility>

#include "transports/io/run_on_loop.h"

namespace eventvirtual {
namespace {

// What Stop() waits for; held by tasks that may outlive the enroller.
struct Ending {
  Mutex mutex;
  CondVar changed;
  size_t open ABSL_GUARDED_BY(mutex) = 0;  // enrollments that have not ended yet
};

}  // namespace

Enroller::~Enroller() { Stop(); }

void Enroller::Start(const EnrollOptions& options, std::vector<std::unique_ptr<MiClient>> clients) {
  if (clients.empty()) return;
  box_ = std::make_shared<Mailbox>(loop_);
  {
    MutexLock lock(&mutex_);
    notify_ = options.notify;
    for (std::unique_ptr<MiClient>& client : clients) {
      enrollments_.emplace_back(std::make_shared<Enrollment>(std::move(client), options.ingest, options.import),
                                std::make_shared<Worker>("enroll"));
    }
  }
  changed_ = true;
  registry_.Watch(this);
  box_->Post([this, options] { Begin(options); });
}

std::vector<EnrollmentStatus> Enroller::List() const {
  std::vector<EnrollmentStatus> list;
  MutexLock lock(&mutex_);
  for (const auto& [enrollment, worker] : enrollments_) list.push_back(enrollment->status());
  return list;
}

void Enroller::Notify(const Message& event) {
  MutexLock lock(&mutex_);
  if (!notify_) return;
  for (const auto& [enrollment, worker] : enrollments_) {
    if (enrollment->Notify(event)) worker->Run([enrollment = enrollment] { enrollment->SendNotices(); });
  }
}

// Under the registry's mutex.
void Enroller::OnChange(Registry::Change change, const Subscription&, absl::FunctionRef<SubscriptionInfo()>) {
  if (change == Registry::Change::kRefreshed || changed_.exchange(true)) return;
  box_->Post([this] { gather_->Arm(loop_.Now() + kGather); });
}

void Enroller::Begin(const EnrollOptions& options) {
  gather_ = loop_.NewTimer([this] {
    ReadWanted();
    for (const std::unique_ptr<Peer>& peer : peers_) Step(*peer);
  });
  ReadWanted();
  MutexLock lock(&mutex_);
  for (const auto& [enrollment, worker] : enrollments_) {
    Peer& peer = *peers_.emplace_back(std::make_unique<Peer>());
    peer.enrollment = enrollment;
    peer.worker = worker;
    peer.timer = loop_.NewTimer([this, &peer] { Step(peer); });
    if (options.import) {
      std::vector<std::string> own = options.own;
      own.push_back(options.ingest);
      peer.import =
          std::make_unique<Import>(registry_, OwnSockets(std::move(own)), enrollment->name(), options.import_defaults);
    }
    Step(peer);
  }
}

void Enroller::ReadWanted() {
  changed_ = false;  // before it is read: what comes meanwhile is read again
  wanted_ = std::make_shared<const std::vector<std::string>>(registry_.SubscribedEvents());
}

void Enroller::Step(Peer& peer) {
  if (std::exchange(peer.stepping, true)) {
    peer.again = true;
    return;
  }
  peer.again = false;
  peer.worker->Run([this, &peer, box = box_, enrollment = peer.enrollment, now = loop_.Now(), wanted = wanted_,
                    taken_over = std::exchange(peer.taken_over, {})] {
    // Not `this` nor `peer` here: the call may hang for longer than they live.
    box->Post([this, &peer, found = enrollment->Step(now, *wanted, taken_over)]() mutable {
      OnStepped(peer, std::move(found));
    });
  });
}

void Enroller::OnStepped(Peer& peer, Enrollment::Found found) {
  peer.stepping = false;
  if (peer.import != nullptr) {
    if (found.forgotten) peer.import->Forget();
    for (const ListedSubscriber& ended : found.ended) peer.import->Ended(ended);
    if (found.subscribers.has_value()) peer.taken_over = peer.import->Take(*found.subscribers);
    if (!peer.taken_over.empty()) {  // their events may be new
      ReadWanted();
      peer.again = true;
    }
  }
  if (peer.again || found.next == absl::ZeroDuration()) return Step(peer);
  peer.timer->Arm(loop_.Now() + found.next);
}

void Enroller::Stop() {
  if (box_ == nullptr) return;
  registry_.Unwatch(this);
  const auto ending = std::make_shared<Ending>();
  RunOnLoop(loop_, [this, ending](const std::shared_ptr<void>&) {
    box_->Leave();
    gather_.reset();
    MutexLock lock(&ending->mutex);
    ending->open = peers_.size();
    for (const std::unique_ptr<Peer>& peer : peers_) {
      std::vector<ListedSubscriber> back;
      if (peer->import != nullptr) back = peer->import->GiveBack();
      peer->enrollment->Cancel();
      peer->worker->Run([ending, enrollment = peer->enrollment, back = std::move(back)] {
        enrollment->End(back);
        MutexLock lock(&ending->mutex);
        --ending->open;
        ending->changed.SignalAll();
      });
    }
    peers_.clear();
  });
  {
    const absl::Time deadline = loop_.Now() + kEndPatience;
    MutexLock lock(&ending->mutex);
    while (ending->open > 0 && loop_.Now() < deadline) {
      ending->changed.WaitFor(&ending->mutex, deadline - loop_.Now());
    }
  }
  box_.reset();
  MutexLock lock(&mutex_);
  enrollments_.clear();  // and the workers with them
}

}  // namespace eventvirtual
