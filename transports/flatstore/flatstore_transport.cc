#include "transports/flatstore/flatstore_transport.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "transports/api/check.h"
#include "transports/api/mutex.h"
#include "transports/flatstore/flat_file.h"
#include "transports/io/mailbox.h"
#include "transports/io/worker.h"

namespace eventvirtual {
namespace {

// Messages that wait or are being written. While one batch is on the disk the next gathers, so this is also the longest
// batch, and with sync=1 the number of lines that share one sync.
constexpr int kWindow = 1024;

// Threads of one destination that may be stuck on the disk before connecting again is refused.
constexpr size_t kMaxStuck = 4;

constexpr absl::Duration kAttemptTimeout = absl::Seconds(1);
constexpr size_t kMaxPath = 4095;  // PATH_MAX without its NUL
constexpr absl::Duration kMaxPeriod = absl::Hours(24 * 366);

absl::StatusOr<std::string> ParsePath(absl::string_view body) {
  if (!absl::StartsWith(body, "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("flatstore: the path \"", body, "\" is not absolute; write flatstore:/path/to/file"));
  }
  std::string path;
  for (absl::string_view part : absl::StrSplit(body, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") {
      return absl::InvalidArgumentError(
          absl::StrCat("flatstore: the path \"", body, "\" holds \"..\"; write it without"));
    }
    absl::StrAppend(&path, "/", part);
  }
  if (path.empty() || absl::EndsWith(body, "/") || absl::EndsWith(body, "/.")) {
    return absl::InvalidArgumentError(
        absl::StrCat("flatstore: the path \"", body, "\" names a directory; name a file in it"));
  }
  if (path.size() > kMaxPath) {
    return absl::InvalidArgumentError(
        absl::StrCat("flatstore: the path has ", path.size(), " bytes; it may have ", kMaxPath));
  }
  return path;
}

absl::StatusOr<mode_t> ParsePermissions(absl::string_view text) {
  mode_t mode = 0;
  bool octal = !text.empty() && text.size() <= 4;
  for (char digit : text) {
    octal = octal && digit >= '0' && digit <= '7';
    mode = mode * 8 + static_cast<mode_t>(digit - '0');
  }
  if (!octal || mode > 0777 || (mode & 0600) != 0600) {
    return absl::InvalidArgumentError(absl::StrCat(
        "file_permissions: \"", text,
        "\" will not do; it takes an octal number up to 777 in which the owner may read and write, as 644"));
  }
  return mode;
}

// "2g", "100k", "1048576".
absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  absl::string_view digits = text;
  int shift = 0;
  if (!digits.empty() && !absl::ascii_isdigit(digits.back())) {
    const size_t unit = absl::string_view("kmg").find(absl::ascii_tolower(digits.back()));
    shift = unit == absl::string_view::npos ? -1 : 10 * (static_cast<int>(unit) + 1);
    digits.remove_suffix(1);
  }
  uint64_t number = 0;
  if (shift < 0 || digits.empty() || !absl::ascii_isdigit(digits.front()) || !absl::SimpleAtoi(digits, &number) ||
      number > (static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) >> shift)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rotate_size: \"", text,
                     "\" will not do; it takes bytes, as 1048576, or with k, m or g for multiples of 1024"));
  }
  return number << shift;
}

// Whole seconds, as OpenSIPS counts them: "3600", "1h"; "0" for never.
absl::StatusOr<absl::Duration> ParsePeriod(absl::string_view text) {
  absl::Duration period;
  int64_t seconds = 0;
  if (absl::SimpleAtoi(text, &seconds)) {
    period = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(text, &period)) {
    period = -absl::InfiniteDuration();
  }
  if (period < absl::ZeroDuration() || period > kMaxPeriod || period != absl::Trunc(period, absl::Seconds(1))) {
    return absl::InvalidArgumentError(
        absl::StrCat("rotate_period: \"", text,
                     "\" will not do; it takes whole seconds up to 366 days, as 3600 or 1h, or 0 for never"));
  }
  return period;
}

struct Options {
  FlatFileOptions file;
  absl::Duration timeout = kAttemptTimeout;
};

absl::StatusOr<Options> ParseOptions(const Uri& uri) {
  Options result;
  FlatFileOptions& options = result.file;
  absl::StatusOr<std::string> path = ParsePath(uri.body);
  if (!path.ok()) return path.status();
  options.path = *std::move(path);

  QueryReader query(uri);
  options.format.delimiter = query.TakeString("delimiter", options.format.delimiter);
  options.format.escape_delimiter = query.TakeString("escape_delimiter", "");
  options.format.suppress_event_name = query.TakeBool("suppress_event_name", false);
  const std::string permissions = query.TakeString("file_permissions", "644");
  const std::string size = query.TakeString("rotate_size", "0");
  const std::string period = query.TakeString("rotate_period", "0");
  options.rotate_count =
      static_cast<uint64_t>(query.TakeInt("rotate_count", 0, 0, std::numeric_limits<int64_t>::max()));
  options.suffix = query.TakeString("suffix", "");
  options.sync = query.TakeBool("sync", false);
  result.timeout = query.TakeDuration("timeout", kAttemptTimeout, absl::Milliseconds(1), absl::Minutes(5));

  absl::Status status = query.Done();
  if (status.ok()) status = CheckLineFormat(options.format);
  if (status.ok()) status = CheckSuffix(options.suffix);
  if (status.ok()) {
    absl::StatusOr<mode_t> mode = ParsePermissions(permissions);
    if (mode.ok()) options.permissions = *mode;
    status = mode.status();
  }
  if (status.ok()) {
    absl::StatusOr<uint64_t> bytes = ParseSize(size);
    if (bytes.ok()) options.rotate_size = *bytes;
    status = bytes.status();
  }
  if (status.ok()) {
    absl::StatusOr<absl::Duration> duration = ParsePeriod(period);
    if (duration.ok()) options.rotate_period = *duration;
    status = duration.status();
  }
  if (!status.ok()) return absl::Status(status.code(), absl::StrCat("flatstore: ", status.message()));
  return result;
}

std::string Canonical(const Options& all) {
  const FlatFileOptions& options = all.file;
  const FlatFileOptions defaults;
  QueryWriter query;
  if (options.format.delimiter != defaults.format.delimiter) query.Add("delimiter", options.format.delimiter);
  if (!options.format.escape_delimiter.empty()) query.Add("escape_delimiter", options.format.escape_delimiter);
  if (options.format.suppress_event_name) query.Add("suppress_event_name", "1");
  if (options.permissions != defaults.permissions) {
    query.Add("file_permissions", absl::StrFormat("%o", options.permissions));
  }
  if (options.rotate_size > 0) query.Add("rotate_size", absl::StrCat(options.rotate_size));
  if (options.rotate_period > absl::ZeroDuration()) {
    query.Add("rotate_period", absl::StrCat(absl::ToInt64Seconds(options.rotate_period)));
  }
  if (options.rotate_count > 0) query.Add("rotate_count", absl::StrCat(options.rotate_count));
  if (!options.suffix.empty()) query.Add("suffix", options.suffix);
  if (options.sync) query.Add("sync", "1");
  if (all.timeout != kAttemptTimeout) query.Add("timeout", absl::FormatDuration(all.timeout));
  return absl::StrCat("flatstore:", options.path, query.text());
}

// What the link and its thread share; the thread may outlive the link by as long as the disk hangs.
struct Store {
  Store(FlatFileOptions options, Loop& loop) : file(std::move(options)), box(std::make_shared<Mailbox>(loop)) {}

  FlatFile file;  // the thread's
  const std::shared_ptr<Mailbox> box;
};

class FlatstoreLink final : public Link {
 public:
  FlatstoreLink(std::shared_ptr<Store> store, Loop& loop, Host& host)
      : loop_(loop), host_(host), store_(std::move(store)), worker_(std::make_unique<Worker>("ev-flatstore")) {
    worker_->Run([this, store = store_, now = loop_.Now()] {
      if (store->box->left()) return;
      absl::Status status = store->file.Open(now);
      store->box->Post([this, status = std::move(status)] { OnOpened(status); });
    });
  }

  ~FlatstoreLink() override {
    store_->box->Leave();
    // close() may wait for a disk or a file server as well, so the thread does it, as its last task, and then ends: the
    // task owns its worker.
    Worker* const worker = worker_.get();
    worker->Run([store = std::move(store_), worker = std::move(worker_)] { store->file.Close(); });
  }

  void Send(absl::Span<Parcel> parcels) override {
    for (Parcel& parcel : parcels) {
      waiting_.messages.push_back(std::move(parcel.message));
      waiting_.completions.push_back(std::move(parcel.done));
    }
    EV_CHECK(waiting_.messages.size() + writing_.size() <= kWindow);
    if (writing_.empty()) WriteWaiting();
  }

 private:
  struct Batch {
    std::vector<MessageRef> messages;
    std::vector<Completion> completions;
  };

  void OnOpened(const absl::Status& status) {
    if (status.ok()) {
      host_.OnReady(kWindow);
    } else {
      host_.OnClosed(status);
    }
  }

  void WriteWaiting() {
    if (waiting_.messages.empty()) return;
    Batch batch = std::exchange(waiting_, {});
    writing_ = std::move(batch.completions);
    worker_->Run([this, store = store_, messages = std::move(batch.messages), now = loop_.Now()] {
      if (store->box->left()) return;
      FlatFile::Appended appended = store->file.Append(messages, now);
      store->box->Post([this, appended = std::move(appended)] { OnWritten(appended); });
    });
  }

  void OnWritten(const FlatFile::Appended& appended) {
    std::vector<Completion> written = std::exchange(writing_, {});
    if (appended.unopenable) {
      for (Completion& waiting : waiting_.completions) written.push_back(std::move(waiting));
      waiting_ = {};
    }
    WriteWaiting();
    for (size_t i = 0; i < written.size(); ++i) {
      std::move(written[i]).Finish(i < appended.lines ? absl::OkStatus() : appended.why);
    }
    if (appended.unopenable) host_.OnClosed(appended.why);
  }

  Loop& loop_;
  Host& host_;
  std::shared_ptr<Store> store_;
  Batch waiting_;
  std::vector<Completion> writing_;  // of the batch the thread has; empty: it has none
  std::unique_ptr<Worker> worker_;
};

// A link that was refused because too many before it are still stuck on the disk.
class StuckLink final : public Link {
 public:
  StuckLink(absl::Status why, Loop& loop, Host& host) : alive_(std::make_shared<bool>(true)) {
    loop.Post([why = std::move(why), alive = alive_, &host] {
      if (*alive) host.OnClosed(why);
    });
  }
  ~StuckLink() override { *alive_ = false; }
  void Send(absl::Span<Parcel>) override { EV_CHECK(false); }  // it is never ready

 private:
  const std::shared_ptr<bool> alive_;  // the loop's
};

class FlatstoreTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override {
    static constexpr absl::string_view kSchemes[] = {"flatstore"};
    return kSchemes;
  }
  absl::string_view syntax() const override {
    return "flatstore:/path[?delimiter=,&escape_delimiter=TEXT&suppress_event_name=1&file_permissions=644"
           "&rotate_size=100m&rotate_period=1h&rotate_count=LINES&suffix=TEXT&sync=1&timeout=1s]";
  }
  absl::string_view description() const override {
    return "Appends one line per event to a file; success: the whole line is written (sync=1: and on the disk).";
  }
  AckLevel ack_level() const override { return AckLevel::kWritten; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<Options> options = ParseOptions(uri);
    if (!options.ok()) return options.status();
    Target target;
    target.canonical = Canonical(*options);
    target.masked = target.canonical;
    target.ack_level = options->file.sync ? AckLevel::kDurable : AckLevel::kWritten;
    target.attempt_timeout = options->timeout;
    target.path = options->file.path;
    return target;
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    absl::StatusOr<Uri> uri = ParseUri(target.canonical);
    EV_CHECK(uri.ok());
    absl::StatusOr<Options> options = ParseOptions(*uri);
    EV_CHECK(options.ok());

    MutexLock lock(&mutex_);
    std::erase_if(stores_, [](const auto& entry) { return entry.second.expired(); });
    const size_t stuck = std::count_if(stores_.begin(), stores_.end(),
                                       [&](const auto& entry) { return entry.first == target.canonical; });
    if (stuck >= kMaxStuck) {
      return std::make_unique<StuckLink>(
          absl::UnavailableError(absl::StrCat(stuck, " earlier writes to ", options->file.path,
                                              " have not returned yet: its disk or server does not answer")),
          loop, host);
    }
    auto store = std::make_shared<Store>(std::move(options->file), loop);
    stores_.emplace_back(target.canonical, store);
    return std::make_unique<FlatstoreLink>(std::move(store), loop, host);
  }

 private:
  Mutex mutex_;
  // The files whose link or thread still lives, by canonical URI.
  std::vector<std::pair<std::string, std::weak_ptr<Store>>> stores_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Transport> MakeFlatstoreTransport() { return std::make_unique<FlatstoreTransport>(); }

}  // namespace eventvirtual
