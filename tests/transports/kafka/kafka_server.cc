#include "tests/transports/kafka/kafka_server.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace eventvirtual {
namespace {

constexpr int kAnswerMs = 20000;

rd_kafka_t* NewClient(rd_kafka_type_t type, const std::string& bootstrap) {
  rd_kafka_conf_t* const conf = rd_kafka_conf_new();
  for (const auto& [name, value] :
       {std::pair("bootstrap.servers", bootstrap.c_str()), std::pair("log_level", "0"),
        std::pair("reconnect.backoff.max.ms", "200"), std::pair("fetch.wait.max.ms", "10")}) {
    EXPECT_EQ(rd_kafka_conf_set(conf, name, value, nullptr, 0), RD_KAFKA_CONF_OK) << name;
  }
  char error[256] = "";
  rd_kafka_t* const client = rd_kafka_new(type, conf, error, sizeof(error));
  EXPECT_NE(client, nullptr) << error;
  return client;
}

// Whether the broker answers and leads all partitions of all topics.
bool Serves(const std::string& bootstrap) {
  rd_kafka_t* const client = NewClient(RD_KAFKA_PRODUCER, bootstrap);
  const struct rd_kafka_metadata* metadata = nullptr;
  const bool answers = rd_kafka_metadata(client, 1, nullptr, &metadata, 500) == RD_KAFKA_RESP_ERR_NO_ERROR;
  rd_kafka_destroy(client);
  if (!answers) return false;
  bool serves = metadata->broker_cnt == 1;
  for (int i = 0; i < metadata->topic_cnt; ++i) {
    const rd_kafka_metadata_topic& topic = metadata->topics[i];
    for (int k = 0; k < topic.partition_cnt; ++k) serves = serves && topic.partitions[k].leader >= 0;
  }
  rd_kafka_metadata_destroy(metadata);
  return serves;
}

}  // namespace

KafkaServer::KafkaServer()
    : port_(FreePort()), proxied_port_(FreePort()), secure_port_(FreePort()), controller_port_(FreePort()) {
  MakeCertificate();
  const std::string protocols = "DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT";
  const std::string direct = absl::StrCat("DIRECT://127.0.0.1:", port_);
  std::ofstream(folder_ / "server.properties")
      << "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:" << controller_port_
      << "\nlisteners=" << direct << ",PROXIED://127.0.0.1:" << proxied_port_ << ",SECURE://127.0.0.1:" << secure_port_
      << ",CONTROLLER://127.0.0.1:" << controller_port_ << "\nadvertised.listeners=" << direct
      << ",PROXIED://127.0.0.1:" << proxy_.port() << ",SECURE://localhost:" << secure_port_
      << "\nlistener.security.protocol.map=" << protocols << "\ninter.broker.listener.name=DIRECT"
      << "\ncontroller.listener.names=CONTROLLER\nlog.dirs=" << folder_ / "data"
      << "\nauto.create.topics.enable=false\nnum.io.threads=2\nnum.network.threads=2\nmessage.max.bytes=5000000"
      // A killed broker is let in again only after its old session has ended; nine seconds by default.
      << "\nbroker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=200"
      << "\nlistener.name.secure.sasl.enabled.mechanisms=PLAIN\nlistener.name.secure.plain.sasl.jaas.config="
      << "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"s3cr3t\";"
      << "\nlistener.name.secure.ssl.keystore.location=" << folder_ / "keys"
      << "\nlistener.name.secure.ssl.keystore.type=PKCS12\nlistener.name.secure.ssl.keystore.password=keystore\n";
  const std::string properties = folder_ / "server.properties";
  Run(Java("kafka.tools.StorageTool", {"format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA", "--config", properties}),
      folder_ / "output", Environment());
  process_ = std::make_unique<ServerProcess>(Java("kafka.Kafka", {properties}), Environment(), folder_ / "output",
                                             [this] { return Serves(bootstrap()); });
}

KafkaServer::~KafkaServer() {
  if (testing::Test::HasFailure()) std::cerr << ReadFile(folder_ / "output");
}

std::string KafkaServer::Uri(absl::string_view rest) const { return absl::StrCat("kafka:", bootstrap(), "/", rest); }

std::string KafkaServer::ProxiedUri(absl::string_view rest) const {
  return absl::StrCat("kafka:127.0.0.1:", proxy_.port(), "/", rest);
}

std::string KafkaServer::SecureUri(absl::string_view rest) const {
  return absl::StrCat("kafka:localhost:", secure_port_, "/", rest);
}

void KafkaServer::MakeCertificate() {
  const std::vector<std::string> keystore = {"-keystore",  folder_ / "keys", "-storetype", "PKCS12",
                                             "-storepass", "keystore",       "-alias",     "broker"};
  std::vector<std::string> make = {"/usr/bin/keytool", "-genkeypair", "-keyalg",           "EC",        "-dname",
                                   "CN=localhost",     "-ext",        "san=dns:localhost", "-validity", "2"};
  make.insert(make.end(), keystore.begin(), keystore.end());
  Run(make, folder_ / "output", Environment());
  std::vector<std::string> print = {"/usr/bin/keytool", "-exportcert", "-rfc", "-file", folder_ / "certificate"};
  print.insert(print.end(), keystore.begin(), keystore.end());
  Run(print, folder_ / "output", Environment());
  certificate_ = ReadFile(folder_ / "certificate");
}

std::vector<std::string> KafkaServer::Java(const std::string& main_class,
                                           const std::vector<std::string>& arguments) const {
  const char* const jars = getenv("KAFKA_JARS");
  if (jars == nullptr || !std::filesystem::exists(jars)) {
    ADD_FAILURE() << "no Apache Kafka in $KAFKA_JARS; ./dev test fetches it";
  }
  std::vector<std::string> words = {"/usr/bin/java",
                                    "-Xmx384m",
                                    "-XX:+UseSerialGC",
                                    "-XX:TieredStopAtLevel=1",
                                    "-cp",
                                    absl::StrCat(jars == nullptr ? "" : jars, "/*"),
                                    main_class};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

std::vector<std::string> KafkaServer::Environment() const {
  return {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + folder_ / ""};
}

KafkaTopic::KafkaTopic(const KafkaServer& server, const std::string& name,
                       const std::map<std::string, std::string>& settings)
    : name_(name), client_(NewClient(RD_KAFKA_CONSUMER, server.bootstrap())) {
  Create(name, settings);
  topic_ = rd_kafka_topic_new(client_, name.c_str(), nullptr);
  EXPECT_EQ(rd_kafka_consume_start(topic_, 0, 0), 0);
}

KafkaTopic::~KafkaTopic() {
  rd_kafka_consume_stop(topic_, 0);
  rd_kafka_topic_destroy(topic_);
  rd_kafka_destroy(client_);
}

void KafkaTopic::Create(const std::string& name, const std::map<std::string, std::string>& settings) {
  rd_kafka_NewTopic_t* topic = rd_kafka_NewTopic_new(name.c_str(), 1, 1, nullptr, 0);
  for (const auto& [key, value] : settings) rd_kafka_NewTopic_set_config(topic, key.c_str(), value.c_str());
  rd_kafka_queue_t* const queue = rd_kafka_queue_new(client_);
  rd_kafka_CreateTopics(client_, &topic, 1, nullptr, queue);
  rd_kafka_event_t* const event = rd_kafka_queue_poll(queue, kAnswerMs);
  const rd_kafka_CreateTopics_result_t* const result = rd_kafka_event_CreateTopics_result(event);
  if (result == nullptr) {
    ADD_FAILURE() << "the broker does not answer";
  } else {
    size_t count = 0;
    const rd_kafka_topic_result_t* const* const made = rd_kafka_CreateTopics_result_topics(result, &count);
    const rd_kafka_resp_err_t error = count == 1 ? rd_kafka_topic_result_error(made[0]) : rd_kafka_event_error(event);
    EXPECT_TRUE(error == RD_KAFKA_RESP_ERR_NO_ERROR || error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        << rd_kafka_err2str(error);
  }
  rd_kafka_event_destroy(event);
  rd_kafka_queue_destroy(queue);
  rd_kafka_NewTopic_destroy(topic);
}

int64_t KafkaTopic::End() {
  int64_t first = 0, end = 0;
  const absl::Time give_up = absl::Now() + absl::Milliseconds(kAnswerMs);
  rd_kafka_resp_err_t error;
  do {  // a new topic has no leader at first
    error = rd_kafka_query_watermark_offsets(client_, name_.c_str(), 0, &first, &end, 5000);
  } while (error != RD_KAFKA_RESP_ERR_NO_ERROR && absl::Now() < give_up);
  EXPECT_EQ(error, RD_KAFKA_RESP_ERR_NO_ERROR) << rd_kafka_err2str(error);
  return end;
}

std::optional<KafkaTopic::Event> KafkaTopic::Next(absl::Duration patience) {
  const absl::Time give_up = absl::Now() + patience;
  while (next_ >= end_) {
    end_ = End();
    if (next_ < end_) break;
    if (absl::Now() >= give_up) return std::nullopt;
  }
  rd_kafka_message_t* message = nullptr;
  const absl::Time fetched_until = absl::Now() + absl::Milliseconds(kAnswerMs);
  while (message == nullptr && absl::Now() < fetched_until) {
    message = rd_kafka_consume(topic_, 0, 1000);
    if (message != nullptr && message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {  // the broker was away, or has just come
      rd_kafka_message_destroy(std::exchange(message, nullptr));
    }
  }
  if (message == nullptr) {
    ADD_FAILURE() << "offset " << next_ << " of " << end_ << " cannot be read";
    return std::nullopt;
  }
  EXPECT_EQ(message->offset, next_);
  next_ = message->offset + 1;
  Event event;
  event.body.assign(static_cast<const char*>(message->payload), message->len);
  if (message->key != nullptr) event.key.emplace(static_cast<const char*>(message->key), message->key_len);
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const char* name = nullptr;
    const void* value = nullptr;
    size_t size = 0;
    for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; ++i) {
      event.headers[name] = std::string(static_cast<const char*>(value), size);
    }
  }
  rd_kafka_message_destroy(message);
  return event;
}

std::vector<KafkaTopic::Event> KafkaTopic::Drain() {
  std::vector<Event> all;
  while (std::optional<Event> event = Next()) all.push_back(*std::move(event));
  return all;
}

}  // namespace eventvirtual
