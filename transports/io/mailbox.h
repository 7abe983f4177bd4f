// Mailbox: the way back to a link's loop from threads that may outlive the link, and the loop.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_MAILBOX_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_MAILBOX_H_

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "transports/api/loop.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// A Worker, or a library's thread, may hang for longer than anybody wants to know: until a disk, a broker or a name
// server answers. It holds a reference to the mailbox of the link that it works for, and never the link or the loop.
class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  explicit Mailbox(Loop& loop) : loop_(&loop) {}

  // Runs `task` on the loop, unless Leave() comes before; so it may use the link. Any thread; never blocks.
  void Post(absl::AnyInvocable<void() &&> task);

  // The link goes, and the loop may follow it: from here on no task runs, and no Post() touches the loop. On the loop.
  void Leave();

  bool left() const;  // any thread

 private:
  bool open_ = true;  // the loop's
  mutable Mutex mutex_;
  Loop* loop_ ABSL_GUARDED_BY(mutex_);  // null once the link has gone
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_MAILBOX_H_
