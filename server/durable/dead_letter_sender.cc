#include "server/durable/dead_letter_sender.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/durable/records.h"
#include "server/log/log.h"
#include "server/registry/subscription.h"
#include "transports/api/completion.h"

namespace eventvirtual {
namespace {

constexpr size_t kPageBytes = 1 << 20;

}  // namespace

MessageRef DeadLetterMessage(const Message& event, const SavedDeadLetter& letter) {
  absl::InlinedVector<Param, 16> params(event.params().begin(), event.params().end());
  const bool named = params.empty() ||
                     std::any_of(params.begin(), params.end(), [](const Param& param) { return !param.name.empty(); });
  const std::string subscription = absl::StrCat(Subscription::kNamePrefix, letter.subscription);
  for (Param param : {Param{"dead_letter_reason", absl::string_view(letter.reason)},
                      Param{"dead_letter_attempts", int64_t{letter.attempts}},
                      Param{"dead_letter_subscription", absl::string_view(subscription)}}) {
    if (!named) param.name = "";
    params.push_back(param);
  }
  EventFields fields;
  fields.name = event.name();
  fields.params = params;
  fields.event_id = event.event_id();
  fields.event_time = event.event_time();
  fields.source = event.source();
  fields.attributes = event.attributes();
  fields.is_report = event.is_report();
  fields.hops = event.hops();
  return Message::Make(fields);
}

// Those that are out together. Lives until the last has ended and the loop has heard of it.
struct DeadLetterSender::Page final : Endpoint::Client {
  struct Letter {
    SavedDeadLetter saved;
    MessageRef message;
    absl::Status outcome;  // written by the loop of its endpoint
  };

  explicit Page(DeadLetterSender& sender) : sender(sender), alive(sender.alive_), loop(sender.loop_) {}

  bool Wanted(absl::Time) const override { return true; }
  void OnOutcome(uint32_t tag, Outcome outcome) override { End(tag, outcome.status); }

  void End(size_t index, const absl::Status& outcome) {
    letters[index].outcome = Fresh(outcome);
    Release();
  }
  void Release() {
    if (out.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    loop.Post([page = std::move(self)] {
      if (*page->alive) page->sender.OnEnd(*page);
    });
  }

  DeadLetterSender& sender;
  const std::shared_ptr<bool> alive;  // of the sender; the loop's
  Loop& loop;
  std::vector<Letter> letters;
  absl::flat_hash_map<std::string, EndpointLease> leases;  // by URI
  std::atomic<size_t> out{0};
  std::shared_ptr<Page> self;  // until the last has ended
};

DeadLetterSender::DeadLetterSender(Journal& journal, const Catalog& catalog, EndpointPool& pool, Loop& loop)
    : journal_(journal), catalog_(catalog), pool_(pool), loop_(loop) {}

DeadLetterSender::~DeadLetterSender() { *alive_ = false; }

DeadLetterSender::Counts DeadLetterSender::counts() const {
  return {sent_.load(std::memory_order_relaxed), failed_.load(std::memory_order_relaxed)};
}

void DeadLetterSender::Wake() {
  loop_.Post([this, alive = alive_] {
    if (!*alive) return;
    again_ = true;
    if (!busy_) Read();
  });
}

void DeadLetterSender::Stop() {
  loop_.Post([this, alive = alive_] {
    if (*alive) stopped_ = true;
  });
}

void DeadLetterSender::Read() {
  busy_ = !stopped_;
  if (stopped_) return;
  again_ = false;
  journal_.Look([this, alive = alive_, &loop = loop_, after = after_](EventTable& table) {
    absl::StatusOr<std::vector<SavedDeadLetter>> letters = table.ListUnsent(after, kAtOnce, kPageBytes);
    loop.Post([this, alive, letters = std::move(letters)]() mutable {
      if (!*alive) return;
      if (!letters.ok()) {
        Log(LogLevel::kError, "dead letters cannot be read from the journal; they are kept for the next start",
            {{"error", letters.status().message()}});
        letters = std::vector<SavedDeadLetter>();
      }
      Send(*std::move(letters));
    });
  });
}

void DeadLetterSender::Send(std::vector<SavedDeadLetter> letters) {
  if (letters.empty() || stopped_) {
    busy_ = false;
    if (again_ && !stopped_) Read();
    return;
  }
  again_ = true;  // more may stand behind them
  after_ = letters.back().id;
  const auto page = std::make_shared<Page>(*this);
  for (SavedDeadLetter& saved : letters) page->letters.push_back({std::move(saved), nullptr, absl::OkStatus()});
  page->self = page;
  page->out = page->letters.size();
  const absl::Time now = loop_.Now();
  for (size_t i = 0; i < page->letters.size(); ++i) {
    Page::Letter& letter = page->letters[i];
    const absl::StatusOr<KeptEvent> event = DecodeEvent(letter.saved.record);
    const absl::StatusOr<Destination> destination = catalog_.Resolve(letter.saved.destination, /*canonical=*/true);
    if (!event.ok() || !destination.ok()) {
      page->End(i, event.ok() ? destination.status() : event.status());
      continue;
    }
    letter.message = DeadLetterMessage(*event->message, letter.saved);
    EndpointLease& endpoint = page->leases[letter.saved.destination];
    if (endpoint.get() == nullptr) endpoint = pool_.Lease(*destination);
    const Admission admission = endpoint->Offer(*letter.message, page.get(), static_cast<uint32_t>(i), now,
                                                now + endpoint->target().attempt_timeout);
    if (admission != Admission::kAccepted) page->End(i, endpoint->RefusalOf(admission));
  }
}

void DeadLetterSender::OnEnd(const Page& page) {
  std::vector<uint64_t> sent;
  std::vector<std::pair<uint64_t, std::string>> kept;
  std::string last;
  for (const Page::Letter& letter : page.letters) {
    if (letter.outcome.ok()) {
      sent.push_back(letter.saved.id);
    } else if (!stopped_) {
      const auto lease = page.leases.find(letter.saved.destination);
      const std::string to = lease == page.leases.end() ? "" : absl::StrCat(" (", lease->second->target().masked, ")");
      last = absl::StrCat("its dead_letter_uri", to, " has not taken it: ", letter.outcome.message());
      kept.emplace_back(letter.saved.id, absl::StrCat(letter.saved.reason, "; ", last));
    }
  }
  sent_.fetch_add(sent.size(), std::memory_order_relaxed);
  failed_.fetch_add(kept.size(), std::memory_order_relaxed);
  if (!kept.empty()) {
    Log(LogLevel::kWarning, "dead letters could not be sent to their dead_letter_uri, and are kept",
        {{"count", absl::StrCat(kept.size())}, {"reason", last}});
  }
  journal_.Change(
      [sent = std::move(sent), kept = std::move(kept)](EventTable& table) {
        absl::Status status;
        for (uint64_t id : sent) {
          if (status.ok()) status = table.EraseDeadLetter(id);
        }
        for (const auto& [id, reason] : kept) {
          if (status.ok()) status = table.KeepUnsent(id, reason);
        }
        return status;
      },
      nullptr);
  Read();
}

}  // namespace eventvirtual
