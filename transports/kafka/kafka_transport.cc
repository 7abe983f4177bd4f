#include "transports/kafka/kafka_transport.h"

#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/api/mutex.h"
#include "transports/io/mailbox.h"
#include "transports/io/printable.h"
#include "transports/io/stream_socket.h"
#include "transports/io/worker.h"
#include "transports/kafka/kafka_address.h"
#include "transports/kafka/kafka_record.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"kafka"};
constexpr absl::string_view kMayHaveArrived = "; the event may have arrived";
constexpr int kTopicPatienceMs = 2000;                                 // to be told of the topic
constexpr absl::Duration kCreationPatience = absl::Milliseconds(500);  // for a topic that the first question creates
constexpr absl::Duration kCreationPause = absl::Milliseconds(20);
constexpr absl::Duration kOtherAddresses = absl::Milliseconds(300);  // may still answer when all so far do not

absl::StatusCode CodeOf(rd_kafka_resp_err_t error) {
  switch (error) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
      return absl::StatusCode::kInvalidArgument;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:  // a name that the broker does not allow
      return absl::StatusCode::kNotFound;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
      return absl::StatusCode::kPermissionDenied;
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
      return absl::StatusCode::kUnauthenticated;
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
      return absl::StatusCode::kDeadlineExceeded;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

// A librdkafka producer of one topic. It may block when it is opened and closed, which a worker does; in between it
// belongs to the loop.
class KafkaLink;

struct Producer {
  KafkaLink* link = nullptr;  // for rd_kafka_poll(), which only the link calls
  rd_kafka_t* client = nullptr;
  rd_kafka_topic_t* topic = nullptr;
  // Readable when rd_kafka_poll() has something to say. librdkafka writes to it as long as the client lives.
  const int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  Mutex mutex;
  std::string refused ABSL_GUARDED_BY(mutex);

  ~Producer() {
    if (client != nullptr) {
      rd_kafka_topic_destroy(topic);
      rd_kafka_destroy(client);  // waits for its threads, and one of them perhaps for a name server
    }
    close(wake_fd);
  }

  // Reads certificates, starts threads.
  absl::Status Open(KafkaConf conf, const std::string& topic_name) {
    if (wake_fd < 0) return absl::ResourceExhaustedError("no file descriptor is left in this process");
    char error[512] = "";
    client = rd_kafka_new(RD_KAFKA_PRODUCER, conf.get(), error, sizeof(error));
    if (client == nullptr) return absl::FailedPreconditionError(Printable(error));
    conf.release();  // the client has it now
    topic = rd_kafka_topic_new(client, topic_name.c_str(), nullptr);
    EV_CHECK(topic != nullptr);
    rd_kafka_queue_t* const reports = rd_kafka_queue_get_main(client);
    const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(reports, wake_fd, &one, sizeof(one));
    rd_kafka_queue_destroy(reports);  // a reference
    return absl::OkStatus();
  }

  // What is unsent never arrives late. Does not block.
  void Purge() const {
    rd_kafka_purge(client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
  }

  // Makes every connection, also to the brokers that others name. On threads of librdkafka. 0, or an errno.
  static int Connect(int fd, const sockaddr* address, int length, const char* /*broker*/, void* producer) {
    const absl::Status prepared = PrepareStreamSocket(fd, *address);
    if (prepared.ok()) return connect(fd, address, length) == 0 || errno == EINPROGRESS ? 0 : errno;
    Producer& self = *static_cast<Producer*>(producer);
    MutexLock lock(&self.mutex);
    self.refused = std::string(prepared.message());
    return EACCES;
  }

  // Why the policy of destinations was against a broker's address; "" when it was against none.
  std::string Refused() {
    MutexLock lock(&mutex);
    return refused;
  }

  // Asks a broker who leads the topic, once one answers.
  rd_kafka_resp_err_t AskForTopic() const {
    const struct rd_kafka_metadata* metadata = nullptr;
    rd_kafka_resp_err_t error = rd_kafka_metadata(client, 0, topic, &metadata, kTopicPatienceMs);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) return error;
    error = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC;
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR && !HasLeader(metadata->topics[0])) {
      error = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    }
    rd_kafka_metadata_destroy(metadata);
    return error;
  }

  static bool HasLeader(const rd_kafka_metadata_topic& topic) {
    for (int i = 0; i < topic.partition_cnt; ++i) {
      if (topic.partitions[i].leader >= 0) return true;
    }
    return false;
  }
};

// librdkafka connects and sends on threads of its own; all that it reports waits in one queue, which this link reads on
// its loop. So everything here is on the loop but the tasks of the worker.
class KafkaLink final : public Link {
 public:
  KafkaLink(KafkaAddress address, Loop& loop, Host& host)
      : address_(std::move(address)),
        name_(address_.ToString(/*masked=*/true)),
        loop_(loop),
        host_(host),
        worker_(std::make_unique<Worker>("kafka")),
        box_(std::make_shared<Mailbox>(loop)),
        producer_(std::make_shared<Producer>()) {
    absl::StatusOr<KafkaConf> made = MakeKafkaConf(address_);
    EV_CHECK(made.ok());  // Canonicalize() has looked at it
    rd_kafka_conf_t* const conf = made->get();
    producer_->link = this;
    rd_kafka_conf_set_opaque(conf, producer_.get());
    rd_kafka_conf_set_dr_msg_cb(conf, [](rd_kafka_t*, const rd_kafka_message_t* report, void* producer) {
      static_cast<Producer*>(producer)->link->OnReport(*report);
    });
    rd_kafka_conf_set_error_cb(conf, [](rd_kafka_t*, int error, const char* reason, void* producer) {
      static_cast<Producer*>(producer)->link->OnError(static_cast<rd_kafka_resp_err_t>(error), reason);
    });
    rd_kafka_conf_set_connect_cb(conf, Producer::Connect);
    worker_->Run([this, box = box_, producer = producer_, conf = *std::move(made), topic = address_.topic]() mutable {
      absl::Status opened = producer->Open(std::move(conf), topic);
      box->Post([this, opened = std::move(opened)]() mutable { OnOpened(std::move(opened)); });
    });
  }

  ~KafkaLink() override {
    box_->Leave();
    watch_.reset();
    if (ready_) producer_->Purge();  // here and now: the worker may come to it after a broker that has come back
    // The worker's last task owns the worker, and the last reference to the producer, which ends with it.
    Worker& worker = *worker_;
    worker.Run([worker = std::move(worker_), producer = std::move(producer_)]() mutable { producer.reset(); });
  }

  void Send(absl::Span<Parcel> parcels) override {
    for (Parcel& parcel : parcels) {
      if (!closed_.ok()) {
        std::move(parcel.done).Finish(Fresh(closed_));
        continue;
      }
      const Message& message = *parcel.message;
      const absl::string_view body = message.encoded(address_.encoding);
      rd_kafka_headers_t* const headers = KafkaHeadersOf(message, address_.encoding);
      const std::optional<std::string> key = KafkaKeyOf(message, address_.key);
      const rd_kafka_resp_err_t error = rd_kafka_producev(
          producer_->client, RD_KAFKA_V_RKT(producer_->topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
          RD_KAFKA_V_VALUE(const_cast<char*>(body.data()), body.size()),
          RD_KAFKA_V_KEY(key.has_value() ? key->data() : nullptr, key.has_value() ? key->size() : 0),
          RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(reinterpret_cast<void*>(++last_token_)), RD_KAFKA_V_END);
      if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        unreported_.emplace_hint(unreported_.end(), last_token_, std::move(parcel.done));
      } else {
        rd_kafka_headers_destroy(headers);
        std::move(parcel.done)
            .Finish(StatusOf(error, error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ? "larger than g.message.max.bytes"
                                                                                  : rd_kafka_err2str(error)));
      }
    }
  }

 private:
  absl::Status StatusOf(rd_kafka_resp_err_t error, absl::string_view what) const {
    const absl::StatusCode code = CodeOf(error);
    if (code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kDeadlineExceeded) {
      const std::string refused = producer_->Refused();
      if (!refused.empty()) return absl::PermissionDeniedError(absl::StrCat(name_, ": a broker's address: ", refused));
    }
    return absl::Status(code, absl::StrCat(name_, ": ", Printable(what)));
  }

  void OnOpened(absl::Status opened) {
    if (!opened.ok()) return Close(absl::Status(opened.code(), absl::StrCat(name_, ": ", opened.message())));
    watch_ = loop_.NewWatch(producer_->wake_fd, [this](Loop::Readiness) {
      uint64_t count = 0;
      (void)!read(producer_->wake_fd, &count, sizeof(count));
      Poll();
    });
    watch_->Want({.readable = true});
    asked_ = loop_.Now();
    AskForTopic();
  }

  void AskForTopic() {
    worker_->Run([this, box = box_, producer = producer_] {
      const rd_kafka_resp_err_t error = producer->AskForTopic();
      box->Post([this, error] { OnTopic(error); });
    });
  }

  void OnTopic(rd_kafka_resp_err_t error) {
    Poll();  // why there was no answer, perhaps
    if (!closed_.ok()) return;
    grace_.reset();
    // A broker that creates topics by itself says one of these while it does.
    const bool may_come =
        error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || error == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    if (may_come && loop_.Now() < asked_ + kCreationPatience) {
      ask_again_ = loop_.NewTimer([this] { AskForTopic(); });
      return ask_again_->Arm(loop_.Now() + kCreationPause);
    }
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return Close(StatusOf(error, absl::StrCat(rd_kafka_err2str(error), Hint())));
    }
    ready_ = true;
    host_.OnReady(kKafkaWindow);
  }

  void Poll() { rd_kafka_poll(producer_->client, 0); }  // calls OnReport() and OnError()

  void OnReport(const rd_kafka_message_t& report) {
    const auto found = unreported_.find(reinterpret_cast<uint64_t>(report._private));
    if (found == unreported_.end()) return;
    absl::Status outcome;
    if (report.err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
      outcome = StatusOf(report.err,
                         "too large for the topic, alone or with others of its batch; set g.message.max.bytes "
                         "to what the topic's max.message.bytes is");
    } else if (report.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      const bool may_have_arrived = rd_kafka_message_status(&report) == RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED;
      outcome = StatusOf(report.err,
                         absl::StrCat(rd_kafka_err2str(report.err), may_have_arrived ? kMayHaveArrived : "", Hint()));
    }
    std::move(found->second).Finish(std::move(outcome));
    unreported_.erase(found);
  }

  void OnError(rd_kafka_resp_err_t error, absl::string_view reason) {
    if (!closed_.ok()) return;
    if (error == RD_KAFKA_RESP_ERR__FATAL) {
      char text[512] = "";
      const rd_kafka_resp_err_t cause = rd_kafka_fatal_error(producer_->client, text, sizeof(text));
      return Close(StatusOf(cause, text));
    }
    if (CodeOf(error) == absl::StatusCode::kUnauthenticated) return Close(StatusOf(error, reason));
    // One that the policy refuses is needed, or librdkafka would not connect to it: its events would all time out.
    if (error != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && producer_->Refused().empty()) {
      last_error_ = Printable(reason);
      return;
    }
    // librdkafka would go on trying for ever; here the endpoint does.
    absl::Status down = StatusOf(error, absl::StrCat(reason, Hint()));
    if (ready_) return Close(std::move(down));
    if (grace_ != nullptr) return;
    grace_ = loop_.NewTimer([this, down = std::move(down)] { Close(down); });
    grace_->Arm(loop_.Now() + kOtherAddresses);
  }

  // What went wrong with a connection last, which is often why.
  std::string Hint() const { return last_error_.empty() ? "" : absl::StrCat(" (", last_error_, ")"); }

  void Close(absl::Status why) {
    closed_ = why;
    watch_.reset();
    if (grace_ != nullptr) grace_->Cancel();
    if (ask_again_ != nullptr) ask_again_->Cancel();
    for (auto& [token, done] : unreported_) {
      std::move(done).Finish(absl::Status(why.code(), absl::StrCat(why.message(), kMayHaveArrived)));
    }
    unreported_.clear();
    box_->Post([this, why] { host_.OnClosed(why); });
  }

  const KafkaAddress address_;
  const std::string name_;  // masked
  Loop& loop_;
  Host& host_;
  std::unique_ptr<Worker> worker_;
  const std::shared_ptr<Mailbox> box_;
  std::shared_ptr<Producer> producer_;  // no task of the loop holds it: its end may block
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> grace_;      // for other addresses, before it is ready
  std::unique_ptr<Loop::Timer> ask_again_;  // for the topic
  absl::Time asked_;                        // for the first time
  bool ready_ = false;
  absl::Status closed_;
  std::string last_error_;

  uint64_t last_token_ = 0;
  absl::btree_map<uint64_t, Completion> unreported_;  // bounded by the window
};

class KafkaTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "kafka:host:port[,host:port]/topic[?g.NAME=VALUE&t.NAME=VALUE&key=PARAM&timeout=5s&encoding=jsonrpc]";
  }
  absl::string_view description() const override {
    return "Produces to a topic of Apache Kafka. Success: all replicas in sync have the event.";
  }
  AckLevel ack_level() const override { return AckLevel::kDurable; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<KafkaAddress> address = ParseKafkaAddress(uri);
    if (!address.ok()) return address.status();
    return TargetOf(*address, AckLevel::kDurable, address->brokers);
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<KafkaLink>(AddressOf(target, &ParseKafkaAddress), loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeKafkaTransport() { return std::make_unique<KafkaTransport>(); }

}  // namespace eventvirtual
