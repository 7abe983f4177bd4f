#include "transports/mqtt/mqtt_transport.h"

#include <errno.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/api/context_headers.h"
#include "transports/io/mailbox.h"
#include "transports/io/name_lookup.h"
#include "transports/io/printable.h"
#include "transports/io/stream_socket.h"
#include "transports/io/worker.h"
#include "transports/mqtt/mqtt_address.h"
#include "transports/mqtt/mqtt_tls.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"mqtt", "mqtts"};
constexpr int kWindow = 256;           // or the broker's receive maximum, if that is less
constexpr int kKeepaliveSeconds = 10;  // a broker that has fallen silent is noticed after one and a half
constexpr absl::Duration kHousekeeping = absl::Seconds(1);
constexpr uint8_t kNoMatchingSubscribers = 0x10;

using Properties = mosquitto_property;

// Unique for each link, also of several processes: a broker ends the session of a client whose id comes again.
std::string NewClientId(absl::string_view prefix) {
  static std::random_device device;
  return absl::StrCat(prefix, "-", absl::Hex(uint64_t{device()} << 32 | device(), absl::kZeroPad16));
}

// Reason codes of MQTT 5 (section 2.4), from 0x80 on failures.
absl::StatusCode CodeOf(int reason) {
  switch (reason) {
    case MQTT_RC_BAD_USERNAME_OR_PASSWORD:
    case MQTT_RC_BAD_AUTHENTICATION_METHOD:
      return absl::StatusCode::kUnauthenticated;
    case MQTT_RC_NOT_AUTHORIZED:
    case MQTT_RC_BANNED:
      return absl::StatusCode::kPermissionDenied;
    case MQTT_RC_PACKET_TOO_LARGE:
    case MQTT_RC_PAYLOAD_FORMAT_INVALID:
    case MQTT_RC_TOPIC_NAME_INVALID:
      return absl::StatusCode::kInvalidArgument;
    case MQTT_RC_QUOTA_EXCEEDED:
      return absl::StatusCode::kResourceExhausted;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

// libmosquitto without its thread: the loop tells it when its socket is ready. It would send again on a new connection
// what was not acknowledged; here each connection is a client of its own, and nothing is.
class MqttLink final : public Link {
 public:
  MqttLink(MqttAddress address, Loop& loop, Host& host)
      : address_(std::move(address)), name_(address_.ToString(/*masked=*/true)), loop_(loop), host_(host) {
    static const int initialised = mosquitto_lib_init();
    EV_CHECK(initialised == MOSQ_ERR_SUCCESS);
    if (!address_.tls) {
      LookUp();
      return;
    }
    reader_ = std::make_unique<Worker>("mqtt-tls");
    reader_->Run([this, box = box_, address = address_] {
      absl::StatusOr<SslContext> made = MakeSslContext(address);
      box->Post([this, made = std::move(made)]() mutable {
        if (!made.ok()) return Close(made.status());
        tls_ = *std::move(made);
        LookUp();
      });
    });
  }

  ~MqttLink() override {
    box_->Leave();
    watch_.reset();
    if (client_ != nullptr) {
      if (ready_ && closed_.ok()) mosquitto_disconnect(client_);  // in order, if the socket takes it
      mosquitto_destroy(client_);
    }
  }

  void Send(absl::Span<Parcel> parcels) override {
    for (Parcel& parcel : parcels) {
      if (closed_.ok()) {
        Publish(std::move(parcel));
      } else {
        std::move(parcel.done).Finish(Fresh(closed_));
      }
    }
    if (closed_.ok()) SetInterest();
  }

 private:
  void LookUp() {
    lookup_ =
        std::make_unique<NameLookup>(loop_, address_.host, [this](absl::StatusOr<std::vector<SocketAddress>> found) {
          if (!found.ok()) return Close(found.status());
          addresses_ = *std::move(found);
          TryNext();
        });
  }

  // libmosquitto takes no socket of ours: it opens its own, to a number, after the address was seen where all are.
  void TryNext() {
    if (next_ == addresses_.size()) return Close(last_error_);
    const SocketAddress& to = addresses_[next_++];
    const std::string text = to.ToString();
    const absl::StatusOr<int> seen = OpenStreamSocket(reinterpret_cast<const sockaddr&>(to.storage));
    if (!seen.ok()) {
      last_error_ = absl::Status(seen.status().code(), absl::StrCat(text, ": ", seen.status().message()));
      return TryNext();
    }
    close(*seen);
    const size_t colon = text.rfind(':');
    std::string number = text.substr(0, colon);
    if (number.front() == '[') number = number.substr(1, number.size() - 2);
    NewClient();
    const int error =
        mosquitto_connect_bind_async(client_, number.c_str(), address_.host.port, kKeepaliveSeconds, nullptr);
    if (error != MOSQ_ERR_SUCCESS) {
      last_error_ = ErrorOf(error, text);
      return TryNext();
    }
    const absl::Status prepared =
        PrepareStreamSocket(mosquitto_socket(client_), reinterpret_cast<const sockaddr&>(to.storage));
    if (!prepared.ok()) return Close(prepared);  // the policy has changed meanwhile
    tried_ = text;
    watch_ = loop_.NewWatch(mosquitto_socket(client_), [this](Loop::Readiness ready) { OnSocket(ready); });
    timer_ = loop_.NewTimer([this] {
      timer_->Arm(loop_.Now() + kHousekeeping);
      if (Lives(mosquitto_loop_misc(client_))) SetInterest();
    });
    timer_->Arm(loop_.Now() + kHousekeeping);
    SetInterest();
  }

  void NewClient() {
    watch_.reset();
    if (client_ != nullptr) mosquitto_destroy(client_);
    client_ = mosquitto_new(NewClientId(address_.client_id).c_str(), /*clean_session=*/true, this);
    EV_CHECK(client_ != nullptr);
    mosquitto_int_option(client_, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
    mosquitto_int_option(client_, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_int_option(client_, MOSQ_OPT_SEND_MAXIMUM, kWindow);
    if (!address_.user.empty()) {
      mosquitto_username_pw_set(client_, address_.user.c_str(),
                                address_.password.empty() ? nullptr : address_.password.Reveal().c_str());
    }
    if (tls_ != nullptr) {
      mosquitto_int_option(client_, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0);
      mosquitto_void_option(client_, MOSQ_OPT_SSL_CTX, tls_.get());
    }
    mosquitto_connect_v5_callback_set(client_,
                                      [](mosquitto*, void* link, int reason, int, const Properties* properties) {
                                        static_cast<MqttLink*>(link)->OnConnect(reason, properties);
                                      });
    mosquitto_disconnect_v5_callback_set(client_, [](mosquitto*, void* link, int reason, const Properties*) {
      static_cast<MqttLink*>(link)->disconnect_reason_ = reason;
    });
    mosquitto_publish_v5_callback_set(client_, [](mosquitto*, void* link, int id, int reason, const Properties*) {
      static_cast<MqttLink*>(link)->OnPublished(id, reason);
    });
    mosquitto_log_callback_set(client_, [](mosquitto*, void* link, int level, const char* text) {
      if (level == MOSQ_LOG_ERR) static_cast<MqttLink*>(link)->last_log_ = Printable(text);
    });
  }

  void OnSocket(Loop::Readiness ready) {
    if (ready.readable && !Lives(mosquitto_loop_read(client_, 1))) return;
    if (ready.writable && closed_.ok() && !Lives(mosquitto_loop_write(client_, 1))) return;
    if (closed_.ok()) SetInterest();
  }

  void SetInterest() {
    if (watch_ != nullptr) watch_->Want({.readable = true, .writable = mosquitto_want_write(client_)});
  }

  // Whether the connection goes on; otherwise the link closes, or tries the next address.
  bool Lives(int error) {
    if (!closed_.ok()) return false;
    if (error == MOSQ_ERR_SUCCESS || error == MOSQ_ERR_CONN_PENDING) return true;
    const absl::Status why = ErrorOf(error, tried_);
    if (!connected_ && absl::IsUnavailable(why) && next_ < addresses_.size()) {
      box_->Post([this] {  // not inside a callback of the client that goes
        if (closed_.ok()) TryNext();
      });
    } else {
      Close(why);
    }
    return false;
  }

  absl::Status ErrorOf(int error, absl::string_view where) const {
    if (error == MOSQ_ERR_TLS || (address_.tls && !connected_ && absl::StrContains(last_log_, "certificate"))) {
      return absl::UnauthenticatedError(absl::StrCat(where, ": TLS: ", last_log_));
    }
    std::string text = error == MOSQ_ERR_ERRNO ? Printable(strerror(errno)) : mosquitto_strerror(error);
    if (disconnect_reason_ >= 0x80) {
      text = mosquitto_reason_string(disconnect_reason_);
      return absl::Status(CodeOf(disconnect_reason_), absl::StrCat(where, ": the broker ended it: ", text));
    }
    return absl::UnavailableError(absl::StrCat(where, ": ", text));
  }

  void OnConnect(int reason, const Properties* properties) {
    connected_ = true;
    if (reason == MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION || reason == CONNACK_REFUSED_PROTOCOL_VERSION) {
      return Close(absl::UnavailableError("the broker does not speak MQTT 5"));
    }
    if (reason != MQTT_RC_SUCCESS) {
      return Close(absl::Status(CodeOf(reason), absl::StrCat("refused: ", mosquitto_reason_string(reason))));
    }
    uint16_t receive_maximum = 65535;
    mosquitto_property_read_int16(properties, MQTT_PROP_RECEIVE_MAXIMUM, &receive_maximum, false);
    uint8_t most_qos = 2;
    mosquitto_property_read_byte(properties, MQTT_PROP_MAXIMUM_QOS, &most_qos, false);
    if (address_.qos > most_qos) {
      return Close(absl::FailedPreconditionError(absl::StrCat("the broker takes qos up to ", most_qos)));
    }
    ready_ = true;
    box_->Post([this, window = std::min<int>(kWindow, receive_maximum)] {
      if (closed_.ok()) host_.OnReady(window);
    });
  }

  void Publish(Parcel parcel) {
    const Message& message = *parcel.message;
    Properties* properties = nullptr;
    const auto add = [&properties](absl::string_view name, absl::string_view value) {
      mosquitto_property_add_string_pair(&properties, MQTT_PROP_USER_PROPERTY, std::string(name).c_str(),
                                         std::string(value).c_str());
    };
    add("event-id", message.event_id());
    mosquitto_property_add_string(&properties, MQTT_PROP_CONTENT_TYPE,
                                  std::string(ContentType(address_.encoding)).c_str());
    // MQTT Protocol Binding for CloudEvents, section 3.1.3: by their own names, as user properties.
    if (address_.encoding == Encoding::kCloudEventsBinary) {
      ForEachCloudEventAttribute(message, add);  // the trace context is among them
    } else {
      ForEachContextHeader(message, add);
    }
    const absl::string_view body = message.encoded(address_.encoding);
    int id = 0;
    publishing_ = true;
    const int error = mosquitto_publish_v5(client_, &id, address_.topic.c_str(), static_cast<int>(body.size()),
                                           body.data(), address_.qos, address_.retain, properties);
    publishing_ = false;
    mosquitto_property_free_all(&properties);
    if (error == MOSQ_ERR_OVERSIZE_PACKET || error == MOSQ_ERR_PAYLOAD_SIZE || error == MOSQ_ERR_MALFORMED_UTF8) {
      std::move(parcel.done)
          .Finish(absl::InvalidArgumentError(
              absl::StrCat(name_, ": ", body.size(), " bytes: ", mosquitto_strerror(error))));
      return;
    }
    if (error != MOSQ_ERR_SUCCESS) {
      const absl::Status why = ErrorOf(error, tried_);
      std::move(parcel.done).Finish(absl::Status(why.code(), absl::StrCat(name_, ": ", why.message())));
      return Close(why);
    }
    unacknowledged_.emplace(id, std::move(parcel.done));
    if (written_inside_ == id) OnPublished(std::exchange(written_inside_, 0), MQTT_RC_SUCCESS);
  }

  void OnPublished(int id, int reason) {
    // With qos=0 the last byte may have gone before libmosquitto has told us the id.
    if (publishing_) {
      written_inside_ = id;
      return;
    }
    const auto found = unacknowledged_.find(id);
    if (found == unacknowledged_.end()) return;
    Completion done = std::move(found->second);
    unacknowledged_.erase(found);
    if (reason >= 0x80) {
      return std::move(done).Finish(
          absl::Status(CodeOf(reason), absl::StrCat(name_, ": ", mosquitto_reason_string(reason))));
    }
    if (reason == kNoMatchingSubscribers && address_.require_subscribers) {
      return std::move(done).Finish(absl::NotFoundError(absl::StrCat(name_, ": nobody is subscribed to the topic")));
    }
    std::move(done).Finish(absl::OkStatus());
  }

  void Close(const absl::Status& why) {
    if (!closed_.ok()) return;
    closed_ = absl::Status(why.code(), absl::StrCat(name_, ": ", why.message()));
    watch_.reset();
    if (timer_ != nullptr) timer_->Cancel();
    absl::flat_hash_map<int, Completion> unacknowledged;
    unacknowledged.swap(unacknowledged_);
    for (auto& [id, done] : unacknowledged) {
      std::move(done).Finish(
          absl::Status(closed_.code(), absl::StrCat(closed_.message(), "; the event may have arrived")));
    }
    box_->Post([this] { host_.OnClosed(closed_); });
  }

  const MqttAddress address_;
  const std::string name_;  // masked
  Loop& loop_;
  Host& host_;
  const std::shared_ptr<Mailbox> box_ = std::make_shared<Mailbox>(loop_);
  std::unique_ptr<Worker> reader_;
  SslContext tls_;
  std::unique_ptr<NameLookup> lookup_;
  std::vector<SocketAddress> addresses_;
  size_t next_ = 0;
  std::string tried_;
  absl::Status last_error_;
  std::string last_log_;
  int disconnect_reason_ = 0;

  mosquitto* client_ = nullptr;
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> timer_;
  bool connected_ = false;  // the broker has answered
  bool ready_ = false;
  absl::Status closed_;
  bool publishing_ = false;                              // inside mosquitto_publish_v5()
  int written_inside_ = 0;                               // the id of what was written inside it
  absl::flat_hash_map<int, Completion> unacknowledged_;  // by packet id; bounded by the window
};

class MqttTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "mqtt://[user:password@]host[:port]/topic[?qos=1&retain=1&require_subscribers=1&client_id=PREFIX&timeout=2s&"
           "encoding=jsonrpc], mqtts://… with &ca=/path&cert=/path&key=/path&server_name=NAME&verify=0";
  }
  absl::string_view description() const override {
    return "Publishes to a topic of an MQTT 5 broker. Success: the broker has acknowledged it; with qos=0, it is "
           "written.";
  }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<MqttAddress> address = ParseMqttAddress(uri);
    if (!address.ok()) return address.status();
    return TargetOf(*address, address->qos == 0 ? AckLevel::kWritten : AckLevel::kConfirmed, {address->host});
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<MqttLink>(AddressOf(target, &ParseMqttAddress), loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeMqttTransport() { return std::make_unique<MqttTransport>(); }

}  // namespace eventvirtual
