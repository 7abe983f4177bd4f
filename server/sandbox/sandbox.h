// What the kernel lets this process do once it has started: a message that takes it over finds no file to write outside
// a few folders, no program to run and no process to touch.
#ifndef EVENTVIRTUAL_SERVER_SANDBOX_SANDBOX_H_
#define EVENTVIRTUAL_SERVER_SANDBOX_SANDBOX_H_

#include <string>
#include <vector>

namespace eventvirtual {

// What may still be opened. Folders count with all beneath them; what does not exist is left out.
struct SandboxPaths {
  std::vector<std::string> readable;  // besides what the C library and TLS need of the system
  std::vector<std::string> writable;  // may be read, too; files and sockets are made, renamed and removed in them
};

// What is in force. Empty: all is.
struct SandboxGaps {
  std::string files;         // why files are not closed off
  std::string system_calls;  // why system calls are not
};

// Closes the calling thread in, and every thread that it starts from now on; so it is called before there is another.
// There is no way back. What is closed:
//   files         by Landlock (landlock(7), Linux 5.13): nothing outside of `paths` can be opened or changed, nothing
//                 can be executed, and from Linux 6.12 on no process outside is sent a signal. A socket file can be
//                 connected to wherever it is: that is what the destinations of subscribers are checked for.
//   system calls  by seccomp(2): those that a network service of threads needs are let through. All others fail with
//                 ENOSYS, as if the kernel were older: libraries know what to do then. No process can be started, no
//                 memory be writable and executable, no socket be of another family than AF_INET, AF_INET6, AF_UNIX
//                 and AF_NETLINK (by which the C library learns of the addresses of this host).
// It also stops core dumps and debuggers (PR_SET_DUMPABLE): memory holds passwords.
// A kernel without one of them is no error: the gap is told, and the other is in force.
SandboxGaps EnterSandbox(const SandboxPaths& paths);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_SANDBOX_SANDBOX_H_
