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
#include <fstream>
#include <functional>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/transports/io/loopback_listener.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {

inline std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Writes into `folder`: ca.pem, an authority; server.pem and server.key, its certificate for the name "localhost";
// expired.pem, the same until yesterday; client.pem and client.key; locked.key, the client's key behind a password. PEM
// all, elliptic curve P-256.
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
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -extfile san -out expired.pem
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

// Starts `command` (its first word is a path), which dies with this thread; what it says goes to the file `output`.
// `environment`, as NAME=value, stands for ours; empty: ours.
inline pid_t Spawn(const std::vector<std::string>& command, const std::string& output,
                   std::vector<std::string> environment = {}) {
  std::vector<std::string> words = {"/usr/bin/setpriv", "--pdeathsig", "KILL", "--"};
  words.insert(words.end(), command.begin(), command.end());
  std::vector<char*> argv, envp;
  for (std::string& word : words) argv.push_back(word.data());
  for (std::string& entry : environment) envp.push_back(entry.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = -1;
  EXPECT_EQ(posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environment.empty() ? environ : envp.data()), 0);
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

// The same for a tool: waits for its end, and fails the test if it does not succeed.
inline void Run(const std::vector<std::string>& command, const std::string& output,
                std::vector<std::string> environment = {}) {
  const pid_t pid = Spawn(command, output, std::move(environment));
  ASSERT_GT(pid, 0);
  int status = -1;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0) << absl::StrJoin(command, " ") << ":\n" << ReadFile(output);
}

// A server that dies with the thread that started it. All methods wait for what they cause, at most a minute, and fail
// the test when it does not happen: the command does not exist, ends, or is not ready in time.
class ServerProcess {
 public:
  // See Spawn(). Waits until something listens on `port`.
  ServerProcess(std::vector<std::string> command, uint16_t port, std::string output)
      : ServerProcess(std::move(command), {}, std::move(output), [port] { return Accepts(port); }) {}
  // Waits until `ready` says so, which is asked again and again.
  ServerProcess(std::vector<std::string> command, std::vector<std::string> environment, std::string output,
                std::function<bool()> ready)
      : command_(std::move(command)),
        environment_(std::move(environment)),
        output_(std::move(output)),
        ready_(std::move(ready)) {
    Start();
  }
  ~ServerProcess() { Kill(); }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  void Start() {  // again
    ASSERT_EQ(pid_, -1) << command_[0] << " runs already";
    pid_ = Spawn(command_, output_, environment_);
    const absl::Time give_up = absl::Now() + kStartPatience;
    while (pid_ > 0 && !ready_()) {
      if (EndsWithin(absl::Milliseconds(5))) {
        pid_ = -1;
        FAIL() << command_[0] << " ended while it started:\n" << ReadFile(output_);
      }
      ASSERT_LT(absl::Now(), give_up) << command_[0] << " does not come up:\n" << ReadFile(output_);
    }
  }
  void Stop() {  // in order
    if (pid_ <= 0) return;
    kill(pid_, SIGTERM);
    ASSERT_TRUE(EndsWithin(kStartPatience)) << command_[0] << " does not stop";
    pid_ = -1;
  }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(std::exchange(pid_, -1), nullptr, 0);
  }
  // Returns when all its threads stand still: until then some of them may answer.
  void Pause() {
    Signal(SIGSTOP);
    siginfo_t stopped;
    if (pid_ <= 0) return;
    EXPECT_EQ(waitid(P_PID, pid_, &stopped, WSTOPPED), 0);
  }
  void Continue() { Signal(SIGCONT); }  // nothing, if it does not run any more

 private:
  static constexpr absl::Duration kStartPatience = absl::Minutes(1);

  void Signal(int signal) {
    if (pid_ <= 0) return;  // -1 would be everybody
    EXPECT_EQ(kill(pid_, signal), 0);
  }
  // Whether the process ends in that time; it is reaped then.
  bool EndsWithin(absl::Duration patience) const {
    const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    pollfd ended = {.fd = fd, .events = POLLIN};
    const bool has_ended = poll(&ended, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) == 1;
    close(fd);
    if (has_ended) waitpid(pid_, nullptr, 0);
    return has_ended;
  }

  const std::vector<std::string> command_, environment_;
  const std::string output_;
  const std::function<bool()> ready_;
  pid_t pid_ = -1;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_IO_SERVER_PROCESS_H_
