#include "transports/io/socket_file.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "transports/io/errno_text.h"

namespace eventvirtual {

absl::Status RemoveDeadSocketFile(const std::string& path, int type) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return absl::OkStatus();
  std::memcpy(address.sun_path, path.data(), path.size());
  struct stat status;
  if (lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return absl::OkStatus();
  // Only of a socket that nobody has bound the kernel says that it refuses.
  const int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::UnavailableError(ErrnoText(errno));
  const bool dead = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 && errno == ECONNREFUSED;
  close(fd);
  if (!dead) return absl::UnavailableError("another process listens there; stop it, or choose another path");
  unlink(path.c_str());
  return absl::OkStatus();
}

}  // namespace eventvirtual
