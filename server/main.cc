// eventvirtuald: options, start, wait for a signal, drain.
#include <signal.h>
#include <time.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/log/log.h"
#include "server/options.h"
#include "server/server.h"
#include "server/systemd.h"

namespace eventvirtual {
namespace {

constexpr timespec kLook = {.tv_sec = 1, .tv_nsec = 0};    // how often it is seen whether files have changed
constexpr absl::Duration kLogPatience = absl::Seconds(1);  // with whoever reads stderr, when the process ends

void TellSystemd(absl::string_view state) {
  const absl::Status told = NotifySystemd(state);
  if (!told.ok()) Log(LogLevel::kWarning, "systemd cannot be told", {{"error", told.message()}});
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  using namespace eventvirtual;  // NOLINT: this is the program
  // Debian builds Abseil with deadlock detection; it costs gRPC 5 to 11 % of its processor time.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const Options options = ParseOptionsOrExit(argc, argv);
  SetLogLevel(options.log_level);

  // Blocked before any thread starts, so that only this one takes them.
  signal(SIGPIPE, SIG_IGN);
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);

  StartLog(options.log_format);

  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
  if (!server.ok()) {
    Log(LogLevel::kError, "cannot start", {{"error", server.status().message()}});
    FlushLog(kLogPatience);
    return 1;
  }
  Log(LogLevel::kInfo, "ready",
      {{"listen", absl::StrJoin((*server)->listening(), ",")},
       {"ingest", absl::StrJoin((*server)->ingesting(), ",")},
       {"mi", absl::StrJoin((*server)->managing(), ",")},
       {"http", absl::StrJoin((*server)->showing(), ",")}});
  TellSystemd("READY=1");
  int signal_number;
  while ((signal_number = sigtimedwait(&stop, nullptr, &kLook)) < 0 || signal_number == SIGHUP) {
    (*server)->Reload(/*asked=*/signal_number == SIGHUP);
  }
  Log(LogLevel::kInfo, "draining", {{"signal", signal_number == SIGTERM ? "SIGTERM" : "SIGINT"}});
  TellSystemd("STOPPING=1");
  (*server)->Drain();
  Log(LogLevel::kInfo, "stopped");
  FlushLog(kLogPatience);
  return 0;
}
