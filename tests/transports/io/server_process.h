// ServerProcess: a real server of its own for one test, as a child process.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_IO_SERVER_PROCESS_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_IO_SERVER_PROCESS_H_

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/transports/io/loopback_listener.h"

namespace eventvirtual {

// A folder under /tmp that goes with this object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/evXXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Writes into `folder`: ca.pem, an authority; server.pem and server.key, its certificate for the name "localhost";
// client.pem and client.key; locked.key, the client's key behind a password. PEM all, elliptic curve P-256.
inline void MakeCertificates(const TemporaryFolder& folder) {
  const std::string script = folder / "make-certificates";
  std::ofstream(script) << "cd " << folder / ""
                        << R"( || exit
exec >openssl.log 2>&1 </dev/null && set -e
key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $key -keyout ca.key -out ca.pem -days 2 -subj /CN=authority
for name in server client; do
  openssl req $key -keyout $name.key -out $name.csr -subj /CN=$name
  printf 'subjectAltName=DNS:localhost' > san
  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out $name.pem
done
openssl ec -aes128 -passout pass:x -in client.key -out locked.key
chmod a+r *.key
)";
  EXPECT_EQ(std::system(absl::StrCat("/bin/sh ", script).c_str()), 0) << ReadFile(folder / "openssl.log");
}

inline bool Accepts(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = LoopbackAddress(port);
  const bool accepts = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  close(fd);
  return accepts;
}

// Below the range from which the system gives ports to clients: while the server is down, none of them may take it.
inline uint16_t FreePort() {
  std::random_device random;
  while (true) {
    const auto port = static_cast<uint16_t>(std::uniform_int_distribution<>(10000, 32000)(random));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = LoopbackAddress(port);
    const bool free = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    close(fd);
    if (free) return port;
  }
}

// Dies with the thread that started it. A command that does not exist, or does not listen in time, fails the test.
class ServerProcess {
 public:
  // Runs `command` (its first word is a path), which listens on `port`, and waits until it does. What it says goes to
  // the file `output`.
  ServerProcess(std::vector<std::string> command, uint16_t port, std::string output)
      : command_(std::move(command)), port_(port), output_(std::move(output)) {
    Start();
  }
  ~ServerProcess() { Kill(); }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  void Start() {
    std::vector<std::string> words = {"/usr/bin/setpriv", "--pdeathsig", "KILL", "--"};
    words.insert(words.end(), command_.begin(), command_.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    ASSERT_EQ(posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    const absl::Time give_up = absl::Now() + absl::Minutes(1);
    while (!Accepts(port_)) {
      if (EndsWithin(5)) {
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
        FAIL() << command_[0] << " ended while it started:\n" << ReadFile(output_);
      }
      ASSERT_LT(absl::Now(), give_up) << command_[0] << " does not listen:\n" << ReadFile(output_);
    }
  }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(std::exchange(pid_, -1), nullptr, 0);
  }
  void Pause() { Signal(SIGSTOP); }
  void Continue() { Signal(SIGCONT); }  // nothing, if it does not run any more

 private:
  void Signal(int signal) {
    if (pid_ <= 0) return;  // -1 would be everybody
    EXPECT_EQ(kill(pid_, signal), 0);
  }
  // Whether the process ends, which nobody has waited for yet, in that time.
  bool EndsWithin(int milliseconds) const {
    const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    pollfd ended = {.fd = fd, .events = POLLIN};
    const bool has_ended = poll(&ended, 1, milliseconds) == 1;
    close(fd);
    return has_ended;
  }

  const std::vector<std::string> command_;
  const uint16_t port_;
  const std::string output_;
  pid_t pid_ = -1;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_SERVER_PROCESS_H_
