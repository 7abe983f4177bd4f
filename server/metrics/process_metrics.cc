#include "server/metrics/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace eventvirtual {
namespace {

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

double Number(absl::string_view text) {
  double number = 0;
  return absl::SimpleAtod(text, &number) ? number : 0;
}

// Seconds since the epoch.
double BootTime() {
  for (absl::string_view line : absl::StrSplit(ReadFile("/proc/stat"), '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    if (words.size() == 2 && words[0] == "btime") return Number(words[1]);
  }
  return 0;
}

}  // namespace

void AddProcess(Families* families) {
  const std::string stat = ReadFile("/proc/self/stat");
  // Behind the name of the program, which may hold anything but ends with the last ')'. The first field is number 3.
  const std::vector<std::string> fields = absl::StrSplit(stat.substr(std::min(stat.rfind(')') + 2, stat.size())), ' ');
  constexpr size_t kFirst = 3, kUserTime = 14, kSystemTime = 15, kThreads = 20, kStart = 22, kVirtual = 23,
                   kResident = 24;
  if (fields.size() > kResident - kFirst) {
    const auto field = [&fields](size_t number) { return Number(fields[number - kFirst]); };
    const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    families->Counter("process_cpu_seconds_total", "Processor time, of user and system.")
        .Add({}, (field(kUserTime) + field(kSystemTime)) / ticks);
    families->Gauge("process_start_time_seconds", "When the process started, since the epoch.")
        .Add({}, BootTime() + field(kStart) / ticks);
    families->Gauge("process_threads", "Threads of the process.").Add({}, field(kThreads));
    families->Gauge("process_virtual_memory_bytes", "Virtual memory.").Add({}, field(kVirtual));
    families->Gauge("process_resident_memory_bytes", "Memory that is really held.")
        .Add({}, field(kResident) * static_cast<double>(sysconf(_SC_PAGESIZE)));
  }
  std::error_code error;
  uint64_t open = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end; it.increment(error)) {
    ++open;
  }
  if (!error) families->Gauge("process_open_fds", "Open file descriptors.").Add({}, open);
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    families->Gauge("process_max_fds", "File descriptors that may be open.")
        .Add({}, static_cast<uint64_t>(limit.rlim_cur));
  }
}

}  // namespace eventvirtual
