// MqttBroker: a real mosquitto of its own for one test, and a client that reads topics as others do.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_MQTT_MQTT_BROKER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_MQTT_MQTT_BROKER_H_

#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <unistd.h>

#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/server_process.h"

namespace eventvirtual {

// Debian's mosquitto on a free loopback port. It keeps what it must on disk, writing after each change.
class MqttBroker {
 public:
  // `settings` stand in the configuration, where %D/ is the folder; the files passwords and acl are there, empty. With
  // `tls` it has the certificates of MakeCertificates().
  explicit MqttBroker(std::string settings = "allow_anonymous true\n", bool tls = false) {
    if (tls) {
      MakeCertificates(folder_);
      settings += absl::StrCat("cafile ", folder_ / "ca.pem", "\ncertfile ", folder_ / "server.pem", "\nkeyfile ",
                               folder_ / "server.key", "\n");
    }
    for (size_t at = settings.find("%D"); at != std::string::npos; at = settings.find("%D")) {
      settings.replace(at, 3, folder_ / "");
    }
    Write("passwords", "");
    Write("acl", "");
    std::ofstream(folder_ / "mosquitto.conf")
        << (geteuid() == 0 ? "user root\n" : "") << "listener " << port_ << " 127.0.0.1\n"
        << "persistence true\npersistence_location " << folder_ / ""
        << "\nautosave_on_changes true\nautosave_interval 1\n"
        << settings;
    process_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{"/usr/sbin/mosquitto", "-c", folder_ / "mosquitto.conf"}, port_, folder_ / "output");
  }

  std::string Uri(const std::string& rest) const { return absl::StrCat("mqtt://127.0.0.1:", port_, "/", rest); }
  uint16_t port() const { return port_; }
  ServerProcess& process() { return *process_; }
  const TemporaryFolder& folder() const { return folder_; }
  void Write(const std::string& file, const std::string& content) { std::ofstream(folder_ / file) << content; }

 private:
  const TemporaryFolder folder_;
  const uint16_t port_ = FreePort();
  std::unique_ptr<ServerProcess> process_;
};

// Subscribed to all topics by qos 2; the session stays when it goes, so that the broker keeps what it misses.
class MqttReader {
 public:
  struct Event {
    std::string topic, body, content_type;
    bool retained = false;
    std::map<std::string, std::string> properties;
  };

  explicit MqttReader(const MqttBroker& broker, const std::string& id = "reader") : port_(broker.port()) {
    mosquitto_lib_init();
    client_ = mosquitto_new(id.c_str(), /*clean_session=*/false, this);
    mosquitto_int_option(client_, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
    mosquitto_subscribe_callback_set(client_, [](mosquitto*, void* self, int, int, const int*) {
      static_cast<MqttReader*>(self)->subscribed_ = true;
    });
    mosquitto_message_v5_callback_set(
        client_, [](mosquitto*, void* self, const mosquitto_message* message, const mosquitto_property* properties) {
          static_cast<MqttReader*>(self)->OnMessage(*message, properties);
        });
    Connect();
  }
  ~MqttReader() { mosquitto_destroy(client_); }

  void Connect() {
    subscribed_ = false;
    mosquitto_property* session = nullptr;
    mosquitto_property_add_int32(&session, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 3600);
    EXPECT_EQ(mosquitto_connect_bind_v5(client_, "127.0.0.1", port_, 60, nullptr, session), MOSQ_ERR_SUCCESS);
    mosquitto_property_free_all(&session);
    EXPECT_EQ(mosquitto_subscribe(client_, nullptr, "#", 2), MOSQ_ERR_SUCCESS);
    const absl::Time give_up = absl::Now() + absl::Seconds(20);
    while (!subscribed_ && absl::Now() < give_up) mosquitto_loop(client_, 10, 1);
    EXPECT_TRUE(subscribed_);
  }

  std::optional<Event> Next(absl::Duration patience) {
    const absl::Time give_up = absl::Now() + patience;
    // One look even without patience: what the broker has sent lies in the socket.
    for (int looks = 0; events_.empty() && (looks < 3 || absl::Now() < give_up); ++looks) mosquitto_loop(client_, 5, 1);
    if (events_.empty()) return std::nullopt;
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  void OnMessage(const mosquitto_message& message, const mosquitto_property* properties) {
    Event event{.topic = message.topic,
                .body = std::string(static_cast<const char*>(message.payload), message.payloadlen),
                .content_type = "",
                .retained = message.retain};
    char *name = nullptr, *value = nullptr;
    if (mosquitto_property_read_string(properties, MQTT_PROP_CONTENT_TYPE, &value, false) != nullptr) {
      event.content_type = value;
      free(value);
    }
    const mosquitto_property* at = properties;
    for (bool first = true;
         (at = mosquitto_property_read_string_pair(at, MQTT_PROP_USER_PROPERTY, &name, &value, !first)) != nullptr;
         first = false) {
      event.properties[name] = value;
      free(name);
      free(value);
    }
    events_.push_back(std::move(event));
  }

  const uint16_t port_;
  mosquitto* client_;
  bool subscribed_ = false;
  std::deque<Event> events_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_MQTT_MQTT_BROKER_H_
