#include "server/rpc/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <utility>

#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// gRPC asks at each handshake whether there is something new. Its C++ interface has no way to that; this one is as
// public, and keeps what it has when what it gets will not do.
class FromCertificates final : public grpc::ServerCredentials {
 public:
  FromCertificates(std::shared_ptr<const Certificates> certificates, bool required)
      : certificates_(std::move(certificates)) {
    const bool asks = !certificates_->Current()->client_ca.empty();
    const grpc_ssl_client_certificate_request_type request =
        !asks      ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
        : required ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                   : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, &Fetch, this));
    EV_CHECK(credentials_ != nullptr);
  }
  ~FromCertificates() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    EV_CHECK(false);  // the services ask who is there
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // Called on the thread that accepts.
  static grpc_ssl_certificate_config_reload_status Fetch(void* self, grpc_ssl_server_certificate_config** config) {
    auto* const credentials = static_cast<FromCertificates*>(self);
    std::shared_ptr<const CertificateFiles> files = credentials->certificates_->Current();
    if (files == credentials->given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {files->key.c_str(), files->cert.c_str()};
    *config = grpc_ssl_server_certificate_config_create(files->client_ca.empty() ? nullptr : files->client_ca.c_str(),
                                                        &pair, 1);
    credentials->given_ = std::move(files);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<const Certificates> certificates_;
  std::shared_ptr<const CertificateFiles> given_;
  grpc_server_credentials* credentials_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> TlsCredentials(std::shared_ptr<const Certificates> certificates,
                                                        bool required) {
  return std::make_shared<FromCertificates>(std::move(certificates), required);
}

}  // namespace eventvirtual
