// What is committed is there in the next life, whatever happens to the file; what is not is not acknowledged.
#include "server/journal/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/journal/sqlite.h"
#include "tests/transports/io/temporary_folder.h"
#include "transports/api/completion.h"
#include "transports/api/mutex.h"

namespace eventvirtual {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kPatience = absl::Seconds(20);

std::string Text(const absl::Status& status) { return std::string(status.message()); }

SavedSubscription Saved(const std::string& id) {
  SavedSubscription saved;
  saved.id = id;
  saved.event = "E_CDR";
  saved.filter = "a='; DROP TABLE subscriptions --";
  saved.socket = "virtual:FAILOVER fake:me:s3cr3t@a fake:b";
  saved.attempt_timeouts = {absl::ZeroDuration(), absl::Milliseconds(1500)};
  saved.created = absl::FromUnixNanos(1790000000123456789);
  saved.expires = absl::FromUnixNanos(1990000000123456789);
  saved.failover_timeout = absl::Seconds(7);
  saved.total_timeout = absl::InfiniteDuration();
  saved.max_event_age = absl::Minutes(3);
  saved.max_attempts = 2;
  saved.queue = 77;
  saved.labels = {{"team", "voice"}, {"x", "ä\n\"'"}};
  saved.owner = "token:billing";
  return saved;
}

class JournalTest : public testing::Test {
 protected:
  std::unique_ptr<Journal> Open() {
    absl::StatusOr<std::unique_ptr<Journal>> journal = Journal::Open(folder_ / "data", Journal::Sync::kNormal);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return journal.ok() ? *std::move(journal) : nullptr;
  }

  // Whether all that was saved before is committed.
  static absl::Status Committed(Journal& journal) {
    Mutex mutex;
    CondVar told;
    std::optional<absl::Status> outcome;
    journal.AfterCommit([&](absl::Status status) {
      MutexLock lock(&mutex);
      outcome = Fresh(status);
      told.SignalAll();
    });
    MutexLock lock(&mutex);
    while (!outcome.has_value()) {
      if (!told.WaitFor(&mutex, kPatience)) return absl::DeadlineExceededError("nothing was told");
    }
    return *outcome;
  }

  // Appends an event, and waits for its commit.
  static absl::Status Append(Journal& journal, std::string record, uint32_t queue = 1) {
    Mutex mutex;
    CondVar told;
    std::optional<absl::Status> outcome;
    journal.Append(std::move(record), {queue}, std::nullopt, [&](absl::StatusOr<uint64_t> first) {
      MutexLock lock(&mutex);
      outcome = Fresh(first.status());
      told.SignalAll();
    });
    MutexLock lock(&mutex);
    while (!outcome.has_value()) {
      if (!told.WaitFor(&mutex, kPatience)) return absl::DeadlineExceededError("nothing was told");
    }
    return *outcome;
  }

  std::vector<std::string> Ids() {
    std::vector<std::string> ids;
    const std::unique_ptr<Journal> journal = Open();
    for (const SavedSubscription& saved : journal->TakeSubscriptions()) ids.push_back(saved.id);
    journal->Close(kPatience);
    return ids;
  }

  fs::path file() const { return folder_ / "data/journal.db"; }
  bool MovedAside() const { return fs::exists(file().string() + ".damaged-1"); }

  const TemporaryFolder folder_;
};

TEST_F(JournalTest, KeepsAllThatASubscriptionIs) {
  {
    const std::unique_ptr<Journal> journal = Open();
    SavedSubscription for_ever = Saved("b");
    for_ever.created += absl::Seconds(1);
    for_ever.expires = absl::InfiniteFuture();
    journal->Save(for_ever);
    journal->Save(Saved("a"));
    EXPECT_TRUE(Committed(*journal).ok());
    journal->Close(kPatience);
  }
  const std::unique_ptr<Journal> journal = Open();
  const std::vector<SavedSubscription> kept = journal->TakeSubscriptions();
  ASSERT_EQ(kept.size(), 2u);
  const SavedSubscription expected = Saved("a");
  EXPECT_EQ(kept[0].id, "a");
  EXPECT_EQ(kept[0].event, expected.event);
  EXPECT_EQ(kept[0].filter, expected.filter);
  EXPECT_EQ(kept[0].socket, expected.socket);
  EXPECT_EQ(kept[0].attempt_timeouts, expected.attempt_timeouts);
  EXPECT_EQ(kept[0].created, expected.created);
  EXPECT_EQ(kept[0].expires, expected.expires);
  EXPECT_EQ(kept[0].failover_timeout, expected.failover_timeout);
  EXPECT_EQ(kept[0].total_timeout, expected.total_timeout);
  EXPECT_EQ(kept[0].max_event_age, expected.max_event_age);
  EXPECT_EQ(kept[0].max_attempts, expected.max_attempts);
  EXPECT_EQ(kept[0].queue, expected.queue);
  EXPECT_EQ(kept[0].labels, expected.labels);
  EXPECT_EQ(kept[0].owner, expected.owner);
  EXPECT_EQ(kept[1].id, "b") << "in the order of creation";
  EXPECT_EQ(kept[1].expires, absl::InfiniteFuture());
}

TEST_F(JournalTest, TheLastWordForAnIdCounts) {
  {
    const std::unique_ptr<Journal> journal = Open();
    for (int i = 0; i < 1000; ++i) {
      SavedSubscription saved = Saved(absl::StrCat(i % 10));
      saved.labels = {{"round", absl::StrCat(i)}};
      journal->Save(std::move(saved));
    }
    journal->Erase("3");
    journal->Erase("never-there");
    journal->Close(kPatience);  // what waits is committed
  }
  const std::unique_ptr<Journal> journal = Open();
  const std::vector<SavedSubscription> kept = journal->TakeSubscriptions();
  ASSERT_EQ(kept.size(), 9u);
  for (const SavedSubscription& saved : kept) {
    EXPECT_EQ(saved.labels, (std::map<std::string, std::string>{{"round", absl::StrCat(990 + std::stoi(saved.id))}}));
  }
}

TEST_F(JournalTest, IsForItsOwnerAlone) {
  const std::unique_ptr<Journal> journal = Open();
  journal->Save(Saved("a"));
  ASSERT_TRUE(Committed(*journal).ok());
  for (const auto& entry : fs::directory_iterator(folder_ / "data")) {
    struct stat about = {};
    ASSERT_EQ(stat(entry.path().c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 0777, 0600u) << entry.path();
  }
}

TEST_F(JournalTest, BelongsToOneProcessAtATime) {
  const std::unique_ptr<Journal> journal = Open();
  const absl::Status second = Journal::Open(folder_ / "data", Journal::Sync::kFull).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(second), HasSubstr("another process has it open"));
  EXPECT_THAT(Text(second), HasSubstr(file().string()));
}

// As version 1 wrote it, before events were kept.
TEST_F(JournalTest, OfAnOlderVersionBecomesOneOfThis) {
  fs::create_directories(folder_ / "data");
  ASSERT_TRUE((*Database::Open(file()))
                  ->Run(R"(
    CREATE TABLE state(name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    INSERT INTO state VALUES('closed_in_order', '1');
    CREATE TABLE subscriptions(
      id TEXT PRIMARY KEY, event TEXT, filter TEXT, socket TEXT, attempt_timeouts TEXT, created INTEGER, expires INTEGER,
      failover_timeout INTEGER, total_timeout INTEGER, max_event_age INTEGER, max_attempts INTEGER) WITHOUT ROWID;
    CREATE TABLE labels(subscription TEXT, name TEXT, value TEXT, PRIMARY KEY(subscription, name)) WITHOUT ROWID;
    INSERT INTO subscriptions VALUES('old', 'E', '', 'fake:a', '0', 1, NULL, 7, NULL, NULL, 2);
    INSERT INTO labels VALUES('old', 'team', 'voice');
    PRAGMA user_version = 1;)")
                  .ok());
  const std::unique_ptr<Journal> journal = Open();
  const std::vector<SavedSubscription> kept = journal->TakeSubscriptions();
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].id, "old");
  EXPECT_EQ(kept[0].max_attempts, 2u);
  EXPECT_EQ(kept[0].labels, (std::map<std::string, std::string>{{"team", "voice"}}));
  EXPECT_EQ(kept[0].queue, 0u) << "it was not durable";
  EXPECT_EQ(journal->last_queue(), 0u);
}

TEST_F(JournalTest, OfANewerVersionIsLeftAlone) {
  Open()->Close(kPatience);
  ASSERT_TRUE((*Database::Open(file()))->Run("PRAGMA user_version = 7").ok());
  const absl::Status status = Journal::Open(folder_ / "data", Journal::Sync::kFull).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(status), HasSubstr("a newer version wrote it (7; this one knows 3)"));
  EXPECT_FALSE(MovedAside());
}

// A bit of its version is not as it was written.
TEST_F(JournalTest, OfNoVersionThatCanBeIsLeftAlone) {
  Open()->Close(kPatience);
  ASSERT_TRUE((*Database::Open(file()))->Run("PRAGMA user_version = -3").ok());
  EXPECT_THAT(Text(Journal::Open(folder_ / "data", Journal::Sync::kFull).status()),
              HasSubstr("(-3; this one knows 3)"));
  EXPECT_FALSE(MovedAside());
}

TEST_F(JournalTest, ADatabaseWithoutOurTablesIsMovedAside) {
  Open()->Close(kPatience);
  ASSERT_TRUE((*Database::Open(file()))->Run("DROP TABLE subscriptions").ok());
  EXPECT_TRUE(Ids().empty());
  EXPECT_TRUE(MovedAside());
}

TEST_F(JournalTest, OfManyDamagedFilesTheLastIsGivenUp) {
  fs::create_directories(folder_ / "data");
  for (int i = 1; i <= 11; ++i) {
    std::ofstream(file(), std::ios::trunc) << "no database, the " << i << ". of them" << std::string(9000, 'x');
    EXPECT_TRUE(Ids().empty());
  }
  std::ifstream last(file().string() + ".damaged-9");
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(last), {}), HasSubstr("the 11. of them"));
  EXPECT_FALSE(fs::exists(file().string() + ".damaged-10"));
}

// Nothing is lost that somebody may still want, and the start says why.
TEST_F(JournalTest, ADamagedFileThatCannotBeMovedStaysWhereItIs) {
  fs::create_directories(folder_ / "data");
  for (int i = 1; i <= 9; ++i) fs::create_directories(file().string() + absl::StrCat(".damaged-", i, "/folder"));
  std::ofstream(file()) << "no database" << std::string(9000, 'x');
  const absl::Status status = Journal::Open(folder_ / "data", Journal::Sync::kFull).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(status), HasSubstr("journal.db: cannot be moved to " + file().string() + ".damaged-9: "));
  std::ifstream stays(file());
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(stays), {}), HasSubstr("no database"));
}

// Commits behind the damage are lost either way; what is before it is there, and who may still want the rest is told
// that it was not copied.
TEST_F(JournalTest, ALogThatIsDamagedAndCannotBeCopiedStopsNoStart) {
  std::string log;
  {
    const std::unique_ptr<Journal> journal = Open();
    for (int i = 0; i < 5; ++i) {
      journal->Save(Saved(absl::StrCat("id-", i)));
      ASSERT_TRUE(Committed(*journal).ok());
    }
    std::ifstream stream(file().string() + "-wal", std::ios::binary);
    log = std::string(std::istreambuf_iterator<char>(stream), {});
    fs::copy_file(file(), folder_ / "killed.db");
    journal->Close(kPatience);
  }
  fs::rename(folder_ / "killed.db", file());
  log[log.size() / 2] ^= 1;
  std::ofstream(file().string() + "-wal", std::ios::binary) << log;
  for (int i = 1; i <= 9; ++i) fs::create_directories(file().string() + absl::StrCat(".damaged-", i, "-wal/folder"));
  testing::internal::CaptureStderr();
  EXPECT_LT(Ids().size(), 5u);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("log is damaged"), HasSubstr("commits="), HasSubstr("copied_to=\"Invalid argument\"")));
}

TEST_F(JournalTest, APlaceThatCannotBeWrittenIsNamed) {
  std::ofstream(folder_ / "data") << "a file";
  const absl::Status status = Journal::Open(folder_ / "data", Journal::Sync::kFull).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(status), HasSubstr("/data: Not a directory"));
  EXPECT_FALSE(Journal::Open("/proc/nowhere/data", Journal::Sync::kFull).ok());
}

TEST_F(JournalTest, WhatIsNoDatabaseIsMovedAsideAndKept) {
  fs::create_directories(folder_ / "data");
  std::ofstream(file()) << "this is not a database, but it may be somebody's only copy of something: "
                        << std::string(9000, 'x');
  EXPECT_TRUE(Ids().empty());
  ASSERT_TRUE(MovedAside());
  std::ifstream aside(file().string() + ".damaged-1");
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(aside), {}), HasSubstr("somebody's only copy"));
  std::ofstream(file(), std::ios::trunc) << "again no database, long enough to be looked at" << std::string(9000, 'x');
  EXPECT_TRUE(Ids().empty());
  EXPECT_TRUE(fs::exists(file().string() + ".damaged-2"));
}

// Bits of the file flip while it is not open; the process before had not closed it in order.
TEST_F(JournalTest, ADamagedFileNeverStopsAStart) {
  {
    const std::unique_ptr<Journal> journal = Open();
    for (int i = 0; i < 200; ++i) journal->Save(Saved(absl::StrCat("id-", i)));
    journal->Close(kPatience);
  }
  ASSERT_TRUE((*Database::Open(file()))->Run("UPDATE state SET value = '0'").ok());
  std::ifstream stream(file(), std::ios::binary);
  const std::string whole(std::istreambuf_iterator<char>(stream), {});
  std::minstd_rand random(3);
  int moved = 0;
  for (int round = 0; round < 200; ++round) {
    std::string damaged = whole;
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips) {
      damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
    }
    if (round % 10 == 0) damaged.resize(random() % damaged.size());
    for (const auto& entry : fs::directory_iterator(folder_ / "data")) fs::remove(entry.path());
    std::ofstream(file(), std::ios::binary) << damaged;
    const absl::StatusOr<std::unique_ptr<Journal>> journal = Journal::Open(folder_ / "data", Journal::Sync::kNormal);
    // A flipped bit in the version reads as one of the future.
    if (!journal.ok() && absl::IsFailedPrecondition(journal.status())) continue;
    ASSERT_TRUE(journal.ok()) << "round " << round << ": " << journal.status();
    (*journal)->Save(Saved("new"));
    const absl::Status written = Committed(**journal);
    EXPECT_TRUE(written.ok() || absl::StrContains(written.message(), "journal.db")) << round << ": " << written;
    (*journal)->Close(kPatience);
    moved += MovedAside();
  }
  EXPECT_GT(moved, 20) << "most damage of structure is seen";
}

// The disk is full: as far as SQLite sees, a write fails.
TEST_F(JournalTest, WhatCannotBeWrittenIsNotAcknowledgedAndIsWrittenWhenThereIsRoomAgain) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::unique_ptr<Journal> journal = Open();
  journal->Save(Saved("before"));
  ASSERT_TRUE(Committed(*journal).ok());
  const rlimit full = {20000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  for (int i = 0; i < 100; ++i) journal->Save(Saved(absl::StrCat("id-", i)));
  const absl::Status refused = Committed(*journal);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(Text(refused), HasSubstr("journal.db"));
  EXPECT_THAT(Text(refused), Not(HasSubstr("s3cr3t")));
  EXPECT_TRUE(Committed(*journal).ok()) << "it was tried again";
  journal->Close(kPatience);
  journal.reset();
  EXPECT_EQ(Ids().size(), 101u);
}

// Likewise, for events: what was refused is not tried again, what comes when there is room again is taken.
TEST_F(JournalTest, AnEventThatCannotBeWrittenIsRefusedAndLaterOnesAreTaken) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::unique_ptr<Journal> journal = Open();
  ASSERT_TRUE(Append(*journal, "first").ok());
  const rlimit full = {20000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  const absl::Status refused = Append(*journal, std::string(30000, 'x'));
  const absl::Status at_once = Append(*journal, "small");
  const absl::Status health = journal->health();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_FALSE(refused.ok());
  EXPECT_EQ(Text(refused), Text(health) + "; it is tried again each second");
  EXPECT_THAT(Text(at_once), HasSubstr("it is tried again each second"));
  const absl::Time deadline = absl::Now() + kPatience;
  absl::Status taken = at_once;
  while (!taken.ok() && absl::Now() < deadline) taken = Append(*journal, "last");
  EXPECT_TRUE(taken.ok()) << taken;
  EXPECT_TRUE(journal->health().ok());
  journal->Close(kPatience);
  journal.reset();
  journal = Open();
  std::vector<std::string> records;
  journal->Look([&records](EventTable& table) {
    const absl::StatusOr<std::vector<QueuedEvent>> events = table.Read(1, 0, 100, 1 << 20);
    for (const QueuedEvent& event : *events) records.push_back(event.record);
  });
  journal->Close(kPatience);
  EXPECT_THAT(records, ::testing::ElementsAre("first", "last"));
}

TEST_F(JournalTest, ThatItCanBeWrittenAgainIsNoticedAlsoWhenNobodyAsks) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const std::unique_ptr<Journal> journal = Open();
  EXPECT_TRUE(journal->health().ok());
  const rlimit full = {1, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  EXPECT_FALSE(Append(*journal, "x").ok());
  EXPECT_TRUE(journal->counts().failing);
  EXPECT_FALSE(journal->health().ok());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  const absl::Time deadline = absl::Now() + kPatience;
  while (!journal->health().ok() && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_TRUE(journal->health().ok());
  EXPECT_FALSE(journal->counts().failing);
  EXPECT_EQ(journal->counts().refused, 1u);
  EXPECT_EQ(journal->counts().commits, journal->counts().commit_durations.total);
}

TEST_F(JournalTest, OneThatIsFullSaysSoUntilWhatItRefusedWouldBeTaken) {
  const absl::StatusOr<std::unique_ptr<Journal>> opened =
      Journal::Open(folder_ / "data", Journal::Sync::kNormal, uint64_t{1} << 20);
  ASSERT_TRUE(opened.ok());
  Journal& journal = **opened;
  const std::string big(100000, 'x');
  absl::Status refused;
  for (int i = 0; i < 100 && refused.ok(); ++i) refused = Append(journal, big);
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_TRUE(journal.counts().full);
  EXPECT_FALSE(journal.counts().failing);
  EXPECT_THAT(Text(journal.health()), HasSubstr("--journal_max_bytes"));
  EXPECT_EQ(journal.counts().max_bytes, uint64_t{1} << 20);
  EXPECT_GT(journal.counts().used, uint64_t{1} << 19);
  ASSERT_TRUE(Append(journal, "small").ok()) << "that much there is room for";
  EXPECT_TRUE(journal.counts().full);
  journal.Change([](EventTable& table) { return table.Erase(1, 0, 2); }, nullptr);
  ASSERT_TRUE(Committed(journal).ok());
  EXPECT_FALSE(journal.counts().full);
  EXPECT_TRUE(journal.health().ok());
  EXPECT_TRUE(Append(journal, big).ok());
}

TEST_F(JournalTest, TellsWhichQueuesHaveEventsAndHowMany) {
  {
    const std::unique_ptr<Journal> journal = Open();
    SavedSubscription saved = Saved("billing");
    saved.queue = 7;
    journal->Save(saved);
    for (uint32_t queue : {7, 900, 7, 3}) ASSERT_TRUE(Append(*journal, "x", queue).ok());
    journal->Change([](EventTable& table) { return table.Erase(3, 0, 100); }, nullptr);
    journal->Close(kPatience);
  }
  const std::unique_ptr<Journal> journal = Open();
  const std::vector<Backlog> backlogs = journal->TakeBacklogs();
  ASSERT_EQ(backlogs.size(), 2u);
  EXPECT_EQ(backlogs[0].queue, 7u);
  EXPECT_EQ(backlogs[0].subscription, "billing");
  EXPECT_EQ(backlogs[0].last, 3u);
  EXPECT_EQ(backlogs[0].events, 2u);
  EXPECT_EQ(backlogs[1].queue, 900u);
  EXPECT_EQ(journal->last_sequence(), 3u);
  EXPECT_GE(journal->last_queue(), 900u) << "no other ever gets this number";
}

TEST_F(JournalTest, RemembersTheIdsOfItsCallersAndNoMoreThanItMay) {
  {
    const std::unique_ptr<Journal> journal = Open();
    journal->Change(
        [](EventTable& table) {
          for (uint64_t i = 0; i < EventTable::kMaxRaisedIds + 5; ++i) {
            if (absl::Status status = table.Remember({absl::StrCat("id-", i), absl::Now(), 2}); !status.ok()) {
              return status;
            }
          }
          return table.Remember({"old", absl::Now() - absl::Hours(1), 2});
        },
        nullptr);
    journal->Close(kPatience);
  }
  const std::vector<RaisedId> ids = Open()->TakeRaisedIds();
  ASSERT_EQ(ids.size(), EventTable::kMaxRaisedIds - 1) << "and the old one";
  EXPECT_EQ(ids[0].id, "id-6");
  EXPECT_EQ(ids[0].matched, 2u);
}

}  // namespace
}  // namespace eventvirtual
