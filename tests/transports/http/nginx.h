// Nginx: Debian's, before an application on another loopback port.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_HTTP_NGINX_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_HTTP_NGINX_H_

#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/on_loop.h"
#include "tests/transports/io/server_process.h"

namespace eventvirtual {

class Nginx {
 public:
  // `options` stand in the server's block, before its locations.
  Nginx(uint16_t application, bool tls, const std::string& options = "") : tls_(tls) {
    if (tls) MakeCertificates(folder_);
    std::ofstream(folder_ / "nginx.conf")
        << (geteuid() == 0 ? "user root;\n" : "") << "daemon off; master_process off; error_log stderr; pid "
        << folder_ / "pid"
        << ";\nevents {}\nhttp {\n  log_format line '$server_protocol $ssl_client_verify $connection';\n"
        << "  access_log " << folder_ / "access"
        << " line;\n  client_body_temp_path " << folder_ / "body"
        << ";\n  proxy_temp_path " << folder_ / "proxy"
        << ";\n  fastcgi_temp_path " << folder_ / "f"
        << ";\n  uwsgi_temp_path " << folder_ / "u"
        << ";\n  scgi_temp_path " << folder_ / "s"
        << ";\n  server {\n"
        << "    listen 127.0.0.1:" << port_ << (tls ? " ssl http2" : "") << ";\n"
        << (tls ? absl::StrCat("    ssl_certificate ", folder_ / "server.pem", ";\n    ssl_certificate_key ",
                               folder_ / "server.key", ";\n")
                : "")
        << options << "\n    location / { proxy_pass http://127.0.0.1:" << application << "; }\n  }\n}\n";
    process_ = std::make_unique<ServerProcess>(
        std::vector<std::string>{"/usr/sbin/nginx", "-c", folder_ / "nginx.conf", "-e", "stderr"}, port_,
        folder_ / "output");
  }

  std::string Url(absl::string_view host, absl::string_view rest) const {
    return absl::StrCat(tls_ ? "https://" : "http://", host, ":", port_, rest);
  }
  std::string File(const std::string& name) const { return folder_ / name; }
  ServerProcess& process() { return *process_; }
  // The lines of the log, once there are `count`: nginx writes them behind the answer.
  std::vector<std::string> Log(size_t count) const {
    const absl::Time give_up = absl::Now() + kPatience;
    std::vector<std::string> lines;
    do {
      lines = absl::StrSplit(ReadFile(folder_ / "access"), '\n', absl::SkipEmpty());
    } while (lines.size() < count && absl::Now() < give_up);
    EXPECT_EQ(lines.size(), count);
    return lines;
  }

 private:
  const TemporaryFolder folder_;
  const uint16_t port_ = FreePort();
  const bool tls_;
  std::unique_ptr<ServerProcess> process_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_HTTP_NGINX_H_
