// Logger: lines to a file descriptor that may be stuck.
#ifndef EVENTVIRTUAL_SERVER_LOG_LOGGER_H_
#define EVENTVIRTUAL_SERVER_LOG_LOGGER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/log/line.h"
#include "server/log/line_limiter.h"
#include "transports/api/mutex.h"

namespace eventvirtual {

// Lines wait in a bounded queue for one thread that writes them. When nobody reads the other end, as a pipe whose
// reader was stopped, only that thread waits; lines that find no room are counted, and a line tells how many as soon as
// there is room. The same holds for lines that cannot be written, as on a full disk.
class Logger {
 public:
  static constexpr size_t kQueueBytes = 1 << 20;

  // Writes to `fd`, which stays open as long as it. SIGPIPE must be ignored.
  Logger(int fd, LogFormat format);
  ~Logger();  // drops what waits, and does not wait for who does not read; so Flush() before
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  // One line, unless there have been too many of its cause (LineLimiter), which are those with the same message and the
  // same first field. Any thread; never blocks.
  void Log(LogLevel level, absl::string_view message, std::initializer_list<LogField> fields);

  // Waits until all lines are written, those that the limiter keeps too, for `patience` at most; false then.
  bool Flush(absl::Duration patience);

 private:
  struct Queued {
    std::string text;
    uint64_t lines = 1;  // that are lost if it cannot be written: itself, or those of whose loss it tells
  };

  void Pass(std::vector<LineLimiter::Line> lines) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enqueue(std::string line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellLost() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  bool Write(absl::string_view line);  // false: not, or not the whole of it

  const int fd_;
  const int stop_;  // an eventfd: readable when it is to end
  const LogFormat format_;

  Mutex mutex_;
  CondVar changed_;  // there is something to do, or everything is done
  LineLimiter limiter_ ABSL_GUARDED_BY(mutex_);
  std::deque<Queued> queue_ ABSL_GUARDED_BY(mutex_);
  size_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t lost_ ABSL_GUARDED_BY(mutex_) = 0;     // lines that nothing has been said of
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;  // one is neither in the queue nor written
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_LOG_LOGGER_H_
