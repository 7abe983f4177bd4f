// RabbitmqServer: a real broker of its own for one test binary.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_RABBITMQ_RABBITMQ_SERVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_RABBITMQ_RABBITMQ_SERVER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "tests/transports/io/server_process.h"

namespace eventvirtual {

// Debian's rabbitmq-server on free loopback ports, with everything it writes in a folder under /tmp and without epmd:
// it needs no network but loopback, no home and no particular user. It takes messages of up to 4 MiB. Dies with the
// thread that started it. All methods wait for what they cause, at most a minute, and fail the test when it does not
// happen.
class RabbitmqServer {
 public:
  RabbitmqServer();   // starts
  ~RabbitmqServer();  // kills, and removes the folder
  RabbitmqServer(const RabbitmqServer&) = delete;
  RabbitmqServer& operator=(const RabbitmqServer&) = delete;

  uint16_t port() const { return port_; }
  // "rabbitmq:127.0.0.1:PORT/" and `rest`.
  std::string Uri(absl::string_view rest) const;

  // The port for TLS, to which "localhost" leads: that is what the broker's certificate is for. Clients must have one
  // of the same authority.
  uint16_t tls_port() const { return tls_port_; }
  // The options that let a client in there: "ca=…&cert=…&key=…".
  std::string TlsOptions() const;
  // What MakeCertificates() has written, of which the broker shows server.pem.
  std::string File(const std::string& name) const { return folder_ / name; }

  void Start();                                         // again, on the same ports and with what it kept on disk
  void Stop() { process_->Stop(); }                     // in order
  void Kill() { process_->Kill(); }                     // SIGKILL
  void Pause() { process_->Pause(); }                   // SIGSTOP
  void Continue() { process_->Continue(); }             // SIGCONT
  void Ctl(const std::vector<std::string>& arguments);  // rabbitmqctl

 private:
  // The environment that keeps server and rabbitmqctl inside folder_.
  std::vector<std::string> Environment() const;

  const TemporaryFolder folder_;
  const uint16_t port_, tls_port_;
  const uint16_t distribution_port_;  // for rabbitmqctl
  std::unique_ptr<ServerProcess> process_;
};

// A client of the broker as others write it, blocking: what it sees is what a consumer sees.
class RabbitmqClient {
 public:
  struct Received {
    std::string body, exchange, routing_key;
    std::string content_type, message_id;
    int delivery_mode = 0;
    uint64_t timestamp = 0;                      // 0: none
    std::map<std::string, std::string> headers;  // those that are texts
  };

  explicit RabbitmqClient(const RabbitmqServer& server, const std::string& vhost = "/");
  ~RabbitmqClient();

  // `arguments`: x-max-length and the like; a text of digits is sent as a number.
  void DeclareQueue(const std::string& name, bool durable = false,
                    const std::map<std::string, std::string>& arguments = {});
  void DeclareExchange(const std::string& name, const std::string& type);
  void DeleteExchange(const std::string& name);
  // `arguments`: what a headers exchange compares, and x-match.
  void Bind(const std::string& queue, const std::string& exchange, const std::string& routing_key,
            const std::map<std::string, std::string>& arguments = {});
  // Takes all that is in the queue now.
  std::vector<Received> Drain(const std::string& queue);

 private:
  void Check(absl::string_view what);

  void* state_;  // amqp_connection_state_t, kept out of this header
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_RABBITMQ_RABBITMQ_SERVER_H_
