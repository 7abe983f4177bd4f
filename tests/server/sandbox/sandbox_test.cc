// What can and what cannot be done inside, tried by a process of its own: there is no way back.
#include "server/sandbox/sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/transports/io/temporary_folder.h"

namespace eventvirtual {
namespace {

// Runs `trial` in a process that is closed in, with one folder that may be written and one that may be read. `trial`
// gives what is wrong, empty if nothing is.
class SandboxTest : public testing::Test {
 protected:
  SandboxTest() {
    for (const char* name : {"write", "read", "other"}) mkdir((folder_ / name).c_str(), 0700);
    for (const char* name : {"read/there", "other/there", "write/there"}) std::ofstream(folder_ / name) << "text";
  }
  std::string Inside(const std::function<std::string()>& trial) {
    int told[2];
    if (pipe(told) != 0) return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
      const SandboxGaps gaps = EnterSandbox({.readable = {folder_ / "read"}, .writable = {folder_ / "write"}});
      std::string wrong = absl::StrCat(gaps.files, gaps.system_calls);
      if (wrong.empty()) wrong = trial();
      _exit(write(told[1], wrong.data(), wrong.size()) == static_cast<ssize_t>(wrong.size()) ? 0 : 1);
    }
    close(told[1]);
    char text[1000];
    std::string wrong;
    for (ssize_t got; (got = read(told[0], text, sizeof(text))) > 0;) wrong.append(text, static_cast<size_t>(got));
    close(told[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return status == 0 ? wrong : absl::StrCat(wrong, " and it ended with ", status);
  }

  const TemporaryFolder folder_;
};

// What is wrong if `result` is not a failure with `expected`.
std::string Fails(const char* what, long result, int expected) {
  if (result == -1 && errno == expected) return "";
  return absl::StrCat(what, " gave ", result, result == -1 ? std::strerror(errno) : "", "; ");
}
std::string Works(const char* what, long result) {
  return result >= 0 ? "" : absl::StrCat(what, ": ", std::strerror(errno), "; ");
}

TEST_F(SandboxTest, FilesAreWrittenInTheirFoldersAndNowhereElse) {
  const std::string wrong = Inside([this] {
    const auto open_at = [this](const char* name, int flags) {
      return open((folder_ / name).c_str(), flags | O_CLOEXEC, 0600);
    };
    return absl::StrJoin({Works("make", open_at("write/new", O_CREAT | O_WRONLY)),
                          Works("append", open_at("write/there", O_APPEND | O_WRONLY)),
                          Works("truncate", truncate((folder_ / "write/there").c_str(), 1)),
                          Works("rename", rename((folder_ / "write/new").c_str(), (folder_ / "write/newer").c_str())),
                          Works("remove", unlink((folder_ / "write/newer").c_str())),
                          Works("make a folder", mkdir((folder_ / "write/folder").c_str(), 0700)),
                          Works("read", open_at("read/there", O_RDONLY)),
                          Fails("write what is to be read", open_at("read/there", O_WRONLY), EACCES),
                          Fails("make beside it", open_at("read/new", O_CREAT | O_WRONLY), EACCES),
                          Fails("remove it", unlink((folder_ / "read/there").c_str()), EACCES),
                          Fails("read another", open_at("other/there", O_RDONLY), EACCES),
                          Fails("truncate another", truncate((folder_ / "other/there").c_str(), 0), EACCES),
                          Fails("leave by ..", open_at("write/../other/there", O_RDONLY), EACCES),
                          Fails("read where people live", open("/root", O_RDONLY | O_DIRECTORY), EACCES)},
                         "");
  });
  EXPECT_EQ(wrong, "");
}

TEST_F(SandboxTest, ALinkOutOfAFolderLeadsNowhere) {
  ASSERT_EQ(symlink((folder_ / "other/there").c_str(), (folder_ / "write/link").c_str()), 0);
  const std::string wrong =
      Inside([this] { return Fails("follow", open((folder_ / "write/link").c_str(), O_WRONLY | O_APPEND), EACCES); });
  EXPECT_EQ(wrong, "");
}

TEST_F(SandboxTest, NoProcessIsStartedAndNoneIsTouched) {
  const std::string wrong = Inside([] {
    char* const none[] = {nullptr};
    return absl::StrJoin(
        {Fails("run a program", execve("/bin/true", none, none), ENOSYS),
         Fails("fork", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), ENOSYS),
         Fails("trace", ptrace(PTRACE_ATTACH, getppid(), nullptr, nullptr), ENOSYS),
         Fails("signal its parent", kill(getppid(), SIGCONT), EPERM),
         Fails("mount", syscall(SYS_mount, "none", "/mnt", "tmpfs", 0, nullptr), ENOSYS),
         Fails("go elsewhere", syscall(SYS_unshare, 0), ENOSYS), Fails("become another", setuid(1), ENOSYS),
         Fails("change what is written and run", mprotect(nullptr, 0, PROT_EXEC), ENOSYS),
         Fails("map such memory",
               mmap(nullptr, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0,
               ENOSYS),
         Fails("speak to the wire", socket(AF_PACKET, SOCK_RAW, 0), ENOSYS)},
        "");
  });
  EXPECT_EQ(wrong, "");
}

TEST_F(SandboxTest, WhatANetworkServiceNeedsGoesOn) {
  const std::string wrong = Inside([this] {
    std::string wrong;
    bool ran = false;
    std::thread([&ran] { ran = true; }).join();
    if (!ran) wrong += "no thread; ";
    addrinfo* found = nullptr;
    const int named = getaddrinfo("localhost", "80", nullptr, &found);
    if (named != 0) absl::StrAppend(&wrong, "localhost: ", gai_strerror(named), "; ");
    sockaddr_un here = {};
    here.sun_family = AF_UNIX;
    std::snprintf(here.sun_path, sizeof(here.sun_path), "%s", (folder_ / "write/socket").c_str());
    const int unix_socket = socket(AF_UNIX, SOCK_STREAM, 0);
    wrong += Works("bind", bind(unix_socket, reinterpret_cast<sockaddr*>(&here), sizeof(here)));
    wrong += Works("tcp", socket(AF_INET6, SOCK_STREAM, 0));
    wrong += Works("its own state", open("/proc/self/stat", O_RDONLY));
    wrong += Works("certificates", open("/etc/ssl/certs", O_RDONLY));
    wrong += Works("/dev/null", open("/dev/null", O_WRONLY));
    return wrong;
  });
  EXPECT_EQ(wrong, "");
}

TEST_F(SandboxTest, WhatDoesNotExistIsLeftOut) {
  const pid_t child = fork();
  if (child == 0) {
    const SandboxGaps gaps = EnterSandbox({.readable = {"/nowhere/at/all"}, .writable = {""}});
    _exit(gaps.files.empty() && gaps.system_calls.empty() ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace eventvirtual
