#include "server/options.h"

#include <grp.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <type_traits>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/version.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:7060",
          "where gRPC is served: comma list of host:port with a loopback address, tls:host:port, and unix:/path");
ABSL_FLAG(std::string, socket_group, "",
          "group, by name or number, that may use the unix sockets of --listen, --ingest and --mi, as their owner may; "
          "empty: that of the process");
ABSL_FLAG(
    std::string, tls_cert, "",
    "for tls: addresses of --listen: file with our certificate and those that lead to its CA, in PEM; it, --tls_key "
    "and --tls_client_ca are read again when they change and on SIGHUP");
ABSL_FLAG(std::string, tls_key, "", "with --tls_cert: file with its key, in PEM, without a password");
ABSL_FLAG(
    std::string, tls_client_ca, "",
    "with --tls_cert: file with the certificates, in PEM, one of which must have signed the certificate of a client; "
    "with --tokens, clients without a certificate are let in, too");
ABSL_FLAG(
    std::string, access, "",
    "file that says who may do what, in lines WHO ROLE [EVENT…]; read again when it changes and on SIGHUP; empty: "
    "whoever is on this host or has a certificate of --tls_client_ca may do everything");
ABSL_FLAG(
    std::string, tokens, "",
    "with --access: file with the tokens of clients, in lines NAME SHA256; read again when it changes and on SIGHUP");
ABSL_FLAG(int64_t, max_connections, 10000, "connections to --listen at once; those beyond are closed; 1 to 1000000");
ABSL_FLAG(int64_t, max_connections_per_peer, 5000,
          "connections to --listen at once from one IPv4 address, IPv6 /64 or local user; 1 to 1000000");
ABSL_FLAG(absl::Duration, handshake_timeout, absl::Seconds(10),
          "how long a connection to --listen may take until it speaks HTTP/2; 100ms to 2m");
ABSL_FLAG(std::string, ingest, "",
          "where OpenSIPS' own events are taken: comma list of udp:host:port, unix:/path (datagram), tcp:host:port");
ABSL_FLAG(bool, ingest_off_host, false,
          "let --ingest have addresses that other hosts reach: in the clear, and nobody is asked who they are");
ABSL_FLAG(int64_t, ingest_reply_padding, 4096,
          "bytes to which answers on a busy tcp ingest connection are padded, as OpenSIPS' reader needs it; 0: never");
ABSL_FLAG(std::string, ingest_event_param, "",
          "name of the parameter that carries the event name, for peers whose \"method\" is a fixed word");
ABSL_FLAG(std::string, mi, "",
          "where OpenSIPS' management commands are served, on loopback only: comma list of http:host:port/path, "
          "udp:host:port, unix:/path (datagram)");
ABSL_FLAG(std::string, http, "",
          "where operators and their tools look, such as 127.0.0.1:7063 (the status page at /; /status.json, /metrics, "
          "/healthz, /readyz): comma list of host:port; whoever reaches it may read all of it");
ABSL_FLAG(std::string, data_dir, "",
          "folder in which subscriptions, and the events of durable ones, are kept, so that they outlive this process; "
          "empty: in memory alone");
ABSL_FLAG(
    std::string, destinations, "",
    "file that says which schemes, networks, ports and directories subscribers may have, read again when it changes "
    "and on SIGHUP; empty: every scheme, loopback and private networks, no directory but --data_dir");
ABSL_FLAG(std::string, secrets, "",
          "directory of files that subscribers name as ${secret:NAME} in place of a password or token, if a line of "
          "--destinations says where that may go; read at each connect; empty: systemd's $CREDENTIALS_DIRECTORY");
ABSL_FLAG(std::string, allow_directory, "",
          "comma list of directories beneath which flatstore may write and unix sockets may be, besides those of "
          "--destinations");
ABSL_FLAG(std::string, sync, "full",
          "with --data_dir: full, what was acknowledged survives the loss of power; normal, the death of the process");
ABSL_FLAG(
    int64_t, journal_max_bytes, int64_t{4} << 30,
    "with --data_dir: bytes that are kept, from where on events of durable subscriptions are refused; 2^20 to 2^50");
ABSL_FLAG(
    std::string, enroll, "",
    "subscribe this service at OpenSIPS, to the events that its own subscriptions want: comma list of where its MI "
    "is, http://[user:password@]host:port/mi, udp:host:port, unix:/path");
ABSL_FLAG(
    std::string, enroll_ingest, "",
    "with --enroll: where OpenSIPS is told to send events, tcp:host:port or unix:/path; empty: the first tcp, else "
    "unix address of --ingest");
ABSL_FLAG(bool, enroll_import, false,
          "with --enroll: take over the virtual: sockets that are subscribed at OpenSIPS, and end them there");
ABSL_FLAG(bool, enroll_notify, false, "with --enroll: raise E_EVI_SUBSCRIBER_DOWN and E_EVI_SUBSCRIBER_UP at OpenSIPS");
ABSL_FLAG(absl::Duration, default_ttl, absl::Hours(1),
          "expiry of a subscription where a caller may leave it out; 1s to 10 years");
ABSL_FLAG(absl::Duration, failover_timeout, absl::Seconds(30),
          "how long a failed subscriber is skipped, unless its subscription says otherwise; 0s to 24h");
ABSL_FLAG(absl::Duration, attempt_timeout, absl::ZeroDuration(),
          "time limit of one attempt, unless the subscriber says otherwise; 0s: each transport's own; up to 10m");
ABSL_FLAG(int64_t, queue_events, 10000, "events that may wait for one subscriber; 1 to 10000000");
ABSL_FLAG(int64_t, queue_bytes, 16 << 20, "bytes that may wait for one subscriber; 4096 to 2^40");
ABSL_FLAG(int64_t, max_subscriptions, 1000000, "subscriptions in all; 1 to 100000000");
ABSL_FLAG(int64_t, max_subscribers, 64, "subscribers in one subscription; 1 to 127");
ABSL_FLAG(int64_t, max_subscriptions_per_principal, 1000000,
          "subscriptions of one certificate, token, local user, or of all of loopback; 1 to 100000000");
ABSL_FLAG(int64_t, max_uri, 8192, "bytes of one subscriber's text; 16 to 65536");
ABSL_FLAG(int64_t, max_event_name, 256, "bytes of an event's name; 1 to 1024");
ABSL_FLAG(int64_t, max_params, 1024, "parameters of one event; 0 to 100000");
ABSL_FLAG(int64_t, max_param_bytes, 1 << 20, "bytes of a parameter's name, and of its value; 1 to 2^26");
ABSL_FLAG(int64_t, max_depth, 64, "arrays and objects in each other, in the JSON of one parameter; 1 to 1000");
ABSL_FLAG(int64_t, raise_rate, 0,
          "events a second that one certificate, token, local user, or all of loopback may raise over gRPC and --mi; "
          "0: any number, up to 1000000000");
ABSL_FLAG(int64_t, change_rate, 0, "likewise, calls a second that subscribe or unsubscribe");
ABSL_FLAG(int64_t, ingest_rate, 0,
          "events a second that --ingest takes, of all peers together; those beyond are refused, or without an id "
          "dropped, and counted; 0: any number, up to 1000000000");
ABSL_FLAG(absl::Duration, rate_burst, absl::Seconds(1),
          "what --raise_rate, --change_rate and --ingest_rate let through at once, as the time it is worth; 0s to 1h");
ABSL_FLAG(int64_t, max_hops, 8,
          "services like this one that deliver the same event one after the other before it is refused as a loop; 1 to "
          "100");
ABSL_FLAG(int64_t, max_repeats, 0,
          "times that an event may come within 10 s with the same name and parameters before it is refused as a loop, "
          "where nothing counts its hops; 0: any number; up to 1000000000");
ABSL_FLAG(int64_t, max_streams, 100, "calls that one gRPC connection may have open; 1 to 1000000");
ABSL_FLAG(
    int64_t, rpc_memory, 256 << 20,
    "bytes that gRPC may hold for all calls together; above, it refuses calls and ends connections; 2^24 to 2^40");
ABSL_FLAG(int64_t, rpc_max_bytes, 4 << 20, "bytes of one message of a client over gRPC; 1024 to 2^30");
ABSL_FLAG(int64_t, rpc_max_metadata, 8192, "bytes of the metadata of one call over gRPC; 1024 to 2^20");
ABSL_FLAG(int64_t, ingest_max_bytes, 1 << 20, "bytes of one event that comes to --ingest; 1024 to 2^26");
ABSL_FLAG(int64_t, mi_max_bytes, 64 << 10, "bytes of one request that comes to --mi; 1024 to 2^26");
ABSL_FLAG(int64_t, threads, 0, "event loops for delivery; 0: one for two processors, at most 4; up to 64");
ABSL_FLAG(absl::Duration, drain_timeout, absl::Seconds(10),
          "how long a stop waits for events that are on their way; 0s to 10m");
ABSL_FLAG(bool, strict_events, false,
          "raise only events that are known: those of --events, or if it is empty, those that were ever subscribed");
ABSL_FLAG(std::string, events, "",
          "comma list of event names that exist; with --strict_events no other may be subscribed");
ABSL_FLAG(std::string, transport_defaults, "",
          "options of subscribers that do not name them: comma list like tcp:reliable=1&timeout=500ms");
ABSL_FLAG(bool, sandbox, true,
          "as far as this kernel can: open files only where they belong, run no program, dump no memory; --nosandbox: "
          "may do all that its user may");
ABSL_FLAG(std::string, log_level, "info", "least level that is logged: debug, info, warning, error");
ABSL_FLAG(std::string, log_format, "text", "of the log on stderr: text (logfmt), or json (one object per line)");
ABSL_FLAG(std::string, config, "", "file with lines `name = value` of these same flags; the command line wins");

namespace eventvirtual {
namespace {

// Collects faults, so that all of them are told at once.
class Faults {
 public:
  void Add(const std::string& text) {
    std::fprintf(stderr, "eventvirtuald: %s\n", text.c_str());
    any_ = true;
  }
  bool any() const { return any_; }

 private:
  bool any_ = false;
};

std::vector<std::string> List(const std::string& text) { return absl::StrSplit(text, ',', absl::SkipWhitespace()); }

std::optional<gid_t> GroupOf(const std::string& text) {
  if (uint32_t number = 0; absl::SimpleAtoi(text, &number)) return number;
  const group* const found = getgrnam(text.c_str());
  return found == nullptr ? std::nullopt : std::optional<gid_t>(found->gr_gid);
}

void LoadConfig(const std::string& path, Faults* faults) {
  std::ifstream file(path);
  if (!file) return faults->Add(absl::StrCat("--config: cannot read \"", path, "\""));
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    absl::string_view text = absl::StripAsciiWhitespace(line);
    if (text.empty() || text[0] == '#') continue;
    const std::string place = absl::StrCat(path, ":", number, ": ");
    const size_t equals = text.find('=');
    if (equals == absl::string_view::npos) {
      faults->Add(absl::StrCat(place, "\"", text, "\" is not a line of the form name = value"));
      continue;
    }
    const std::string name(absl::StripAsciiWhitespace(text.substr(0, equals)));
    const absl::string_view value = absl::StripAsciiWhitespace(text.substr(equals + 1));
    absl::CommandLineFlag* const flag = name == "config" ? nullptr : absl::FindCommandLineFlag(name);
    std::string error;
    if (flag == nullptr) {
      faults->Add(absl::StrCat(place, "there is no flag \"", name, "\"; see eventvirtuald --help"));
    } else if (!flag->ParseFrom(value, &error)) {
      faults->Add(absl::StrCat(place, name, ": \"", value, "\" cannot be read", error.empty() ? "" : ": ", error));
    }
  }
}

std::string TextOf(int64_t value) { return absl::StrCat(value); }
std::string TextOf(absl::Duration value) { return absl::FormatDuration(value); }

// What the flag says; a fault unless that is from `min` to `max`.
template <typename T>
T Bounded(const absl::Flag<T>& flag, std::type_identity_t<T> min, std::type_identity_t<T> max, Faults* faults) {
  const T value = absl::GetFlag(flag);
  if (value < min || value > max) {
    faults->Add(absl::StrCat("--", absl::GetFlagReflectionHandle(flag).Name(), ": ", TextOf(value), " is not from ",
                             TextOf(min), " to ", TextOf(max)));
  }
  return value;
}

}  // namespace

Options ParseOptionsOrExit(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "Virtual event subscriptions over gRPC.\n\n  eventvirtuald [--listen=127.0.0.1:7060] "
      "[--ingest=tcp:127.0.0.1:9060] "
      "[--mi=http:127.0.0.1:7064/mi] [--http=127.0.0.1:7063] [--config=FILE] …\n\nFlags are written --name=value.");
  absl::FlagsUsageConfig usage;
  const auto ours = [](absl::string_view file) { return absl::EndsWith(file, "server/options.cc"); };
  usage.contains_help_flags = ours;
  usage.contains_helpshort_flags = ours;
  usage.version_string = [] { return absl::StrCat("eventvirtuald ", kVersion, "\n"); };
  absl::SetFlagsUsageConfig(usage);

  Faults faults;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (!absl::ConsumePrefix(&argument, "--config") && !absl::ConsumePrefix(&argument, "-config")) continue;
    if (absl::ConsumePrefix(&argument, "=")) {
      LoadConfig(std::string(argument), &faults);
    } else if (argument.empty() && i + 1 < argc) {
      LoadConfig(argv[i + 1], &faults);
    }
  }
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  for (size_t i = 1; i < rest.size(); ++i) {
    faults.Add(absl::StrCat("\"", rest[i], "\" is not a flag; flags are written --name=value"));
  }

  Options options;
  options.listen = List(absl::GetFlag(FLAGS_listen));
  if (options.listen.empty()) faults.Add("--listen: at least one address is needed");
  if (const std::string group = absl::GetFlag(FLAGS_socket_group); !group.empty()) {
    options.socket_group = GroupOf(group);
    if (!options.socket_group.has_value()) {
      faults.Add(absl::StrCat("--socket_group: there is no group \"", group, "\"; see /etc/group"));
    }
  }
  options.tls_cert = absl::GetFlag(FLAGS_tls_cert);
  options.tls_key = absl::GetFlag(FLAGS_tls_key);
  options.tls_client_ca = absl::GetFlag(FLAGS_tls_client_ca);
  options.access = absl::GetFlag(FLAGS_access);
  options.tokens = absl::GetFlag(FLAGS_tokens);
  if (options.tls_cert.empty() != options.tls_key.empty()) faults.Add("--tls_cert, --tls_key: each needs the other");
  if (options.tls_cert.empty() && !options.tls_client_ca.empty()) faults.Add("--tls_client_ca: it needs --tls_cert");
  if (options.access.empty() && !options.tokens.empty()) {
    faults.Add("--tokens: they need --access, which says what they are good for");
  }
  if (!options.tls_cert.empty() && options.tls_client_ca.empty() && options.tokens.empty()) {
    faults.Add(
        "--tls_cert: nobody could show who they are; give --tls_client_ca for certificates, or --access and --tokens");
  }
  options.max_connections = Bounded(FLAGS_max_connections, 1, 1000000, &faults);
  options.max_connections_per_peer = Bounded(FLAGS_max_connections_per_peer, 1, 1000000, &faults);
  options.handshake_timeout = Bounded(FLAGS_handshake_timeout, absl::Milliseconds(100), absl::Minutes(2), &faults);
  options.ingest = List(absl::GetFlag(FLAGS_ingest));
  options.ingest_off_host = absl::GetFlag(FLAGS_ingest_off_host);
  options.ingest_reply_padding = Bounded(FLAGS_ingest_reply_padding, 0, 65536, &faults);
  options.ingest_event_param = absl::GetFlag(FLAGS_ingest_event_param);
  options.mi = List(absl::GetFlag(FLAGS_mi));
  options.http = List(absl::GetFlag(FLAGS_http));
  options.data_dir = absl::GetFlag(FLAGS_data_dir);
  options.destinations = absl::GetFlag(FLAGS_destinations);
  options.secrets = absl::GetFlag(FLAGS_secrets);
  if (const char* credentials = std::getenv("CREDENTIALS_DIRECTORY");
      options.secrets.empty() && credentials != nullptr) {
    options.secrets = credentials;
  }
  options.allow_directory = List(absl::GetFlag(FLAGS_allow_directory));
  options.full_sync = absl::GetFlag(FLAGS_sync) == "full";
  if (!options.full_sync && absl::GetFlag(FLAGS_sync) != "normal") {
    faults.Add(absl::StrCat("--sync: \"", absl::GetFlag(FLAGS_sync), "\" is not full or normal"));
  }
  options.journal_max_bytes = Bounded(FLAGS_journal_max_bytes, 1 << 20, int64_t{1} << 50, &faults);
  options.enroll = List(absl::GetFlag(FLAGS_enroll));
  options.enroll_ingest = absl::GetFlag(FLAGS_enroll_ingest);
  options.enroll_import = absl::GetFlag(FLAGS_enroll_import);
  options.enroll_notify = absl::GetFlag(FLAGS_enroll_notify);
  if (options.enroll.empty() && (!options.enroll_ingest.empty() || options.enroll_import || options.enroll_notify)) {
    faults.Add(
        "--enroll_ingest, --enroll_import, --enroll_notify: without --enroll there is no OpenSIPS they are about");
  }
  options.default_ttl = Bounded(FLAGS_default_ttl, absl::Seconds(1), absl::Hours(87600), &faults);
  options.failover_timeout = Bounded(FLAGS_failover_timeout, absl::ZeroDuration(), absl::Hours(24), &faults);
  options.attempt_timeout = Bounded(FLAGS_attempt_timeout, absl::ZeroDuration(), absl::Minutes(10), &faults);
  options.queue_events = Bounded(FLAGS_queue_events, 1, 10000000, &faults);
  options.queue_bytes = Bounded(FLAGS_queue_bytes, 4096, int64_t{1} << 40, &faults);
  options.max_subscriptions = Bounded(FLAGS_max_subscriptions, 1, 100000000, &faults);
  options.max_subscribers = Bounded(FLAGS_max_subscribers, 1, 127, &faults);
  options.max_subscriptions_per_principal = Bounded(FLAGS_max_subscriptions_per_principal, 1, 100000000, &faults);
  options.max_uri = Bounded(FLAGS_max_uri, 16, 65536, &faults);
  options.max_event_name = Bounded(FLAGS_max_event_name, 1, 1024, &faults);
  options.max_params = Bounded(FLAGS_max_params, 0, 100000, &faults);
  options.max_param_bytes = Bounded(FLAGS_max_param_bytes, 1, 1 << 26, &faults);
  options.max_depth = Bounded(FLAGS_max_depth, 1, 1000, &faults);
  options.raise_rate = Bounded(FLAGS_raise_rate, 0, 1000000000, &faults);
  options.change_rate = Bounded(FLAGS_change_rate, 0, 1000000000, &faults);
  options.ingest_rate = Bounded(FLAGS_ingest_rate, 0, 1000000000, &faults);
  options.rate_burst = Bounded(FLAGS_rate_burst, absl::ZeroDuration(), absl::Hours(1), &faults);
  options.max_hops = Bounded(FLAGS_max_hops, 1, 100, &faults);
  options.max_repeats = Bounded(FLAGS_max_repeats, 0, 1000000000, &faults);
  options.max_streams = Bounded(FLAGS_max_streams, 1, 1000000, &faults);
  options.rpc_memory = Bounded(FLAGS_rpc_memory, 1 << 24, int64_t{1} << 40, &faults);
  options.rpc_max_bytes = Bounded(FLAGS_rpc_max_bytes, 1024, 1 << 30, &faults);
  options.rpc_max_metadata = Bounded(FLAGS_rpc_max_metadata, 1024, 1 << 20, &faults);
  options.ingest_max_bytes = Bounded(FLAGS_ingest_max_bytes, 1024, 1 << 26, &faults);
  options.mi_max_bytes = Bounded(FLAGS_mi_max_bytes, 1024, 1 << 26, &faults);
  options.threads = Bounded(FLAGS_threads, 0, 64, &faults);
  options.drain_timeout = Bounded(FLAGS_drain_timeout, absl::ZeroDuration(), absl::Minutes(10), &faults);
  options.sandbox = absl::GetFlag(FLAGS_sandbox);
  options.strict_events = absl::GetFlag(FLAGS_strict_events);
  options.events = List(absl::GetFlag(FLAGS_events));
  for (const std::string& entry : List(absl::GetFlag(FLAGS_transport_defaults))) {
    options.transport_defaults.push_back(absl::StrSplit(entry, absl::MaxSplits(':', 1)));
  }
  if (!ParseLogLevel(absl::GetFlag(FLAGS_log_level), &options.log_level)) {
    faults.Add(
        absl::StrCat("--log_level: \"", absl::GetFlag(FLAGS_log_level), "\" is not debug, info, warning or error"));
  }
  if (!ParseLogFormat(absl::GetFlag(FLAGS_log_format), &options.log_format)) {
    faults.Add(absl::StrCat("--log_format: \"", absl::GetFlag(FLAGS_log_format), "\" is not text or json"));
  }
  if (faults.any()) std::exit(1);
  return options;
}

}  // namespace eventvirtual
