// StreamListeners: who listens to which `stream:NAME`. Between the transport, which has events to deliver, and whoever
// brings the listeners (the gRPC service).
#ifndef EVENTVIRTUAL_TRANSPORTS_STREAM_LISTENERS_H_
#define EVENTVIRTUAL_TRANSPORTS_STREAM_LISTENERS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "transports/api/mutex.h"
#include "transports/api/ref.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// Deliveries that one link may have out at a listener.
inline constexpr int kStreamWindow = 256;

// `name` as it may stand behind "stream:": [A-Za-z0-9._~-]{1,64}. INVALID_ARGUMENT says what is wrong.
absl::Status CheckStreamName(absl::string_view name);

// One listener: what is out to it, by delivery id. Ids count from 1 and are never used again. Any thread.
class StreamListener final : public RefCounted {
 public:
  struct Delivery {
    uint64_t id = 0;
    MessageRef message;
  };

  // --- for who brings it

  // The next delivery that has not been taken yet, in the order of the ids; nothing if there is none now.
  std::optional<Delivery> Next();
  // The listener's answer to a delivery: OK, or why it did not take it. One that is not out any more (its attempt has
  // timed out) is ignored. INVALID_ARGUMENT: that id was never handed out.
  absl::Status Answer(uint64_t id, absl::Status outcome);
  // The listener has gone, because of `why`: what is out ends. Does nothing the second time.
  void End(const absl::Status& why);
  // Why it has ended; OK while it has not.
  absl::Status ended() const;

  // --- for links

  // From now on `on_end` is called once if the listener ends, on any thread. False: it has ended already.
  bool Join(const void* link, std::function<void(absl::Status why)> on_end);
  // Ends what `link` has out here, and forgets it.
  void Leave(const void* link);
  // Takes the parcels over. A listener that has ended finishes them.
  void Send(const void* link, absl::Span<Parcel> parcels);

 private:
  friend class StreamListeners;
  struct Out {
    const void* link;
    Parcel parcel;
  };

  explicit StreamListener(std::function<void()> wake) : wake_(std::move(wake)) {}

  const std::function<void()> wake_;
  mutable Mutex mutex_;
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t last_taken_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::btree_map<uint64_t, Out> out_ ABSL_GUARDED_BY(mutex_);  // bounded by the links' windows
  std::map<const void*, std::function<void(absl::Status)>> links_ ABSL_GUARDED_BY(mutex_);
};

// Any thread. Outlives transport and listeners.
class StreamListeners {
 public:
  // A new listener to `name`; one that is there ends with ABORTED. `wake` is called, on any thread and outside all
  // locks, when Next() may have something, or when the listener has ended; it must not block.
  Ref<StreamListener> Attach(const std::string& name, std::function<void()> wake);
  // The listener, if it is still the one of `name`, goes. Call End() on it as well.
  void Detach(const std::string& name, const StreamListener& listener);
  // Null: nobody listens to `name`.
  Ref<StreamListener> Find(const std::string& name) const;

 private:
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, Ref<StreamListener>> by_name_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_STREAM_LISTENERS_H_
