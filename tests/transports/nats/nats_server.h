// NatsServer: a real nats-server of its own for one test binary, and NatsClient, which looks at what it has.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_NATS_NATS_SERVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_NATS_NATS_SERVER_H_

#include <nats/nats.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/io/server_process.h"

namespace eventvirtual {

inline std::string Checked(natsStatus status) {
  EXPECT_EQ(status, NATS_OK) << natsStatus_GetText(status) << ": " << nats_GetLastError(nullptr);
  return "";
}

// With JetStream, whose store is in a folder under /tmp that goes with this object. `configuration` is added to the
// server's; {folder} in it stands for that folder.
class NatsServer {
 public:
  explicit NatsServer(const std::string& configuration = "", bool certificates = false) {
    if (certificates) MakeCertificates(folder_);
    std::string more = configuration;
    for (size_t at; (at = more.find("{folder}")) != std::string::npos;) more.replace(at, 8, folder_ / ".");
    std::ofstream(folder_ / "nats.conf") << "listen: \"127.0.0.1:" << port_ << "\"\njetstream { store_dir: \""
                                         << folder_ / "store"
                                         << "\" }\n"
                                         << more << "\n";
    process_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{"/usr/sbin/nats-server", "-c", folder_ / "nats.conf"}, port_, folder_ / "output");
  }

  uint16_t port() const { return port_; }
  ServerProcess& process() { return *process_; }
  std::string File(const std::string& name) const { return folder_ / name; }
  std::string Log() const { return ReadFile(folder_ / "output"); }

 private:
  const TemporaryFolder folder_;
  const uint16_t port_ = FreePort();
  std::unique_ptr<ServerProcess> process_;
};

// A client of the server as others write it, blocking. `login` is "", "user:password@" or "token@".
class NatsClient {
 public:
  struct Event {
    std::string body;
    std::map<std::string, std::string> headers;
  };

  explicit NatsClient(const NatsServer& server, const std::string& login = "") {
    const std::string url = absl::StrCat("nats://", login, "127.0.0.1:", server.port());
    const absl::Time give_up = absl::Now() + kPatience;  // JetStream recovers after the port is open
    natsStatus status = NATS_OK;
    do {
      status = natsConnection_ConnectTo(&connection_, url.c_str());
    } while (status != NATS_OK && absl::Now() < give_up);
    Checked(status);
    Checked(natsConnection_JetStream(&jetstream_, connection_, nullptr));
  }
  ~NatsClient() {
    natsSubscription_Destroy(subscription_);
    jsCtx_Destroy(jetstream_);
    natsConnection_Destroy(connection_);
  }
  NatsClient(const NatsClient&) = delete;
  NatsClient& operator=(const NatsClient&) = delete;

  natsConnection* connection() { return connection_; }

  // From now on Next() gives what comes there.
  void Subscribe(const std::string& subject) {
    Checked(natsConnection_SubscribeSync(&subscription_, connection_, subject.c_str()));
    Checked(natsSubscription_SetPendingLimits(subscription_, -1, -1));
    Checked(natsConnection_Flush(connection_));
  }
  std::optional<Event> Next(absl::Duration patience = kPatience) {
    natsMsg* message = nullptr;
    const int64_t wait = std::max<int64_t>(absl::ToInt64Milliseconds(patience), 1);
    if (natsSubscription_NextMsg(&message, subscription_, wait) != NATS_OK) return std::nullopt;
    return Read(message);
  }

  // A stream called `name`, on files, that takes the subject `name` and all behind it.
  void AddStream(const std::string& name, int64_t max_messages = -1, int32_t max_size = -1) {
    const std::string wild = name + ".>";
    const char* subjects[] = {name.c_str(), wild.c_str()};
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Name = name.c_str();
    config.Subjects = subjects;
    config.SubjectsLen = 2;
    config.Storage = js_FileStorage;
    config.Discard = js_DiscardNew;
    config.MaxMsgs = max_messages;
    config.MaxMsgSize = max_size;
    jsErrCode code = {};
    Checked(js_AddStream(nullptr, jetstream_, &config, nullptr, &code));
  }
  void DeleteStream(const std::string& name) { Checked(js_DeleteStream(jetstream_, name.c_str(), nullptr, nullptr)); }
  // The message number `sequence` of the stream, from 1 on; nothing if there is none.
  std::optional<Event> Stored(const std::string& stream, uint64_t sequence) {
    natsMsg* message = nullptr;
    const natsStatus status = js_GetMsg(&message, jetstream_, stream.c_str(), sequence, nullptr, nullptr);
    if (status == NATS_NOT_FOUND) return std::nullopt;
    Checked(status);
    return status == NATS_OK ? std::make_optional(Read(message)) : std::nullopt;
  }
  // All of them.
  std::vector<Event> Stored(const std::string& stream) {
    std::vector<Event> all;
    while (std::optional<Event> event = Stored(stream, all.size() + 1)) all.push_back(*std::move(event));
    return all;
  }

 private:
  static Event Read(natsMsg* message) {
    Event event;
    event.body.assign(natsMsg_GetData(message), natsMsg_GetDataLength(message));
    const char** names = nullptr;
    int count = 0;
    if (natsMsgHeader_Keys(message, &names, &count) == NATS_OK) {
      for (int i = 0; i < count; ++i) {
        const char* value = "";
        Checked(natsMsgHeader_Get(message, names[i], &value));
        event.headers[names[i]] = value;
      }
      free(names);
    }
    natsMsg_Destroy(message);
    return event;
  }

  natsConnection* connection_ = nullptr;
  jsCtx* jetstream_ = nullptr;
  natsSubscription* subscription_ = nullptr;
};

// The workers of links and what libnats has started on them, which are called the same.
struct NatsThreads {
  int all = 0, asleep = 0;
  NatsThreads() {
    for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
      const std::string stat = ReadFile(thread.path() / "stat");  // "17 (nats) S …"
      all += absl::StrContains(stat, "(nats)") ? 1 : 0;
      asleep += absl::StrContains(stat, "(nats) S") ? 1 : 0;
    }
  }
};

// A link leaves the end of its connection to a worker: waits until the last one is done, and libnats with it.
inline void WaitForNatsThreads() {
  EXPECT_EQ(nats_CloseAndWait(absl::ToInt64Milliseconds(kPatience)), NATS_OK);
  const absl::Time give_up = absl::Now() + kPatience;
  while (NatsThreads().all > 0 && absl::Now() < give_up) {
  }
  EXPECT_EQ(NatsThreads().all, 0);
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_NATS_NATS_SERVER_H_
