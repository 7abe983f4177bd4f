// Completion: the receipt for one message that was handed to a link.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_COMPLETION_H_
#define EVENTVIRTUAL_TRANSPORTS_API_COMPLETION_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "transports/api/ref.h"

namespace eventvirtual {

// A copy of `status` that shares no memory with it: what a status holds is counted without locks that ThreadSanitizer
// sees, so one that goes to another thread, or to several, goes as a copy of its own.
inline absl::Status Fresh(const absl::Status& status) { return absl::Status(status.code(), status.message()); }

// Reported exactly once: by Finish(), or, destroyed unfinished, as UNAVAILABLE. So a broken transport fails messages;
// it can never hang a raise. Move-only. Any thread, any time, also inside Link::Send() and after the link has gone.
//
// What a status means to the endpoint:
//   OK                 the guarantee of the transport's ack level holds
//   INVALID_ARGUMENT   this message can never be delivered here (too large); says nothing about the endpoint's health
//   anything else      the attempt failed; the endpoint starts its cool-down
class Completion {
 public:
  // Who hears the report. Any thread; must not call back into the transport. `self` is the reference that the
  // completion held: who hears of many may give the references back together.
  class Sink : public RefCounted {
   public:
    virtual void Settle(Ref<Sink> self, uint64_t token, absl::Status outcome) = 0;
  };

  Completion() = default;
  Completion(Ref<Sink> sink, uint64_t token) : sink_(std::move(sink)), token_(token) {}
  Completion(Completion&&) = default;
  Completion& operator=(Completion&& other) {
    Abandon();
    sink_ = std::move(other.sink_);
    token_ = other.token_;
    return *this;
  }
  ~Completion() { Abandon(); }

  void Finish(absl::Status outcome) && {
    if (Sink* const sink = sink_.get()) sink->Settle(std::move(sink_), token_, std::move(outcome));
  }

 private:
  void Abandon() {
    if (sink_) std::move(*this).Finish(absl::UnavailableError("the link ended before it reported this message"));
  }

  Ref<Sink> sink_;
  uint64_t token_ = 0;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_COMPLETION_H_
