// System calls that fail, or do not return, in one thread and those it starts. By seccomp: no privileges are needed.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_FLATSTORE_SYSTEM_CALL_FAULTS_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_FLATSTORE_SYSTEM_CALL_FAULTS_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "gtest/gtest.h"

namespace eventvirtual {

// Do not hold write(): sanitizers use it themselves.

// For ever: so call it on a thread that the test ends. Gives the listener's descriptor if `flags` ask for one.
inline int FilterSystemCall(int number, uint32_t action, unsigned flags) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(code), code};
  EXPECT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  const int result = static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
  EXPECT_GE(result, 0) << strerror(errno);
  return result;
}

inline void FailSystemCall(int number, int error) {
  FilterSystemCall(number, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error), 0);
}

// Holds each call up until Continue(), or until this is destroyed: then the calls fail. The constructor belongs on the
// thread whose calls are meant, the rest on another.
class HeldSystemCall {
 public:
  explicit HeldSystemCall(int number)
      : listener_(FilterSystemCall(number, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER)) {}
  ~HeldSystemCall() {
    if (listener_ >= 0) close(listener_);
  }
  HeldSystemCall(const HeldSystemCall&) = delete;
  HeldSystemCall& operator=(const HeldSystemCall&) = delete;

  // Waits until one more call is held up. If none comes, the test has failed, and all calls go on to fail as well.
  void Await() {
    pollfd ready{listener_, POLLIN, 0};
    held_ = {};
    if (poll(&ready, 1, 10000) == 1 && ioctl(listener_, SECCOMP_IOCTL_NOTIF_RECV, &held_) == 0) return;
    ADD_FAILURE() << "the system call never came";
    close(listener_);
    listener_ = -1;
  }

  // Lets the call of the last Await() go on.
  void Continue() {
    seccomp_notif_resp answer = {};
    answer.id = held_.id;
    answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    EXPECT_EQ(ioctl(listener_, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0) << strerror(errno);
  }

 private:
  int listener_;
  seccomp_notif held_ = {};
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_FLATSTORE_SYSTEM_CALL_FAULTS_H_
