// eventvirtuald: options, start, wait for a signal, drain.
#include <signal.h>
#include <time.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/destinations/destinations.h"
#include "server/journal/journal_file.h"
#include "server/log/log.h"
#include "server/options.h"
#include "server/sandbox/sandbox.h"
#include "server/server.h"
#include "server/systemd.h"

namespace eventvirtual {
namespace {

constexpr timespec kLook = {.tv_sec = 0, .tv_nsec = 500000000};  // how often it is seen whether files have changed
constexpr absl::Duration kLogPatience = absl::Seconds(1);        // with whoever reads stderr, when the process ends

// What files this process still opens: those that its options name, and those of subscribers beneath `directories`.
SandboxPaths PathsOf(const Options& options, const std::vector<std::string>& directories) {
  SandboxPaths paths;
  for (const std::string& directory : directories) paths.writable.push_back(directory + "/");  // that of "/" is empty
  if (!options.data_dir.empty()) paths.writable.push_back(options.data_dir);
  const auto folder_of = [](absl::string_view file) {
    const size_t slash = file.rfind('/');
    return slash == absl::string_view::npos ? "." : std::string(file.substr(0, slash + 1));
  };
  for (const auto* addresses : {&options.listen, &options.ingest, &options.mi, &options.enroll}) {
    for (absl::string_view address : *addresses) {
      if (absl::ConsumePrefix(&address, "unix:")) paths.writable.push_back(folder_of(address));
    }
  }
  // Where the socket for OpenSIPS' answers is, if it may not be beside OpenSIPS' own.
  for (const std::string& address : options.enroll) {
    if (absl::StartsWith(address, "unix:")) paths.writable.push_back("/tmp");
  }
  if (!options.secrets.empty()) paths.readable.push_back(options.secrets);
  // Their folders: who changes such a file puts another in its place.
  for (const std::string& file : {options.destinations, options.access, options.tokens, options.tls_cert,
                                  options.tls_key, options.tls_client_ca}) {
    if (!file.empty()) paths.readable.push_back(folder_of(file));
  }
  return paths;
}

// Whether there is something for Server::Reload() to read. If not, this thread sleeps until a signal comes.
bool NamesFilesToReload(const Options& options) {
  return !options.destinations.empty() || !options.access.empty() || !options.tls_cert.empty();
}

// Before there is another thread: it holds for the calling one and those to come.
SandboxGaps CloseIn(const Options& options, const Destinations& destinations) {
  if (!options.sandbox) return {};
  if (!options.data_dir.empty()) JournalFile::MakeDirectory(options.data_dir).IgnoreError();  // the start will tell
  return EnterSandbox(PathsOf(options, destinations.Current()->directories()));
}

int CannotStart(const absl::Status& why) {
  Log(LogLevel::kError, "cannot start", {{"error", why.message()}});
  FlushLog(kLogPatience);
  return 1;
}

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

  const auto destinations = LoadDestinations(options.destinations, options.allow_directory, options.data_dir);
  const SandboxGaps gaps = destinations.ok() ? CloseIn(options, **destinations) : SandboxGaps();
  StartLog(options.log_format);
  if (!destinations.ok()) return CannotStart(destinations.status());
  if (!gaps.files.empty()) Log(LogLevel::kWarning, "files are not closed off", {{"why", gaps.files}});
  if (!gaps.system_calls.empty())
    Log(LogLevel::kWarning, "system calls are not closed off", {{"why", gaps.system_calls}});

  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options, *destinations);
  if (!server.ok()) return CannotStart(server.status());
  Log(LogLevel::kInfo, "ready",
      {{"listen", absl::StrJoin((*server)->listening(), ",")},
       {"ingest", absl::StrJoin((*server)->ingesting(), ",")},
       {"mi", absl::StrJoin((*server)->managing(), ",")},
       {"http", absl::StrJoin((*server)->showing(), ",")}});
  TellSystemd("READY=1");
  const bool looks = NamesFilesToReload(options);
  const auto next_signal = [&] {  // -1: it is time for a look
    return looks ? sigtimedwait(&stop, nullptr, &kLook) : sigwaitinfo(&stop, nullptr);
  };
  int signal_number;
  while ((signal_number = next_signal()) < 0 || signal_number == SIGHUP) {
    (*server)->Reload(/*asked=*/signal_number == SIGHUP);
  }
  Log(LogLevel::kInfo, "draining", {{"signal", signal_number == SIGTERM ? "SIGTERM" : "SIGINT"}});
  TellSystemd("STOPPING=1");
  (*server)->Drain();
  Log(LogLevel::kInfo, "stopped");
  FlushLog(kLogPatience);
  return 0;
}
