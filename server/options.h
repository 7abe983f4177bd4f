// Options: everything that can be set from outside, checked.
#ifndef EVENTVIRTUAL_SERVER_OPTIONS_H_
#define EVENTVIRTUAL_SERVER_OPTIONS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "server/log/log.h"

namespace eventvirtual {

// Units, defaults and bounds stand at the flags in options.cc; `eventvirtuald --help` prints them.
struct Options {
  std::vector<std::string> listen = {"127.0.0.1:7060"};
  std::optional<gid_t> socket_group;
  std::string tls_cert, tls_key, tls_client_ca;
  std::string access, tokens;
  int64_t max_connections = 10000;
  int64_t max_connections_per_peer = 5000;
  absl::Duration handshake_timeout = absl::Seconds(10);
  std::vector<std::string> ingest;
  bool ingest_off_host = false;
  int64_t ingest_reply_padding = 4096;
  std::string ingest_event_param;
  std::vector<std::string> mi;
  std::vector<std::string> http;
  std::string data_dir;                      // empty: nothing outlives the process
  std::string destinations;                  // empty: what is allowed by default
  std::string secrets;                       // directory; empty: there are none
  std::vector<std::string> allow_directory;  // absolute
  bool full_sync = true;
  int64_t journal_max_bytes = int64_t{4} << 30;
  std::vector<std::string> enroll;
  std::string enroll_ingest;
  bool enroll_import = false;
  bool enroll_notify = false;
  absl::Duration default_ttl = absl::Hours(1);
  absl::Duration failover_timeout = absl::Seconds(30);
  absl::Duration attempt_timeout = absl::ZeroDuration();
  int64_t queue_events = 10000;
  int64_t queue_bytes = 16 << 20;
  int64_t max_subscriptions = 1000000;
  int64_t max_subscribers = 64;
  int64_t max_subscriptions_per_principal = 1000000;
  int64_t max_uri = 8192;
  int64_t max_event_name = 256;
  int64_t max_params = 1024;
  int64_t max_param_bytes = 1 << 20;
  int64_t max_depth = 64;
  int64_t max_hops = 8;
  int64_t max_repeats = 0;
  int64_t max_streams = 100;
  int64_t rpc_memory = 256 << 20;
  int64_t rpc_max_bytes = 4 << 20;
  int64_t rpc_max_metadata = 8192;
  int64_t ingest_max_bytes = 1 << 20;
  int64_t mi_max_bytes = 64 << 10;
  int64_t raise_rate = 0;
  int64_t change_rate = 0;
  int64_t ingest_rate = 0;
  absl::Duration rate_burst = absl::Seconds(1);
  int64_t threads = 0;
  absl::Duration drain_timeout = absl::Seconds(10);
  bool strict_events = false;
  std::vector<std::string> events;
  std::vector<std::pair<std::string, std::string>> transport_defaults;  // scheme, query
  bool sandbox = true;
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
};

// Reads --config and the command line, which wins. Every fault is written to stderr, then the process exits with 1;
// --help and --version print and exit with 0.
Options ParseOptionsOrExit(int argc, char** argv);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_OPTIONS_H_
