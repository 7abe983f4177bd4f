// Whatever a disk does to the journal's files, the next start is not stopped, and of the events that it finds each is
// to the byte one that was written, or its record is refused. A bit flips, a sector is empty, as it was at another
// time, or that of another place; a file is cut or gone.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/durable/records.h"
#include "server/journal/journal_file.h"
#include "server/log/log.h"
#include "tests/fuzz/choices.h"
#include "tests/transports/io/temporary_folder.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSector = 512;
constexpr int kMaxFaults = 6;
constexpr size_t kMany = 1000, kMuch = 16 << 20;

using Files = std::vector<std::pair<std::string, std::string>>;  // name, bytes

// What there is to damage: the events of two lives, the second of which was not closed.
class Past {
 public:
  Past() {
    for (int life = 0; life < 2; ++life) {
      const std::unique_ptr<JournalFile> file = *JournalFile::Open(folder_ / "past", JournalFile::Sync::kNormal);
      for (int commit = 0; commit < 4; ++commit) Commit(*file, 4 * life + commit);
      if (life == 1) files_ = Read();
      EV_CHECK(file->CloseInOrder().ok());
    }
    later_ = Read().front().second;
  }

  const Files& files() const { return files_; }
  const std::set<std::string>& records() const { return records_; }
  const std::string& later() const { return later_; }  // the database when it was closed

 private:
  void Commit(JournalFile& file, int number) {
    EventTable& table = file.events();
    EV_CHECK(file.database().Run("BEGIN IMMEDIATE").ok());
    SavedSubscription saved;
    saved.id = absl::StrCat("subscription-", number);
    saved.event = "E";
    saved.socket = "fake:me:secret@a";
    saved.queue = static_cast<uint32_t>(1 + number % 3);
    saved.labels = {{"team", "voice"}};
    saved.attempt_timeouts = {absl::Seconds(1), absl::Seconds(2)};
    EV_CHECK(file.subscriptions().Save(saved).ok());
    for (uint64_t i = 0; i < 3; ++i) {
      const uint64_t sequence = 1 + 3 * static_cast<uint64_t>(number) + i;
      const Param param{"payload", absl::string_view(kText).substr(0, 20 + 700 * i)};
      const std::string id = absl::StrCat("event-", sequence);
      EventFields fields;
      fields.name = "E";
      fields.event_id = id;
      fields.params = absl::MakeConstSpan(&param, 1);
      const std::string record = EncodeEvent(*Message::Make(fields), absl::FromUnixSeconds(1790000000));
      records_.insert(record);
      EV_CHECK(table.Append(saved.queue, sequence, record).ok());
      if (i == 1) EV_CHECK(table.SaveProgress(saved.queue, sequence, EncodeProgress({3, {}})).ok());
      SavedDeadLetter letter;
      letter.event = "E";
      letter.reason = "expired";
      letter.record = record;
      if (i == 2) EV_CHECK(table.Bury(saved.queue, sequence, letter, 100).ok());
    }
    EV_CHECK(table.Remember({absl::StrCat("id-", number), absl::Now(), 1}).ok());
    EV_CHECK(file.database().Run("COMMIT").ok());
  }

  Files Read() const {
    Files files;
    for (const char* name : {"journal.db", "journal.db-wal"}) {
      std::ifstream stream(folder_ / absl::StrCat("past/", name), std::ios::binary);
      files.emplace_back(name, std::string(std::istreambuf_iterator<char>(stream), {}));
    }
    return files;
  }

  const std::string kText = std::string(2000, 'x');
  const TemporaryFolder folder_;
  Files files_;
  std::string later_;
  std::set<std::string> records_;
};

void Damage(Choices& choices, const Past& past, std::string* bytes, bool is_database) {
  if (bytes->empty()) return;
  const size_t sectors = (bytes->size() + kSector - 1) / kSector;
  const auto put = [bytes](size_t sector, const std::string& what) {
    const size_t at = sector * kSector, count = std::min(what.size(), bytes->size() - at);
    bytes->replace(at, count, what, 0, count);
  };
  switch (choices.Byte() % 5) {
    case 0: {
      const size_t bit = choices.Below(bytes->size() * 8);
      (*bytes)[bit / 8] ^= static_cast<char>(1 << bit % 8);
      break;
    }
    case 1:
      put(choices.Below(sectors), std::string(kSector, '\0'));
      break;
    case 2: {
      const size_t sector = choices.Below(sectors);
      if (is_database) put(sector, past.later().substr(sector * kSector, kSector));
      break;
    }
    case 3: {
      const std::string from = bytes->substr(choices.Below(sectors) * kSector, kSector);
      put(choices.Below(sectors), from);
      break;
    }
    default:
      bytes->resize(choices.Below(bytes->size()));
  }
}

// Opens what is there, and reads all of it.
void CheckStart(const std::string& data, const std::set<std::string>& written) {
  const absl::StatusOr<std::unique_ptr<JournalFile>> opened = JournalFile::Open(data, JournalFile::Sync::kNormal);
  if (!opened.ok()) {
    EV_CHECK(absl::IsFailedPrecondition(opened.status()));
    EV_CHECK(absl::StrContains(opened.status().message(), "a newer version wrote it"));
    return;
  }
  JournalFile& file = **opened;
  const auto check = [&written](const std::string& record) {
    EV_CHECK(!DecodeEvent(record).ok() || written.contains(record));
  };
  for (const Backlog& backlog : file.held.backlogs) {
    const absl::StatusOr<std::vector<QueuedEvent>> events = file.events().Read(backlog.queue, 0, kMany, kMuch);
    if (!events.ok()) continue;
    for (const QueuedEvent& event : *events) {
      check(event.record);
      const absl::StatusOr<Progress> progress = DecodeProgress(event.progress);
      EV_CHECK(!progress.ok() || progress->attempts == 3 || event.progress.empty());
    }
  }
  if (const auto letters = file.events().ListDeadLetters("", 0, kMany, kMuch); letters.ok()) {
    for (const SavedDeadLetter& letter : *letters) check(letter.record);
  }
  // It may be damaged where nobody has looked: then it says so, and is read all the same.
  (void)file.events().Append(99, file.held.last_sequence + 1, *written.begin());
  (void)file.UsedBytes();
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace eventvirtual;  // NOLINT: this is the property
  static const Past past;
  static const TemporaryFolder folder;
  const std::string place = folder / "data";
  Choices choices(data, size);
  Files files = past.files();
  for (int i = 0; i < kMaxFaults && !choices.done(); ++i) {
    const size_t which = choices.Byte() % files.size();
    Damage(choices, past, &files[which].second, which == 0);
  }
  std::error_code none;
  fs::remove_all(place, none);
  fs::create_directories(place);
  for (const auto& [name, bytes] : files) {
    if (!bytes.empty()) std::ofstream(place + "/" + name, std::ios::binary) << bytes;
  }
  CheckStart(place, past.records());
  CheckStart(place, past.records());  // also what the first has made of it
  return 0;
}
