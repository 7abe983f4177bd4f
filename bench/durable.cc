// What durable delivery costs, beside bare loops that make the same bytes durable on the same disk. Prints one JSON
// object: of each side events, seconds, p50, p99 (microseconds), cpu; and how often faster ours is (`to_sqlite`,
// `to_write`).
//
//   ours    Dispatcher::Raise() of events for one durable subscription whose endpoint delivers at once: committed,
//           acknowledged, delivered and erased. --callers at a time, each with its next when it is acknowledged. Its
//           latency is that from the raise to the acknowledgement
//   sqlite  inserts --callers rows of the same size, then commits, again and again: SQLite alone, nothing is erased
//   write   write(2) of as many records at once, then fdatasync(2)
//
// The sides take turns in slices of --slice seconds, so that what else the machine does meets all of them alike; a
// ratio is the median of those of the rounds. All in a new folder below --folder, with what --sync=full gives.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
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
ABSL_FLAG(double, seconds, 1, "how long, for each side");
ABSL_FLAG(double, slice, 0.1, "how long until it is another side's turn");
ABSL_FLAG(std::string, folder, "/tmp", "where the files are");

namespace eventvirtual {
namespace {

struct Count {
  uint64_t events = 0;
  double seconds = 0, cpu = 0;
  Latencies latencies;
  std::vector<double> rates;  // of each slice

  // `slice` adds to events and latencies.
  template <typename Slice>
  void Measure(Slice slice) {
    const uint64_t before = events;
    const double begin = WallSeconds(), cpu_begin = CpuSeconds();
    slice();
    const double took = WallSeconds() - begin;
    seconds += took;
    cpu += CpuSeconds() - cpu_begin;
    rates.push_back(static_cast<double>(events - before) / took);
  }
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
  // Until `seconds` are over and all is acknowledged.
  void Run(Dispatcher& dispatcher, double seconds, Count* count) {
    std::fill(begun_.begin(), begun_.end(), 0);
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
          count->latencies.Add(now - begun);
          ++count->events;
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
    MutexLock lock(&mutex_);
    ready_.clear();
    for (int i = 0; i < static_cast<int>(begun_.size()); ++i) ready_.push_back(i);
  }

 private:
  std::vector<double> begun_;
  uint64_t number_ = 0;
  int out_ = 0;
  Mutex mutex_;
  CondVar acknowledged_;
  std::vector<int> ready_ ABSL_GUARDED_BY(mutex_);
};

class Ours {
 public:
  explicit Ours(const std::string& folder)
      : catalog_(Transports()),
        pool_({&loop_}, {}),
        registry_(catalog_, pool_, loop_, {}),
        dispatcher_(registry_),
        journal_(*Journal::Open(folder, Journal::Sync::kFull)),
        durable_(std::make_unique<DurableDelivery>(*journal_, registry_, dispatcher_, durable_loop_)),
        callers_(absl::GetFlag(FLAGS_callers)) {
    durable_->Resume({});
    SubscriptionSpec spec;
    spec.event = kEvent;
    spec.subscribers.push_back({"instant:a"});
    spec.delivery.durable = true;
    EV_CHECK(registry_.Subscribe(spec).ok());
  }
  ~Ours() {
    durable_->Stop();
    RunOnLoop(durable_loop_, [](const std::shared_ptr<void>&) {});
    dispatcher_.AwaitIdle(absl::InfiniteDuration());
    RunOnLoop(durable_loop_, [this](const std::shared_ptr<void>&) { durable_.reset(); });
    journal_->Close(absl::Seconds(10));
    registry_.Stop();
    pool_.CloseAll();
    pool_.AwaitEmpty();
    loop_.Stop();
    durable_loop_.Stop();
  }
  // What was acknowledged at its end is also delivered and erased in this slice, not in the next one's time.
  void Run(double seconds, Count* count) {
    callers_.Run(dispatcher_, seconds, count);
    while (true) {
      uint64_t left = 0;
      RunOnLoop(durable_loop_, [&](const std::shared_ptr<void>& hold) {
        durable_->TakeAudit(0, [&left, hold](DurableAudit audit) { left = audit.events; });
      });
      if (left == 0) break;
    }
  }

 private:
  EventLoop loop_{"bench-loop"}, durable_loop_{"bench-durable"};
  const Catalog catalog_;
  EndpointPool pool_;
  Registry registry_;
  Dispatcher dispatcher_;
  const std::unique_ptr<Journal> journal_;
  std::unique_ptr<DurableDelivery> durable_;
  Callers callers_;
};

// `batch` makes so many records durable, numbered from `number` on.
template <typename Batch>
void Loop(Batch batch, double seconds, Count* count) {
  const double begin = WallSeconds();
  for (double now = begin; now - begin < seconds;) {
    batch(count->events);
    count->events += static_cast<uint64_t>(absl::GetFlag(FLAGS_callers));
    const double after = WallSeconds();
    count->latencies.Add(after - now);
    now = after;
  }
}

class Sqlite {
 public:
  Sqlite(const std::string& folder, std::string record)
      : record_(std::move(record)), database_(*Database::Open(folder + "/bare.db")) {
    for (const char* sql : {"PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL",
                            "CREATE TABLE events(queue INTEGER, sequence INTEGER, record BLOB, "
                            "PRIMARY KEY(queue, sequence)) WITHOUT ROWID"}) {
      EV_CHECK(database_->Run(sql).ok());
    }
    insert_.emplace(*Statement::Prepare(*database_, "INSERT INTO events VALUES(?, ?, ?)"));
  }
  void Run(double seconds, Count* count) {
    Loop(
        [this](uint64_t number) {
          EV_CHECK(database_->Run("BEGIN IMMEDIATE").ok());
          for (int i = 0; i < absl::GetFlag(FLAGS_callers); ++i) {
            EV_CHECK(insert_->Bind(int64_t{1}).Bind(static_cast<int64_t>(++number)).BindBlob(record_).Run().ok());
          }
          EV_CHECK(database_->Run("COMMIT").ok());
        },
        seconds, count);
  }

 private:
  const std::string record_;
  const std::unique_ptr<Database> database_;
  std::optional<Statement> insert_;
};

class Write {
 public:
  Write(const std::string& folder, const std::string& record)
      : fd_(open((folder + "/bare").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) {
    EV_CHECK(fd_ >= 0);
    for (int i = 0; i < absl::GetFlag(FLAGS_callers); ++i) records_ += record;
  }
  ~Write() { close(fd_); }
  void Run(double seconds, Count* count) {
    Loop(
        [this](uint64_t) {
          EV_CHECK(write(fd_, records_.data(), records_.size()) == static_cast<ssize_t>(records_.size()));
          EV_CHECK(fdatasync(fd_) == 0);
        },
        seconds, count);
  }

 private:
  const int fd_;
  std::string records_;
};

double MedianRatio(const std::vector<double>& ours, const std::vector<double>& base) {
  std::vector<double> ratios;
  for (size_t i = 0; i < ours.size(); ++i) ratios.push_back(ours[i] / base[i]);
  std::nth_element(ratios.begin(), ratios.begin() + static_cast<std::ptrdiff_t>(ratios.size() / 2), ratios.end());
  return ratios[ratios.size() / 2];
}

int Run() {
  std::string folder = absl::GetFlag(FLAGS_folder) + "/evXXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    std::fprintf(stderr, "durable: no folder can be made in %s\n", absl::GetFlag(FLAGS_folder).c_str());
    return 1;
  }
  const std::string record = EncodeEvent(*MakeMessage(1), absl::UnixEpoch());
  Count counts[3];
  {
    Ours ours(folder);
    Sqlite sqlite(folder, record);
    Write write(folder, record);
    const double slice = absl::GetFlag(FLAGS_slice);
    for (double done = 0; done < absl::GetFlag(FLAGS_seconds); done += slice) {
      counts[0].Measure([&] { ours.Run(slice, &counts[0]); });
      counts[1].Measure([&] { sqlite.Run(slice, &counts[1]); });
      counts[2].Measure([&] { write.Run(slice, &counts[2]); });
    }
  }
  std::filesystem::remove_all(folder);
  const char* const names[] = {"ours", "sqlite", "write"};
  std::printf("{\"bytes\":%zu", record.size());
  for (int side = 0; side < 3; ++side) {
    Count& count = counts[side];
    std::printf(",\"%s\":{\"events\":%llu,\"seconds\":%.6f,\"p50\":%.2f,\"p99\":%.2f,\"cpu\":%.6f}", names[side],
                static_cast<unsigned long long>(count.events), count.seconds, count.latencies.Quantile(0.5),
                count.latencies.Quantile(0.99), count.cpu);
  }
  std::printf(",\"to_sqlite\":%.4f,\"to_write\":%.4f}\n", MedianRatio(counts[0].rates, counts[1].rates),
              MedianRatio(counts[0].rates, counts[2].rates));
  return 0;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return eventvirtual::Run();
}
