#include "transports/stream/listeners.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxName = 64;

}  // namespace

absl::Status CheckStreamName(absl::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("the name of the stream is empty; write stream:NAME");
  if (name.size() > kMaxName) {
    return absl::InvalidArgumentError(
        absl::StrCat("the name of the stream has ", name.size(), " characters; at most ", kMaxName, " are taken"));
  }
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    if (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '~' || c == '-') continue;
    return absl::InvalidArgumentError(
        absl::StrCat("byte ", i + 1, " of the name of the stream is none of A-Z a-z 0-9 . _ ~ -"));
  }
  return absl::OkStatus();
}

std::optional<StreamListener::Delivery> StreamListener::Next() {
  MutexLock lock(&mutex_);
  const auto next = out_.upper_bound(last_taken_);
  if (next == out_.end()) return std::nullopt;
  last_taken_ = next->first;
  return Delivery{next->first, next->second.parcel.message.Share()};
}

absl::Status StreamListener::Answer(uint64_t id, absl::Status outcome) {
  Completion done;
  {
    MutexLock lock(&mutex_);
    if (id == 0 || id > last_taken_) {
      return absl::InvalidArgumentError(absl::StrCat("delivery ", id, " was never handed out"));
    }
    const auto found = out_.find(id);
    if (found == out_.end()) return absl::OkStatus();
    done = std::move(found->second.parcel.done);
    out_.erase(found);
  }
  std::move(done).Finish(std::move(outcome));
  return absl::OkStatus();
}

void StreamListener::End(const absl::Status& why) {
  absl::btree_map<uint64_t, Out> out;
  std::map<const void*, std::function<void(absl::Status)>> links;
  uint64_t taken = 0;
  {
    MutexLock lock(&mutex_);
    if (!ended_.ok()) return;
    ended_ = why;
    out.swap(out_);
    links.swap(links_);
    taken = last_taken_;
  }
  for (auto& [id, entry] : out) {
    // Each its own: a status must not be shared by threads.
    std::move(entry.parcel.done)
        .Finish(absl::UnavailableError(
            absl::StrCat(why.message(), id <= taken ? "; the event may have arrived" : "; the event was not sent")));
  }
  for (auto& [link, on_end] : links) on_end(absl::UnavailableError(why.message()));
  wake_();
}

absl::Status StreamListener::ended() const {
  MutexLock lock(&mutex_);
  return ended_;
}

bool StreamListener::Join(const void* link, std::function<void(absl::Status)> on_end) {
  MutexLock lock(&mutex_);
  if (!ended_.ok()) return false;
  links_.emplace(link, std::move(on_end));
  return true;
}

void StreamListener::Leave(const void* link) {
  std::vector<Out> left;  // ended behind the lock, by their destructors
  MutexLock lock(&mutex_);
  links_.erase(link);
  for (auto it = out_.begin(); it != out_.end();) {
    if (it->second.link != link) {
      ++it;
      continue;
    }
    left.push_back(std::move(it->second));
    it = out_.erase(it);
  }
}

void StreamListener::Send(const void* link, absl::Span<Parcel> parcels) {
  absl::Status ended;
  {
    MutexLock lock(&mutex_);
    ended = Fresh(ended_);
    if (ended_.ok()) {
      for (Parcel& parcel : parcels) out_.emplace_hint(out_.end(), ++last_id_, Out{link, std::move(parcel)});
    }
  }
  if (ended.ok()) return wake_();
  for (Parcel& parcel : parcels) std::move(parcel.done).Finish(absl::UnavailableError(ended.message()));
}

Ref<StreamListener> StreamListeners::Attach(const std::string& name, std::function<void()> wake) {
  Ref<StreamListener> listener = AdoptRef(new StreamListener(std::move(wake)));
  Ref<StreamListener> replaced;
  {
    MutexLock lock(&mutex_);
    replaced = std::exchange(by_name_[name], listener);
  }
  if (replaced) replaced->End(absl::AbortedError(absl::StrCat("another listener to \"", name, "\" has taken over")));
  return listener;
}

void StreamListeners::Detach(const std::string& name, const StreamListener& listener) {
  MutexLock lock(&mutex_);
  const auto found = by_name_.find(name);
  if (found != by_name_.end() && found->second.get() == &listener) by_name_.erase(found);
}

Ref<StreamListener> StreamListeners::Find(const std::string& name) const {
  MutexLock lock(&mutex_);
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

}  // namespace eventvirtual
