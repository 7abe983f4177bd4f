// ListenStream: one call of EventService.Listen.
#ifndef EVENTVIRTUAL_SERVER_RPC_LISTEN_STREAM_H_
#define EVENTVIRTUAL_SERVER_RPC_LISTEN_STREAM_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "eventvirtual/v1/event.pb.h"
#include "server/rpc/calls.h"
#include "transports/api/mutex.h"
#include "transports/stream/listeners.h"

namespace eventvirtual {

// Attaches a listener when the caller has said its name, writes what it is handed, and passes the caller's answers on.
// The caller's end of the stream, its cancellation, another listener and End() end it. Deletes itself. Any thread.
class ListenStream final : public StreamReactor<v1::ListenRequest, v1::ListenResponse> {
 public:
  // `on_gone` is called as its last act. Call Step() once to begin.
  ListenStream(Call* call, StreamListeners& listeners, std::function<void(ListenStream*)> on_gone);

  // Starts what may be started: a read, a write, or the end.
  void Step();
  // Ends the stream with `status` as soon as the write that is out is done.
  void End(grpc::Status status);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // The listener's way to the stream, which may be gone.
  struct Waker {
    Mutex mutex;
    ListenStream* stream ABSL_GUARDED_BY(mutex) = nullptr;
  };

  absl::Status Take(const v1::ListenRequest& request);
  void Drop(const std::string& name, StreamListener& listener, absl::string_view why);
  void OnWake();
  bool MayFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  StreamListeners& listeners_;
  const std::function<void(ListenStream*)> on_gone_;
  const std::shared_ptr<Waker> waker_ = std::make_shared<Waker>();
  v1::ListenRequest request_;    // of who has set reading_
  v1::ListenResponse response_;  // of who has set writing_

  Mutex mutex_;
  std::string name_ ABSL_GUARDED_BY(mutex_);
  Ref<StreamListener> listener_ ABSL_GUARDED_BY(mutex_);  // null until the caller has said its name
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;          // or taking in what was read
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  int starting_ ABSL_GUARDED_BY(mutex_) = 0;  // threads that have left the lock to start a read or a write
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_LISTEN_STREAM_H_
