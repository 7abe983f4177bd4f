#include "transports/io/mailbox.h"

#include <utility>

namespace eventvirtual {

void Mailbox::Post(absl::AnyInvocable<void() &&> task) {
  MutexLock lock(&mutex_);
  if (loop_ == nullptr) return;
  loop_->Post([box = shared_from_this(), task = std::move(task)]() mutable {
    if (box->open_) std::move(task)();
  });
}

void Mailbox::Leave() {
  open_ = false;
  MutexLock lock(&mutex_);
  loop_ = nullptr;
}

bool Mailbox::left() const {
  MutexLock lock(&mutex_);
  return loop_ == nullptr;
}

}  // namespace eventvirtual
