#include "server/log/logger.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// Turns are not prolonged by somebody who sets the clock.
absl::Time SteadyNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

std::string CauseOf(absl::string_view message, std::initializer_list<LogField> fields) {
  if (fields.size() == 0) return std::string(message);
  const LogField& first = *fields.begin();
  const auto* const text = std::get_if<absl::string_view>(&first.value);
  return absl::StrCat(message, "\n", text != nullptr ? text->substr(0, kMaxLogText) : "");
}

}  // namespace

Logger::Logger(int fd, LogFormat format) : fd_(fd), stop_(eventfd(0, EFD_CLOEXEC)), format_(format) {
  EV_CHECK(stop_ >= 0);
  thread_ = std::thread([this] { Run(); });
}

Logger::~Logger() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  EV_CHECK(eventfd_write(stop_, 1) == 0);
  thread_.join();
  close(stop_);
}

void Logger::Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields) {
  const std::string cause = CauseOf(message, fields);
  std::string line = BeginLine(format_, absl::Now(), level, message, fields);
  MutexLock lock(&mutex_);
  Pass(limiter_.Offer(cause, std::move(line), SteadyNow()));
}

bool Logger::Flush(absl::Duration patience) {
  const absl::Time deadline = SteadyNow() + patience;
  MutexLock lock(&mutex_);
  Pass(limiter_.TakeDue(absl::InfiniteFuture()));
  while (!queue_.empty() || writing_) {
    const absl::Duration left = deadline - SteadyNow();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(&mutex_, left);
  }
  return true;
}

void Logger::Pass(std::vector<LineLimiter::Line> lines) {
  for (LineLimiter::Line& line : lines) Enqueue(EndLine(format_, std::move(line.text), line.left_out));
  if (!lines.empty()) changed_.SignalAll();
}

void Logger::Enqueue(std::string line) {
  if (lost_ > 0 && queued_bytes_ + line.size() <= kQueueBytes) TellLost();
  if (queued_bytes_ + line.size() > kQueueBytes) {
    ++lost_;
    return;
  }
  queued_bytes_ += line.size();
  queue_.push_back({std::move(line)});
}

// The one line that needs no room: there is one of it for each time that the queue was full.
void Logger::TellLost() {
  const uint64_t lost = std::exchange(lost_, 0);
  queue_.push_back({EndLine(format_,
                            BeginLine(format_, absl::Now(), LogLevel::kWarning,
                                      "lines of the log were lost: nobody took them", {{"lost", lost}}),
                            0),
                    lost});
  queued_bytes_ += queue_.back().text.size();
}

void Logger::Run() {
  bool written = true;
  for (;;) {
    Queued line;
    {
      MutexLock lock(&mutex_);
      for (;;) {
        Pass(limiter_.TakeDue(SteadyNow()));
        if (queue_.empty() && lost_ > 0 && written) TellLost();
        if (stopping_ || !queue_.empty()) break;
        changed_.WaitFor(&mutex_, std::min(limiter_.next_due() - SteadyNow(), absl::Hours(1)));
      }
      if (stopping_) return;
      line = std::move(queue_.front());
      queue_.pop_front();
      queued_bytes_ -= line.text.size();
      writing_ = true;
    }
    written = Write(line.text);
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!written) lost_ += line.lines;
    changed_.SignalAll();
  }
}

bool Logger::Write(absl::string_view line) {
  while (!line.empty()) {
    pollfd ready[] = {{fd_, POLLOUT, 0}, {stop_, POLLIN, 0}};
    if (poll(ready, 2, -1) < 0 && errno != EINTR) return false;
    if (ready[1].revents != 0) return false;
    if (ready[0].revents == 0) continue;
    // A pipe that poll(2) calls writable takes as much without waiting. fd is not ours alone, so it cannot be made
    // non-blocking.
    const ssize_t written = write(fd_, line.data(), std::min<size_t>(line.size(), PIPE_BUF));
    if (written < 0 && errno != EINTR && errno != EAGAIN) return false;
    line.remove_prefix(static_cast<size_t>(std::max<ssize_t>(written, 0)));
  }
  return true;
}

}  // namespace eventvirtual
