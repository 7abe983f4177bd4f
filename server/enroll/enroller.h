// Enroller: keeps this service subscribed at every OpenSIPS it was told of, to what its own subscriptions want.
#ifndef EVENTVIRTUAL_SERVER_ENROLL_ENROLLER_H_
#define EVENTVIRTUAL_SERVER_ENROLL_ENROLLER_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "server/enroll/enrollment.h"
#include "server/enroll/import.h"
#include "server/enroll/mi_client.h"
#include "server/registry/registry.h"
#include "transports/api/loop.h"
#include "transports/api/message.h"
#include "transports/api/mutex.h"
#include "transports/io/mailbox.h"
#include "transports/io/worker.h"

namespace eventvirtual {

struct EnrollOptions {
  std::string ingest;            // what OpenSIPS is told to send to: see IngestForOpensips()
  std::vector<std::string> own;  // every address of our ingest; what leads there is not imported
  bool import = false;           // take over OpenSIPS' virtual sockets
  bool notify = false;           // Notify() raises there
  Import::Defaults import_defaults;
};

// The loop knows what is wanted, and when; each OpenSIPS has a thread of its own for the calls, so that one that hangs
// holds up nothing but itself.
class Enroller : private Registry::Observer {
 public:
  static constexpr absl::Duration kEndPatience = absl::Seconds(3);
  // Changes of the registry that come together are one.
  static constexpr absl::Duration kGather = absl::Milliseconds(20);

  // Does nothing until Start(). Both outlive the enroller; the loop runs until Stop() has returned.
  Enroller(Registry& registry, Loop& loop) : registry_(registry), loop_(loop) {}
  ~Enroller();  // Stop()

  // Once, not on the loop. Each client leads to another OpenSIPS.
  void Start(const EnrollOptions& options, std::vector<std::unique_ptr<MiClient>> clients);

  // In the order of Start(). Any thread.
  std::vector<EnrollmentStatus> List() const;

  // With options.notify, raises `event` at each OpenSIPS that answers. Any thread; never blocks: what OpenSIPS does not
  // take in time is dropped, and counted.
  void Notify(const Message& event);

  // Ends what is enrolled everywhere, and gives back what was taken over; waits at most kEndPatience for those that do
  // not answer. Not on the loop.
  void Stop();

 private:
  struct Peer {
    std::shared_ptr<Enrollment> enrollment;
    std::shared_ptr<Worker> worker;
    std::unique_ptr<Import> import;            // null: not asked for
    std::unique_ptr<Loop::Timer> timer;        // of the next step
    std::vector<ListedSubscriber> taken_over;  // to be ended there
    bool stepping = false;                     // the worker has a step
    bool again = false;                        // and is to have another at once
  };

  void OnChange(Registry::Change change, const Subscription& subscription,
                absl::FunctionRef<SubscriptionInfo()> describe) override;

  // On the loop.
  void Begin(const EnrollOptions& options);
  void ReadWanted();
  void Step(Peer& peer);
  void OnStepped(Peer& peer, Enrollment::Found found);

  Registry& registry_;
  Loop& loop_;
  std::shared_ptr<Mailbox> box_;       // null before Start() and after Stop()
  std::atomic<bool> changed_ = false;  // the loop will read what is wanted

  mutable Mutex mutex_;
  bool notify_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::pair<std::shared_ptr<Enrollment>, std::shared_ptr<Worker>>> enrollments_ ABSL_GUARDED_BY(mutex_);

  // On the loop.
  std::vector<std::unique_ptr<Peer>> peers_;
  std::shared_ptr<const std::vector<std::string>> wanted_;
  std::unique_ptr<Loop::Timer> gather_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENROLL_ENROLLER_H_
