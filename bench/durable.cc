// What durable delivery costs, beside bare loops that make the same bytes durable on the same disk. Prints one JSON
// object: events, seconds, p50, p99 (microseconds from the raise to the acknowledgement), cpu.
//
//   durable ours    Dispatcher::Raise() of events for one durable subscription whose endpoint delivers at once:
//   committed,
//                   acknowledged, delivered and erased. --callers at a time, each with its next when it is
//                   acknowledged.
//   durable sqlite  inserts --callers rows of the same size, then commits, again and again: SQLite alone, nothing is
//   erased durable write   write(2) of as many records at once, then fdatasync(2)
//
// All in a new folder below --folder, with what --sync=full gives.
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "bench/bench_message.h"
#include "bench/instant_transport.h"
#include "bench/measure.h"
#include "server/dispatch/dispatcher.h"
#include "server/durable/durable_delivery.h"
#include "server/durable/records.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/journal/journal.h"
#include "server/journal/sqlite.h"
#include "server/registry/registry.h"
#include "transports/api/catalog.h"
#include "transports/api/check.h"
#include "transports/api/mutex.h"
#include "transports/io/event_loop.h"
#include "transports/io/run_on_loop.h"

ABSL_FLAG(int, callers, 64, "events that are under way to the disk at a time");
ABSL_FLAG(double, seconds, 1, "how long");
ABSL_FLAG(std::string, folder, "/tmp", "where the files are");

namespace eventvirtual {
namespace {

struct Count {
  uint64_t events = 0;
  double seconds = 0;
  Latencies latencies;
};

std::vector<std::unique_ptr<Transport>> Transports() {
  std::vector<std::unique_ptr<Transport>> transports;
  transports.push_back(std::make_unique<InstantTransport>());
  return transports;
}

// The callers, as one thread: raises for each whose last event was acknowledged.
class Callers {
 public:
  explicit Callers(int count) : begun_(static_cast<size_t>(count)) {
    for (int i = 0; i < count; ++i) ready_.push_back(i);
  }
  Count Run(Dispatcher& dispatcher, double seconds) {
    Count count;
    const double begin = WallSeconds();
    std::vector<int> ready;
    for (bool ending = false; !ending || out_ > 0;) {
      {
        MutexLock lock(&mutex_);
        while (ready_.empty()) acknowledged_.Wait(&mutex_);
        ready.swap(ready_);
      }
      const double now = WallSeconds();
      ending = now - begin > seconds;
      for (int caller : ready) {
        double& begun = begun_[static_cast<size_t>(caller)];
        if (begun > 0) {
          count.latencies.Add(now - begun);
          ++count.events;
          --out_;
        }
        if (ending) continue;
        begun = WallSeconds();
        ++out_;
        const RaiseReceipt receipt = dispatcher.Raise(MakeMessage(++number_), nullptr);
        receipt.commit->Then([this, caller](const absl::Status& written) {
          EV_CHECK(written.ok());
          MutexLock lock(&mutex_);
          ready_.push_back(caller);
          if (ready_.size() == 1) acknowledged_.SignalAll();
        });
      }
      ready.clear();
    }
    count.seconds = WallSeconds() - begin;
    return count;
  }

 private:
  std::vector<double> begun_;
  uint64_t number_ = 0;
  int out_ = 0;
  Mutex mutex_;
  CondVar acknowledged_;
  std::vector<int> ready_ ABSL_GUARDED_BY(mutex_);
};

Count Ours(const std::string& folder) {
  EventLoop loop("bench-loop"), durable_loop("bench-durable");
  const Catalog catalog(Transports());
  EndpointPool pool({&loop}, {});
  Registry registry(catalog, pool, loop, {});
  Dispatcher dispatcher(registry);
  const std::unique_ptr<Journal> journal = *Journal::Open(folder, Journal::Sync::kFull);
  auto durable = std::make_unique<DurableDelivery>(*journal, registry, dispatcher, durable_loop);
  durable->Resume({});
  SubscriptionSpec spec;
  spec.event = kEvent;
  spec.subscribers.push_back({"instant:a"});
  spec.delivery.durable = true;
  EV_CHECK(registry.Subscribe(spec).ok());
  Count count = Callers(absl::GetFlag(FLAGS_callers)).Run(dispatcher, absl::GetFlag(FLAGS_seconds));
  durable->Stop();
  RunOnLoop(durable_loop, [](const std::shared_ptr<void>&) {});
  dispatcher.AwaitIdle(absl::InfiniteDuration());
  RunOnLoop(durable_loop, [&durable](const std::shared_ptr<void>&) { durable.reset(); });
  journal->Close(absl::Seconds(10));
  registry.Stop();
  pool.CloseAll();
  pool.AwaitEmpty();
  loop.Stop();
  durable_loop.Stop();
  return count;
}

// `batch` makes so many records durable, numbered from `number` on.
template <typename Batch>
Count Loop(Batch batch) {
  Count count;
  const double begin = WallSeconds();
  for (double now = begin; now - begin < absl::GetFlag(FLAGS_seconds);) {
    batch(count.events);
    count.events += static_cast<uint64_t>(absl::GetFlag(FLAGS_callers));
    const double after = WallSeconds();
    count.latencies.Add(after - now);
    now = after;
  }
  count.seconds = WallSeconds() - begin;
  return count;
}

Count Sqlite(const std::string& folder, const std::string& record) {
  const std::unique_ptr<Database> database = *Database::Open(folder + "/bare.db");
  for (const char* sql : {"PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL",
                          "CREATE TABLE events(queue INTEGER, sequence INTEGER, record BLOB, "
                          "PRIMARY KEY(queue, sequence)) WITHOUT ROWID"}) {
    EV_CHECK(database->Run(sql).ok());
  }
  Statement insert = *Statement::Prepare(*database, "INSERT INTO events VALUES(?, ?, ?)");
  return Loop([&](uint64_t number) {
    EV_CHECK(database->Run("BEGIN IMMEDIATE").ok());
    for (int i = 0; i < absl::GetFlag(FLAGS_callers); ++i) {
      EV_CHECK(insert.Bind(int64_t{1}).Bind(static_cast<int64_t>(++number)).BindBlob(record).Run().ok());
    }
    EV_CHECK(database->Run("COMMIT").ok());
  });
}

Count Write(const std::string& folder, const std::string& record) {
  const int fd = open((folder + "/bare").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  EV_CHECK(fd >= 0);
  std::string records;
  for (int i = 0; i < absl::GetFlag(FLAGS_callers); ++i) records += record;
  Count count = Loop([&](uint64_t) {
    EV_CHECK(write(fd, records.data(), records.size()) == static_cast<ssize_t>(records.size()));
    EV_CHECK(fdatasync(fd) == 0);
  });
  close(fd);
  return count;
}

int Run(const std::string& mode) {
  std::string folder = absl::GetFlag(FLAGS_folder) + "/evXXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    std::fprintf(stderr, "durable: no folder can be made in %s\n", absl::GetFlag(FLAGS_folder).c_str());
    return 1;
  }
  const std::string record = EncodeEvent(*MakeMessage(1), absl::UnixEpoch());
  Count count = mode == "ours" ? Ours(folder) : mode == "sqlite" ? Sqlite(folder, record) : Write(folder, record);
  std::filesystem::remove_all(folder);
  std::printf("{\"events\":%llu,\"seconds\":%.6f,\"p50\":%.2f,\"p99\":%.2f,\"cpu\":%.6f,\"bytes\":%zu}\n",
              static_cast<unsigned long long>(count.events), count.seconds, count.latencies.Quantile(0.5),
              count.latencies.Quantile(0.99), CpuSeconds(), record.size());
  return 0;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  const std::vector<char*> words = absl::ParseCommandLine(argc, argv);
  const std::string mode = words.size() == 2 ? words[1] : "";
  if (mode != "ours" && mode != "sqlite" && mode != "write") {
    std::fprintf(stderr, "durable: ours, sqlite or write\n");
    return 2;
  }
  return eventvirtual::Run(mode);
}
