// Catalog: the transports this process can speak, found by scheme.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_CATALOG_H_
#define EVENTVIRTUAL_TRANSPORTS_API_CATALOG_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// A destination with the transport that reaches it.
struct Destination {
  Target target;
  Transport* transport = nullptr;  // owned by the catalog
};

// Owns the transports. Immutable once the server runs: any thread. Two transports that claim one scheme are a CHECK.
class Catalog {
 public:
  explicit Catalog(std::vector<std::unique_ptr<Transport>> transports);

  // Options that a subscriber of `scheme` has unless it names them itself, as a query without '?':
  // "reliable=1&timeout=2s". Only while the server is being built. INVALID_ARGUMENT: no such scheme, or not a query.
  absl::Status SetDefaults(absl::string_view scheme, absl::string_view query);

  // Of the text of one subscriber; refusals may repeat a part of it, so it also bounds them. Likewise.
  void LimitBytes(size_t max_bytes) { max_bytes_ = max_bytes; }
  size_t max_bytes() const { return max_bytes_; }

  // Parses and canonicalises the text of one subscriber. One that is `canonical` has been through this before: it names
  // what it wants, and the defaults of its scheme are not added.
  // INVALID_ARGUMENT: bad text, more than max_bytes() unless it is canonical, or a scheme nobody speaks (the message
  // lists those that exist).
  absl::StatusOr<Destination> Resolve(absl::string_view text, bool canonical = false) const;

  // Who may say no to a destination that somebody asks for: OK, or the reason. Only while the server is being built.
  // Called on any thread; may read a small file.
  void AskBeforeAdmission(std::function<absl::Status(const Target&)> check) { check_ = std::move(check); }

  // Whether `target`, which Resolve() gave, may be subscribed or probed.
  absl::Status Admit(const Target& target) const { return check_ == nullptr ? absl::OkStatus() : check_(target); }

  const std::vector<std::unique_ptr<Transport>>& transports() const { return transports_; }

 private:
  struct Entry {
    Transport* transport = nullptr;
    std::vector<std::pair<std::string, std::string>> defaults;
  };
  std::vector<std::unique_ptr<Transport>> transports_;
  size_t max_bytes_ = 8192;
  absl::btree_map<std::string, Entry> by_scheme_;
  std::function<absl::Status(const Target&)> check_;  // null: nobody has anything against any
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_CATALOG_H_
