#include "transports/io/tls_files.h"

#include <tuple>
#include <utility>

#include "transports/io/small_file.h"

namespace eventvirtual {

absl::StatusOr<TlsFiles> ReadTlsFiles(const std::string& ca, const std::string& cert, const std::string& key) {
  TlsFiles files;
  for (const auto& [option, path, content] :
       {std::tuple("ca", &ca, &files.ca), {"cert", &cert, &files.cert}, {"key", &key, &files.key}}) {
    if (path->empty()) continue;
    absl::StatusOr<std::string> read = ReadSmallFile(option, *path);
    if (!read.ok()) return read.status();
    *content = *std::move(read);
  }
  return files;
}

}  // namespace eventvirtual
