// A bit of the journal's files is not as it was written: nobody gets an event that is not the one that was raised.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/server/durable/life.h"
#include "tests/server/journal/disk.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

namespace fs = std::filesystem;

int Flips() { return std::getenv("SOAK") != nullptr ? 2000 : 150; }

constexpr int kEvents = 60;   // of each subscription in each of two lives
constexpr int kTogether = 5;  // in the last commits

std::string PayloadOf(int64_t number) {
  return std::string(static_cast<size_t>(number % 7 == 0 ? 5000 : 20 + number % 300),
                     static_cast<char>('a' + number % 26));
}

MessageRef EventOf(const std::string& name, int64_t number) {
  const std::string id = absl::StrCat(name, "-", number), payload = PayloadOf(number);
  const Param params[] = {{"number", number}, {"payload", absl::string_view(payload)}};
  EventFields fields;
  fields.name = name;
  fields.event_id = id;
  fields.event_time = absl::FromUnixSeconds(1790000000 + number);
  fields.source = "sip:proxy";
  fields.params = params;
  return Message::Make(fields);
}

std::string Described(const Message& message) {
  std::string text = absl::StrCat(message.name(), " ", message.event_id(), " ", message.source(), " ",
                                  absl::ToUnixNanos(message.event_time()));
  for (const Param& param : message.params()) {
    absl::StrAppend(&text, " ", param.name, "=");
    if (const auto* number = std::get_if<int64_t>(&param.value)) absl::StrAppend(&text, *number);
    if (const auto* payload = std::get_if<absl::string_view>(&param.value)) absl::StrAppend(&text, *payload);
  }
  return text;
}

std::string Bytes(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

class BitFlipTest : public testing::Test {
 protected:
  // What a process leaves that is killed in its second life: events in the file and in its log.
  void SetUp() override {
    for (int life = 0; life < 2; ++life) {
      Life here(folder_ / "data");
      for (const auto& [event, site] : sites_) here.Subscribe(event, "fake:" + site);
      for (int i = 0; i < 20; ++i) here.Subscribe(absl::StrCat("E_", i), absl::StrCat("fake:me:secret@other-", i));
      for (int i = 0; i < kEvents; ++i) {
        for (const auto& [event, site] : sites_) {
          const MessageRef message = EventOf(event, life * kEvents + i);
          raised_[std::string(message->event_id())] = Described(*message);
          here.world.dispatcher.Raise(message, nullptr);
        }
        if (i % kTogether == kTogether - 1) here.Settle();
      }
      here.Settle();
      if (life == 1) {
        for (const char* name : {"journal.db", "journal.db-wal"})
          whole_[name] = Bytes(folder_ / absl::StrCat("data/", name));
      }
    }
    ASSERT_EQ(raised_.size(), sites_.size() * 2 * kEvents);
  }

  // The files as they were, but for one bit.
  void Flip(const std::string& name, size_t bit) {
    fs::remove_all(folder_ / "data");
    fs::create_directories(folder_ / "data");
    for (const auto& [file, bytes] : whole_) {
      std::string written = bytes;
      if (file == name) written[bit / 8] ^= static_cast<char>(1 << bit % 8);
      std::ofstream(folder_ / absl::StrCat("data/", file), std::ios::binary) << written;
    }
  }

  // Starts, and lets all be delivered; what became of the damage.
  std::string Live() {
    const Disk disk(folder_ / "data", 0);  // a fast one
    absl::StatusOr<std::unique_ptr<Journal>> journal = Journal::Open(folder_ / "data", Journal::Sync::kNormal);
    if (!journal.ok()) {
      EXPECT_TRUE(absl::IsFailedPrecondition(journal.status())) << journal.status();
      return "the start is refused, a newer version wrote it";
    }
    Life life(*std::move(journal));
    std::set<std::string> arrived;
    bool elsewhere = false;
    for (bool some = true; some;) {
      life.Settle();
      some = false;
      for (const auto& [event, site] : sites_) {
        while (life.Has(site)) {
          const MessageRef message = life.world.fake->at(site).parked.front().message.Share();
          const auto found = raised_.find(std::string(message->event_id()));
          if (found == raised_.end() || found->second != Described(*message) || message->name() != event) {
            ADD_FAILURE() << site << " got " << Described(*message);
          }
          arrived.insert(std::string(message->event_id()));
          some = true;
          life.world.fake->at(site).End(absl::OkStatus());
          life.world.loop.RunUntilIdle();
        }
      }
    }
    for (int i = 0; i < 20; ++i) elsewhere = elsewhere || life.Has(absl::StrCat("other-", i));
    EXPECT_FALSE(elsewhere);
    const bool aside = fs::exists(folder_ / "data/journal.db.damaged-1");
    size_t damaged = 0;
    absl::StatusOr<std::vector<SavedDeadLetter>> letters;
    life.journal->Look([&letters](EventTable& table) { letters = table.ListDeadLetters("", 0, 1000, 1 << 20); });
    life.AwaitJournal();
    if (letters.ok()) {
      for (const SavedDeadLetter& letter : *letters) damaged += absl::StrContains(letter.reason, "damaged");
    }
    if (aside) return "the file is moved aside";
    if (fs::exists(folder_ / "data/journal.db.damaged-1-wal")) return "the log is damaged, and the start says so";
    if (arrived.size() == raised_.size()) return "all arrives";
    if (damaged > 0 && arrived.size() + damaged == raised_.size()) return "a damaged event is a dead letter";
    if (!letters.ok() || !life.journal->health().ok()) return "the journal says that it cannot be read or written";
    // It looks like a commit that was being written when the power went.
    EXPECT_GE(arrived.size() + sites_.size() * kTogether, raised_.size()) << "lost without a word";
    return "the last commit is lost";
  }

  const TemporaryFolder folder_;
  const std::map<std::string, std::string> sites_ = {{"E_CDR", "billing"}, {"E_PIKE", "ops"}};
  std::map<std::string, std::string> raised_;  // by id
  std::map<std::string, std::string> whole_;   // the files' bytes
};

TEST_F(BitFlipTest, IsSeenOrHarmlessAndNobodyGetsAnEventThatWasNotRaised) {
  Flip("no file", 0);
  ASSERT_EQ(Live(), "all arrives");
  std::mt19937 random(4);
  for (const auto& [name, bytes] : whole_) {
    ASSERT_GT(bytes.size(), 50000u);
    std::map<std::string, int> ends;
    for (int flip = 0; flip < Flips() && !HasFailure(); ++flip) {
      const size_t bit = random() % (bytes.size() * 8);
      SCOPED_TRACE(absl::StrCat("bit ", bit % 8, " at ", bit / 8, " of ", name));
      Flip(name, bit);
      ++ends[Live()];
    }
    printf("%d flips in the %zu bytes of %s:\n", Flips(), bytes.size(), name.c_str());
    for (const auto& [end, count] : ends) printf("  %5d %s\n", count, end.c_str());
  }
}

}  // namespace
}  // namespace eventvirtual
