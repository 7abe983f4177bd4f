// MiClient: one OpenSIPS' management interface (MI), called.
#ifndef EVENTVIRTUAL_SERVER_ENROLL_MI_CLIENT_H_
#define EVENTVIRTUAL_SERVER_ENROLL_MI_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace eventvirtual {

struct MiLimits {
  absl::Duration timeout = absl::Seconds(2);  // of a call
  size_t max_answer = 16 << 20;               // bytes
};

// Blocks; one thread at a time.
class MiClient {
 public:
  virtual ~MiClient() = default;

  // Calls `method` with `params`, a JSON array or object, and gives the JSON text of the result. UNAVAILABLE: no answer
  // came in time, or none that is one; RESOURCE_EXHAUSTED: the request, or the answer, is too long; the codes of
  // ReadMiAnswer(): MI refuses. No text holds the login of the address.
  virtual absl::StatusOr<std::string> Call(absl::string_view method, absl::string_view params) = 0;

  virtual const std::string& name() const = 0;  // the address; a login in it is masked
};

// `address`: "http://[user:password@]host[:port]/mi" (or https), "udp:host:port" with a numeric host, or "unix:/path".
// Connects to nobody yet. INVALID_ARGUMENT says what would be taken, and repeats nothing that may be a password.
absl::StatusOr<std::unique_ptr<MiClient>> MakeMiClient(const std::string& address, const MiLimits& limits = {});

// Ids for requests of one client, which those of another, or of an earlier process, hardly repeat.
class MiIds {
 public:
  MiIds();
  uint32_t Next() { return last_ = (last_ + 1) & 0x7fffffff; }  // OpenSIPS' integers have 32 bits

 private:
  uint32_t last_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENROLL_MI_CLIENT_H_
