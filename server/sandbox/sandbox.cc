#include "server/sandbox/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace eventvirtual {
namespace {

// --- files: Landlock, whose library Debian does not have. Names as in linux/landlock.h, which is older than some of
// them.

constexpr uint64_t kTruncate = 1ULL << 14;    // LANDLOCK_ACCESS_FS_TRUNCATE, ABI 3
constexpr uint64_t kIoctlDev = 1ULL << 15;    // LANDLOCK_ACCESS_FS_IOCTL_DEV, ABI 5
constexpr uint64_t kScopeSignal = 1ULL << 1;  // LANDLOCK_SCOPE_SIGNAL, ABI 6
struct RulesetAttr {                          // landlock_ruleset_attr of ABI 6; older kernels read its beginning
  uint64_t handled_access_fs;
  uint64_t handled_access_net;
  uint64_t scoped;
};

constexpr uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kOfFile = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate;
constexpr uint64_t kWrite = kRead | kOfFile | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                            LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK;

// What the C library (names, zones, plug-ins of its own and of SASL), TLS and the metrics of the process read.
const char* const kSystem[] = {"/etc",
                               "/usr",
                               "/lib",
                               "/lib64",
                               "/proc",
                               "/sys/devices/system/cpu",
                               "/dev/urandom",
                               "/dev/random",
                               "/etc/resolv.conf",
                               "/etc/localtime",
                               "/run/systemd/resolve"};

class Ruleset {
 public:
  Ruleset() {
    const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 0) {
      error_ = errno;
      return;
    }
    // All that this ABI knows is forbidden, whether we know a use of it or not.
    handled_ = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
    if (abi >= 2) handled_ |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3) handled_ |= kTruncate;
    if (abi >= 5) handled_ |= kIoctlDev;
    const RulesetAttr attr = {handled_, 0, abi >= 6 ? kScopeSignal : 0};
    fd_ = static_cast<int>(syscall(SYS_landlock_create_ruleset, &attr, abi >= 6 ? sizeof(attr) : sizeof(uint64_t), 0));
    if (fd_ < 0) error_ = errno;
  }
  ~Ruleset() {
    if (fd_ >= 0) close(fd_);
  }
  Ruleset(const Ruleset&) = delete;
  Ruleset& operator=(const Ruleset&) = delete;

  void Allow(const std::string& path, uint64_t access) {
    landlock_path_beneath_attr beneath = {};
    beneath.parent_fd = open(path.c_str(), O_PATH | O_CLOEXEC);
    if (beneath.parent_fd < 0) return;
    struct stat what = {};
    const bool folder = fstat(beneath.parent_fd, &what) == 0 && S_ISDIR(what.st_mode);
    beneath.allowed_access = access & handled_ & (folder ? ~uint64_t{0} : kOfFile);
    syscall(SYS_landlock_add_rule, fd_, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    close(beneath.parent_fd);
  }
  // 0, or an errno.
  int Enforce() {
    if (error_ == 0 && syscall(SYS_landlock_restrict_self, fd_, 0) != 0) error_ = errno;
    return error_;
  }

 private:
  uint64_t handled_ = 0;
  int fd_ = -1;
  int error_ = 0;
};

std::string CloseFiles(const SandboxPaths& paths) {
  Ruleset ruleset;
  for (const char* path : kSystem) ruleset.Allow(path, kRead);
  ruleset.Allow("/dev/null", kOfFile);
  for (const std::string& path : paths.readable) ruleset.Allow(path, kRead);
  for (const std::string& path : paths.writable) ruleset.Allow(path, kWrite | LANDLOCK_ACCESS_FS_REFER);
  const int error = ruleset.Enforce();
  return error == 0 ? "" : absl::StrCat("Landlock: ", std::strerror(error));
}

// --- system calls

// Sorted by what they are for. A name that this architecture does not have is left out.
const char* const kCalls[] = {
    // memory; mmap and mprotect stand below
    "brk", "madvise", "membarrier", "mincore", "mlock", "mremap", "munlock", "munmap",
    // threads and time; clone stands below
    "clock_getres", "clock_gettime", "clock_nanosleep", "exit", "exit_group", "futex", "futex_waitv", "get_robust_list",
    "getcpu", "gettid", "gettimeofday", "nanosleep", "restart_syscall", "rseq", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_setaffinity",
    "sched_yield", "set_robust_list", "set_tid_address", "time",
    // signals to itself; sigwait
    "kill", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "sigaltstack", "tgkill", "tkill",
    // who and where it is
    "arch_prctl", "getegid", "geteuid", "getgid", "getgroups", "getpgrp", "getpid", "getppid", "getrandom", "getresgid",
    "getresuid", "getrlimit", "getrusage", "getuid", "prlimit64", "sysinfo", "times", "umask", "uname",
    // waiting for descriptors
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "eventfd", "eventfd2", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "pipe", "pipe2",
    "poll", "ppoll", "pselect6", "select", "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    // sockets; socket and socketpair stand below
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv", "recvfrom",
    "recvmmsg", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    // files
    "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3",
    "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchown", "fchownat", "fcntl",
    "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "getcwd", "getdents", "getdents64", "ioctl",
    "lchown", "link", "linkat", "lseek", "lstat", "mkdir", "mkdirat", "newfstatat", "open", "openat", "openat2",
    "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat",
    "readv", "rename", "renameat", "renameat2", "rmdir", "sendfile", "splice", "stat", "statfs", "statx",
    "sync_file_range", "symlink", "tee", "truncate", "unlink", "unlinkat", "utime", "utimensat", "utimes", "write",
    "writev"};

// Its own name and those of its memory, for /proc; nothing that opens the process again.
constexpr int kProcessOptions[] = {PR_SET_NAME, PR_GET_NAME, PR_SET_VMA, PR_GET_DUMPABLE};
constexpr int kFamilies[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK};

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

// Where any of the conditions holds.
void AllowIf(const Filter& filter, int call, const std::vector<scmp_arg_cmp>& conditions) {
  for (const scmp_arg_cmp& condition : conditions) {
    seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call, 1, &condition);
  }
}
// Where its first argument is one of `values`.
void AllowIf(const Filter& filter, int call, absl::Span<const int> values) {
  for (const int value : values) AllowIf(filter, call, {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(value))});
}

std::string CloseSystemCalls() {
  const Filter filter(seccomp_init(SCMP_ACT_ERRNO(ENOSYS)), &seccomp_release);
  if (filter == nullptr) return "libseccomp knows nothing of this kernel";
  for (const char* name : kCalls) {
    const int call = seccomp_syscall_resolve_name(name);
    if (call != __NR_SCMP_ERROR) seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call, 0, nullptr);
  }
  // A thread, never a process. clone3 hides its flags in memory: without it, the C library takes clone.
  AllowIf(filter, SCMP_SYS(clone), {SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)});
  constexpr scmp_datum_t kBoth = PROT_WRITE | PROT_EXEC;
  AllowIf(filter, SCMP_SYS(mmap),
          {SCMP_A2(SCMP_CMP_MASKED_EQ, kBoth, 0), SCMP_A2(SCMP_CMP_MASKED_EQ, kBoth, PROT_WRITE),
           SCMP_A2(SCMP_CMP_MASKED_EQ, kBoth, PROT_EXEC)});
  AllowIf(filter, SCMP_SYS(mprotect), {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  AllowIf(filter, SCMP_SYS(prctl), absl::MakeConstSpan(kProcessOptions));
  AllowIf(filter, SCMP_SYS(socket), absl::MakeConstSpan(kFamilies));
  AllowIf(filter, SCMP_SYS(socketpair), absl::MakeConstSpan({AF_UNIX}));
  // As a tree: a call is found in 8 steps, not in 150.
  seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  const int error = seccomp_load(filter.get());
  return error == 0 ? "" : absl::StrCat("seccomp: ", std::strerror(-error));
}

}  // namespace

SandboxGaps EnterSandbox(const SandboxPaths& paths) {
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  // Both ask for it, of whoever has no capabilities: no program gives it more rights, and it runs none anyway.
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  SandboxGaps gaps;
  gaps.files = CloseFiles(paths);
  gaps.system_calls = CloseSystemCalls();
  return gaps;
}

}  // namespace eventvirtual
