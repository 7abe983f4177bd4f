// The power goes at any moment of a life, and what the disk has then is where the next one begins.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/server/durable/life.h"
#include "tests/server/journal/disk.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

namespace fs = std::filesystem;

constexpr int kRaisers = 3;
const char* const kSites[] = {"a", "c"};
constexpr size_t kSiteCount = std::size(kSites);

// Each begins with a first start, and goes through so many cuts.
int Histories() { return std::getenv("SOAK") != nullptr ? 30 : 5; }
constexpr int kCuts = 10;

std::string PayloadOf(int raiser, int64_t number, size_t size) {
  std::minstd_rand random(static_cast<uint32_t>(number * kRaisers + raiser + 1));
  std::string payload(size, ' ');
  for (char& byte : payload) byte = static_cast<char>('a' + random() % 26);
  return payload;
}

// What was promised, and what has come. Any thread. What is told when the power has gone has not happened.
class Oracle {
 public:
  struct Event {
    int life = 0;
    size_t size = 0;
    bool acknowledged = false;
    bool arrived[kSiteCount] = {};
    bool arrived_before_cut[kSiteCount] = {};
  };
  using Id = std::pair<int, int64_t>;  // raiser, number

  void PowerOn(int life) {
    MutexLock lock(&mutex_);
    life_ = life;
    off_ = false;
    for (auto& seen : arrived_now_) seen.clear();
    std::fill(std::begin(twice_now_), std::end(twice_now_), 0);
  }
  void PowerOff() {
    MutexLock lock(&mutex_);
    off_ = true;
    for (Id id : acknowledged_[life_]) {
      Event& event = events_[id];
      std::copy(std::begin(event.arrived), std::end(event.arrived), std::begin(event.arrived_before_cut));
    }
  }
  bool off() {
    MutexLock lock(&mutex_);
    return off_;
  }
  void Raised(Id id, size_t size) {
    MutexLock lock(&mutex_);
    events_[id].life = life_;
    events_[id].size = size;
  }
  void Acknowledged(Id id) {
    MutexLock lock(&mutex_);
    if (off_) return;
    events_[id].acknowledged = true;
    acknowledged_[life_].push_back(id);
  }
  void Arrived(size_t site, const Message& message) {
    MutexLock lock(&mutex_);
    if (off_) return;
    const std::vector<std::string> words = absl::StrSplit(message.event_id(), '-');
    Id id;
    ASSERT_TRUE(words.size() == 2 && absl::SimpleAtoi(words[0], &id.first) && absl::SimpleAtoi(words[1], &id.second));
    const auto found = events_.find(id);
    ASSERT_TRUE(found != events_.end()) << "nobody raised " << message.event_id();
    Event& event = found->second;
    ASSERT_EQ(message.params().size(), 1u);
    EXPECT_EQ(std::get<absl::string_view>(message.params()[0].value), PayloadOf(id.first, id.second, event.size));
    EXPECT_TRUE(arrived_now_[site].insert(id).second) << message.event_id() << " came twice in one life";
    if (event.arrived[site]) {
      most_twice_ = std::max(most_twice_, ++twice_now_[site]);
      return;
    }
    event.arrived[site] = true;
    int64_t& last = last_[site][id.first];
    EXPECT_GT(id.second, last) << "overtaken";
    last = id.second;
  }
  // Of a subscription: what was asked for and not answered may be either way.
  void Asked(const std::string& name) {
    MutexLock lock(&mutex_);
    subscriptions_.erase(name);
  }
  void Answered(const std::string& name, bool exists) {
    MutexLock lock(&mutex_);
    if (!off_) subscriptions_[name] = exists;
  }
  std::map<std::string, bool> subscriptions() {
    MutexLock lock(&mutex_);
    return subscriptions_;
  }

  struct Sums {
    size_t raised = 0, acknowledged = 0, lost = 0, most_lost = 0, most_lost_bytes = 0, not_last = 0, most_twice = 0;
  };
  // At the end, when all that the journal had has come.
  Sums Count() {
    MutexLock lock(&mutex_);
    Sums sums;
    sums.raised = events_.size();
    sums.most_twice = most_twice_;
    for (const auto& [life, ids] : acknowledged_) {
      sums.acknowledged += ids.size();
      for (size_t site = 0; site < kSiteCount; ++site) {
        size_t lost = 0, bytes = 0;
        for (Id id : ids) {
          const Event& event = events_[id];
          if (event.arrived_before_cut[site]) continue;
          if (!event.arrived[site]) {
            ++lost;
            bytes += event.size;
          } else {
            sums.not_last += lost > 0;
          }
        }
        sums.lost += lost;
        sums.most_lost = std::max(sums.most_lost, lost);
        sums.most_lost_bytes = std::max(sums.most_lost_bytes, bytes);
      }
    }
    return sums;
  }

 private:
  Mutex mutex_;
  int life_ ABSL_GUARDED_BY(mutex_) = 0;
  bool off_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<Id, Event> events_ ABSL_GUARDED_BY(mutex_);
  std::map<int, std::vector<Id>> acknowledged_ ABSL_GUARDED_BY(mutex_);  // by life, in their order
  std::set<Id> arrived_now_[kSiteCount] ABSL_GUARDED_BY(mutex_);
  std::map<int, int64_t> last_[kSiteCount] ABSL_GUARDED_BY(mutex_);
  size_t twice_now_[kSiteCount] ABSL_GUARDED_BY(mutex_) = {};
  size_t most_twice_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, bool> subscriptions_ ABSL_GUARDED_BY(mutex_);
};

// A caller that does not wait for each answer. What it has asked for and what it was told outlives it.
class Raiser {
 public:
  Raiser(Life& life, Oracle& oracle, int number, int64_t first, int64_t count, size_t max_size, int64_t patience)
      : life_(life),
        oracle_(oracle),
        number_(number),
        next_(first),
        end_(first + count),
        max_size_(max_size),
        patience_(patience) {
    thread_ = std::thread([this] { Work(); });
  }
  ~Raiser() { thread_.join(); }

  bool done() {
    MutexLock lock(&mutex_);
    return gone_ && unanswered_ == 0;
  }
  int64_t next() const { return next_; }  // when it is done

 private:
  void Work() {
    std::minstd_rand random(static_cast<uint32_t>(next_ + number_ + 1));
    for (; next_ < end_ && !oracle_.off(); ++next_) {
      {
        MutexLock lock(&mutex_);
        while (unanswered_ >= patience_) answered_.Wait(&mutex_);
        ++unanswered_;
      }
      const size_t size = 1 + random() % max_size_;
      const std::string id = absl::StrCat(number_, "-", next_), payload = PayloadOf(number_, next_, size);
      const Param param{"payload", absl::string_view(payload)};
      EventFields fields;
      fields.name = "E_CDR";
      fields.event_id = id;
      fields.event_time = absl::Now();
      fields.params = absl::MakeConstSpan(&param, 1);
      const Oracle::Id key(number_, next_);
      oracle_.Raised(key, size);
      const RaiseReceipt receipt = life_.world.dispatcher.Raise(Message::Make(fields), nullptr);
      EV_CHECK(receipt.durable == kSiteCount);
      receipt.commit->Then([this, key](absl::Status status) {
        if (status.ok()) oracle_.Acknowledged(key);
        MutexLock lock(&mutex_);
        --unanswered_;
        answered_.SignalAll();
      });
    }
    MutexLock lock(&mutex_);
    gone_ = true;
  }

  Life& life_;
  Oracle& oracle_;
  const int number_;
  int64_t next_;
  const int64_t end_;
  const size_t max_size_;
  const int64_t patience_;  // so many may be without an answer
  Mutex mutex_;
  CondVar answered_;
  int64_t unanswered_ ABSL_GUARDED_BY(mutex_) = 0;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

class PowerCutTest : public testing::Test {
 protected:
  // One life on what the last one left; `cuts`: its power goes at some moment.
  void Live(int number, Journal::Sync sync, bool cuts) {
    const std::string here = folder_ / absl::StrCat("disk-", number),
                      next = folder_ / absl::StrCat("disk-", number + 1);
    Disk disk(here, random_());
    oracle_->PowerOn(number);
    const unsigned when = random_() % 3;  // at the start, at work, at the end
    const auto cut_within = [&](unsigned changes) {
      if (cuts) disk.CutBefore(1 + random_() % changes, [this] { oracle_->PowerOff(); });
    };
    if (when < 2) cut_within(when == 0 ? 50 : 600);
    {
      Life life(here + "/data", {}, uint64_t{1} << 30, sync);
      if (sync == Journal::Sync::kFull) CheckSubscriptions(life);
      for (const char* site : kSites) life.Subscribe("E_CDR", absl::StrCat("fake:", site));
      ChangeSubscriptions(life, number);
      Work(life, cuts);
      if (when == 2) cut_within(60);
    }
    if (cuts) {
      disk.CutNow();
      ++cut_at_[disk.cut_at()];
      disk.WriteImage(next);
    }
    const Disk::Counts counts = disk.counts();
    bytes_dropped_ += counts.unsynced_bytes_lost;
    EXPECT_FALSE(fs::exists(here + "/data/journal.db.damaged-1")) << "life " << number;
    if (!HasFailure()) fs::remove_all(here);
  }

  void CheckSubscriptions(Life& life) {
    for (const auto& [name, exists] : oracle_->subscriptions()) {
      EXPECT_EQ(life.world.registry.Get(name).ok(), exists) << name;
    }
  }

  // A few come and one goes.
  void ChangeSubscriptions(Life& life, int number) {
    const auto answer = [&](const std::string& name, bool exists) {
      life.journal->AfterCommit([this, name, exists](absl::Status status) {
        if (status.ok()) oracle_->Answered(name, exists);
      });
    };
    std::vector<std::string> there;
    for (const auto& [name, exists] : oracle_->subscriptions()) {
      if (exists) there.push_back(name);
    }
    for (int i = 0; i < 3; ++i) {
      const std::string name = life.world.Subscribe(absl::StrCat("E_", number, "_", i), "fake:other");
      oracle_->Asked(name);
      answer(name, true);
    }
    if (there.empty()) return;
    const std::string gone = there[random_() % there.size()];
    oracle_->Asked(gone);
    if (life.world.registry.Unsubscribe(gone).ok()) answer(gone, false);
  }

  // Callers raise, subscribers take; until nothing is left to do, or the power has gone.
  void Work(Life& life, bool cuts) {
    const size_t max_size = random_() % 8 == 0 ? 40000 : 600;
    const bool away = cuts && random_() % 3 == 0;  // the last site
    const int64_t patience = int64_t{1} << random_() % 6;
    std::vector<std::unique_ptr<Raiser>> raisers;
    for (int i = 0; i < kRaisers; ++i) {
      const int64_t count = cuts ? 20 + random_() % 150 : 10;
      raisers.push_back(std::make_unique<Raiser>(life, *oracle_, i, next_[i], count, max_size, patience));
    }
    const absl::Time deadline = absl::Now() + absl::Minutes(5);
    while (true) {
      bool idle = !life.loop.Run();
      for (size_t i = 0; i < kSiteCount - (away ? 1 : 0); ++i) {
        FakeTransport::Site& site = life.world.fake->at(kSites[i]);
        for (size_t some = random_() % 8; site.has_parcel() && some > 0; --some) {
          oracle_->Arrived(i, *site.parked.front().message);
          site.End(absl::OkStatus());
        }
        idle = idle && !site.has_parcel();
      }
      if (!std::all_of(raisers.begin(), raisers.end(), [](auto& raiser) { return raiser->done(); })) continue;
      if (oracle_->off()) break;
      if (!idle) continue;
      life.Settle();
      if (!life.Has(kSites[0]) && (away || !life.Has(kSites[1]))) break;
      ASSERT_LT(absl::Now(), deadline);
    }
    for (int i = 0; i < kRaisers; ++i) next_[i] = raisers[i]->next();
  }

  Oracle::Sums LiveThroughCuts(Journal::Sync sync) {
    Oracle::Sums all;
    for (int history = 0; history < Histories() && !HasFailure(); ++history) {
      oracle_ = std::make_unique<Oracle>();
      std::fill(std::begin(next_), std::end(next_), 1);
      fs::create_directories(folder_ / "disk-0");
      for (int life = 0; life < kCuts && !HasFailure(); ++life) Live(life, sync, true);
      if (!HasFailure()) Live(kCuts, sync, false);
      const Oracle::Sums sums = oracle_->Count();
      all.raised += sums.raised;
      all.acknowledged += sums.acknowledged;
      all.lost += sums.lost;
      all.not_last += sums.not_last;
      all.most_lost = std::max(all.most_lost, sums.most_lost);
      all.most_lost_bytes = std::max(all.most_lost_bytes, sums.most_lost_bytes);
      all.most_twice = std::max(all.most_twice, sums.most_twice);
    }
    printf(
        "%d cuts in %d histories: %zu events raised, %zu acknowledged, %zu lost, at most %zu by one cut (%zu bytes);"
        " at most %zu came twice to one subscriber after one cut; %zu bytes were written and dropped\n",
        Histories() * kCuts, Histories(), all.raised, all.acknowledged, all.lost, all.most_lost, all.most_lost_bytes,
        all.most_twice, static_cast<size_t>(bytes_dropped_));
    for (const auto& [where, count] : cut_at_) {
      printf("  %4d before %s\n", count, where.empty() ? "the next life" : where.c_str());
    }
    return all;
  }

  const TemporaryFolder folder_;
  std::mt19937 random_{20261126};
  std::unique_ptr<Oracle> oracle_;
  int64_t next_[kRaisers] = {};
  std::map<std::string, int> cut_at_;
  uint64_t bytes_dropped_ = 0;
};

TEST_F(PowerCutTest, WithSyncFullNothingThatWasAcknowledgedIsLost) {
  const Oracle::Sums sums = LiveThroughCuts(Journal::Sync::kFull);
  EXPECT_GT(sums.acknowledged, 1000u);
  EXPECT_GT(bytes_dropped_, 0u) << "else this proves nothing";
  EXPECT_EQ(sums.lost, 0u);
  EXPECT_LE(sums.most_twice, DurableQueue::kWindow);
}

TEST_F(PowerCutTest, WithSyncNormalWhatIsLostIsWhatCameLast) {
  const Oracle::Sums sums = LiveThroughCuts(Journal::Sync::kNormal);
  EXPECT_GT(sums.acknowledged, 1000u);
  EXPECT_GT(sums.lost, 0u) << "else --sync=full costs and brings nothing";
  EXPECT_EQ(sums.not_last, 0u);
  EXPECT_LE(sums.most_lost_bytes, 16u << 20);
}

}  // namespace
}  // namespace eventvirtual
