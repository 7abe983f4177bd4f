// KafkaServer: a real Apache Kafka broker of its own for one test binary.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_KAFKA_KAFKA_SERVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_KAFKA_KAFKA_SERVER_H_

#include <librdkafka/rdkafka.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tests/transports/io/server_process.h"
#include "tests/transports/io/tcp_proxy.h"

namespace eventvirtual {

// One node that is broker and controller (KRaft), from the files in $KAFKA_JARS, on free loopback ports and with all it
// writes in a folder under /tmp. It creates no topics by itself. Dies with the thread that started it. All methods wait
// for what they cause, at most a minute, and fail the test (EXPECT) when it does not happen.
class KafkaServer {
 public:
  KafkaServer();   // starts
  ~KafkaServer();  // kills, and removes the folder
  KafkaServer(const KafkaServer&) = delete;
  KafkaServer& operator=(const KafkaServer&) = delete;

  std::string bootstrap() const { return absl::StrCat("127.0.0.1:", port_); }
  // "kafka:127.0.0.1:PORT/" and `rest`.
  std::string Uri(absl::string_view rest) const;
  // The same through proxy(), by which alone a client that comes this way reaches the broker.
  std::string ProxiedUri(absl::string_view rest) const;
  TcpProxy& proxy() { return proxy_; }
  // The same over TLS, where "alice" may come in with "s3cr3t" (PLAIN).
  std::string SecureUri(absl::string_view rest) const;
  const std::string& certificate() const { return certificate_; }  // PEM, of the broker, signed by itself

  void Start() { process_->Start(); }  // again, on the same ports and with what it kept on disk
  void Kill() { process_->Kill(); }    // SIGKILL
  void Pause() { process_->Pause(); }  // SIGSTOP
  void Continue() { process_->Continue(); }

 private:
  void MakeCertificate();
  std::vector<std::string> Environment() const;
  std::vector<std::string> Java(const std::string& main_class, const std::vector<std::string>& arguments) const;

  const TemporaryFolder folder_;
  const uint16_t port_, proxied_port_, secure_port_, controller_port_;
  TcpProxy proxy_{proxied_port_};
  std::string certificate_;
  std::unique_ptr<ServerProcess> process_;
};

// A client of the broker as others write it, blocking: what it reads is what a consumer reads. For one topic of one
// partition, which it creates if it is not there, with `settings` such as max.message.bytes.
class KafkaTopic {
 public:
  struct Event {
    std::string body;
    std::optional<std::string> key;
    std::map<std::string, std::string> headers;
  };

  KafkaTopic(const KafkaServer& server, const std::string& name,
             const std::map<std::string, std::string>& settings = {});
  ~KafkaTopic();

  // The next event, from the first one on; nothing if there is none and none comes within `patience`.
  std::optional<Event> Next(absl::Duration patience = absl::ZeroDuration());
  // All that follow and are there now.
  std::vector<Event> Drain();

 private:
  void Create(const std::string& name, const std::map<std::string, std::string>& settings);
  int64_t End();

  const std::string name_;
  rd_kafka_t* client_;
  rd_kafka_topic_t* topic_;
  int64_t next_ = 0;  // offset
  int64_t end_ = 0;   // as it was when last asked for
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_KAFKA_KAFKA_SERVER_H_
