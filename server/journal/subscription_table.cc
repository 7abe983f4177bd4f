#include "server/journal/subscription_table.h"

#include <utility>

#include "absl/container/btree_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace eventvirtual {
namespace {

// Times are nanoseconds since the epoch, durations nanoseconds; NULL is infinite.
std::optional<int64_t> NanosOf(absl::Time time) {
  if (time == absl::InfiniteFuture()) return std::nullopt;
  return absl::ToUnixNanos(time);
}

std::optional<int64_t> NanosOf(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return std::nullopt;
  return absl::ToInt64Nanoseconds(duration);
}

absl::Duration DurationOf(std::optional<int64_t> nanos) {
  return nanos.has_value() ? absl::Nanoseconds(*nanos) : absl::InfiniteDuration();
}

// The owner stands among the labels, with a name that no label can have.
constexpr char kOwner[] = "";

}  // namespace

SubscriptionTable::SubscriptionTable(Database& database, Statement save, Statement save_queue, Statement erase,
                                     Statement save_label, Statement erase_labels)
    : database_(&database),
      save_(std::move(save)),
      save_queue_(std::move(save_queue)),
      erase_(std::move(erase)),
      save_label_(std::move(save_label)),
      erase_labels_(std::move(erase_labels)) {}

absl::StatusOr<SubscriptionTable> SubscriptionTable::Prepare(Database& database) {
  std::vector<Statement> statements;
  for (const char* sql : {"INSERT OR REPLACE INTO subscriptions VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                          "INSERT INTO queues VALUES(?, ?, ?) ON CONFLICT(number) DO UPDATE SET dead_letter_uri = "
                          "excluded.dead_letter_uri",
                          "DELETE FROM subscriptions WHERE id = ?", "INSERT OR REPLACE INTO labels VALUES(?, ?, ?)",
                          "DELETE FROM labels WHERE subscription = ?"}) {
    absl::StatusOr<Statement> prepared = Statement::Prepare(database, sql);
    if (!prepared.ok()) return prepared.status();
    statements.push_back(*std::move(prepared));
  }
  return SubscriptionTable(database, std::move(statements[0]), std::move(statements[1]), std::move(statements[2]),
                           std::move(statements[3]), std::move(statements[4]));
}

absl::StatusOr<std::vector<SavedSubscription>> SubscriptionTable::Load() {
  std::vector<SavedSubscription> loaded;
  absl::StatusOr<Statement> rows = Statement::Prepare(*database_, "SELECT * FROM subscriptions ORDER BY created, id");
  if (!rows.ok()) return rows.status();
  absl::StatusOr<bool> row = rows->Step();
  for (; row.ok() && *row; row = rows->Step()) {
    SavedSubscription& one = loaded.emplace_back();
    one.id = rows->Text(0);
    one.event = rows->Text(1);
    one.filter = rows->Text(2);
    one.socket = rows->Text(3);
    for (absl::string_view text : absl::StrSplit(rows->Text(4), ' ', absl::SkipEmpty())) {
      int64_t nanos = 0;
      if (!absl::SimpleAtoi(text, &nanos)) return absl::DataLossError("attempt_timeouts that are no numbers");
      one.attempt_timeouts.push_back(absl::Nanoseconds(nanos));
    }
    one.created = absl::FromUnixNanos(rows->Number(5));
    if (const auto expires = rows->OptionalNumber(6)) one.expires = absl::FromUnixNanos(*expires);
    one.failover_timeout = DurationOf(rows->OptionalNumber(7));
    one.total_timeout = DurationOf(rows->OptionalNumber(8));
    one.max_event_age = DurationOf(rows->OptionalNumber(9));
    one.max_attempts = static_cast<uint32_t>(rows->Number(10));
    one.queue = static_cast<uint32_t>(rows->Number(11));
    one.dead_letter_uri = rows->Text(12);
  }
  if (!row.ok()) return row.status();
  if (absl::Status status = LoadLabels(&loaded); !status.ok()) return status;
  return loaded;
}

absl::Status SubscriptionTable::LoadLabels(std::vector<SavedSubscription>* subscriptions) {
  absl::btree_map<absl::string_view, SavedSubscription*> by_id;
  for (SavedSubscription& one : *subscriptions) by_id[one.id] = &one;
  absl::StatusOr<Statement> rows = Statement::Prepare(*database_, "SELECT * FROM labels");
  if (!rows.ok()) return rows.status();
  absl::StatusOr<bool> row = rows->Step();
  for (; row.ok() && *row; row = rows->Step()) {
    const auto found = by_id.find(rows->Text(0));
    if (found == by_id.end()) continue;
    const std::string name = rows->Text(1);
    (name == kOwner ? found->second->owner : found->second->labels[name]) = rows->Text(2);
  }
  return row.status();
}

absl::Status SubscriptionTable::Save(const SavedSubscription& subscription) {
  if (absl::Status status = erase_labels_.Bind(subscription.id).Run(); !status.ok()) return status;
  const std::string timeouts = absl::StrJoin(
      subscription.attempt_timeouts, " ",
      [](std::string* out, absl::Duration timeout) { absl::StrAppend(out, absl::ToInt64Nanoseconds(timeout)); });
  save_.Bind(subscription.id).Bind(subscription.event).Bind(subscription.filter).Bind(subscription.socket);
  save_.Bind(timeouts).Bind(absl::ToUnixNanos(subscription.created)).Bind(NanosOf(subscription.expires));
  save_.Bind(NanosOf(subscription.failover_timeout)).Bind(NanosOf(subscription.total_timeout));
  save_.Bind(NanosOf(subscription.max_event_age)).Bind(int64_t{subscription.max_attempts});
  save_.Bind(int64_t{subscription.queue}).Bind(subscription.dead_letter_uri);
  if (absl::Status status = save_.Run(); !status.ok()) return status;
  if (subscription.queue != 0) {
    save_queue_.Bind(int64_t{subscription.queue}).Bind(subscription.id).Bind(subscription.dead_letter_uri);
    if (absl::Status status = save_queue_.Run(); !status.ok()) return status;
  }
  if (!subscription.owner.empty()) {
    absl::Status status = save_label_.Bind(subscription.id).Bind(std::string(kOwner)).Bind(subscription.owner).Run();
    if (!status.ok()) return status;
  }
  for (const auto& [name, value] : subscription.labels) {
    absl::Status status = save_label_.Bind(subscription.id).Bind(name).Bind(value).Run();
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status SubscriptionTable::Erase(const std::string& id) {
  if (absl::Status status = erase_labels_.Bind(id).Run(); !status.ok()) return status;
  return erase_.Bind(id).Run();
}

}  // namespace eventvirtual
