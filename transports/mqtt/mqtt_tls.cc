#include "transports/mqtt/mqtt_tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/io/socket_address.h"

namespace eventvirtual {
namespace {

absl::Status Refused(absl::string_view option, absl::string_view path) {
  char text[256] = "";
  ERR_error_string_n(ERR_peek_last_error(), text, sizeof(text));
  ERR_clear_error();
  return absl::UnavailableError(absl::StrCat(option, "=", path, ": ", text));
}

// Never asks the terminal for the password of an encrypted key.
int NoPassword(char*, int, int, void*) { return 0; }

void FreeName(void*, void* name, CRYPTO_EX_DATA*, int, long, void*) { delete static_cast<std::string*>(name); }

// Where a context keeps the name for SNI.
int NameIndex() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, &FreeName);
  return index;
}

// libmosquitto sets the number it was given as the server's name; here it is put right before the greeting is written.
void OnInfo(const SSL* ssl, int where, int) {
  if (where != SSL_CB_HANDSHAKE_START) return;
  auto* const name = static_cast<std::string*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), NameIndex()));
  char* const sent = name == nullptr ? nullptr : name->data();  // none for a number (RFC 6066 section 3)
  SSL_set_tlsext_host_name(const_cast<SSL*>(ssl), sent);
}

}  // namespace

absl::StatusOr<SslContext> MakeSslContext(const MqttAddress& address) {
  SslContext context(SSL_CTX_new(TLS_client_method()));
  EV_CHECK(context != nullptr);
  SSL_CTX* const ssl = context.get();
  SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
  SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_default_passwd_cb(ssl, &NoPassword);
  if (address.ca.empty()) {
    SSL_CTX_set_default_verify_paths(ssl);
  } else if (SSL_CTX_load_verify_locations(ssl, address.ca.c_str(), nullptr) != 1) {
    return Refused("ca", address.ca);
  }
  if (!address.cert.empty()) {
    if (SSL_CTX_use_certificate_chain_file(ssl, address.cert.c_str()) != 1) return Refused("cert", address.cert);
    if (SSL_CTX_use_PrivateKey_file(ssl, address.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ssl) != 1) {
      return Refused("key", address.key);
    }
  }
  SSL_CTX_set_verify(ssl, address.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  X509_VERIFY_PARAM* const wanted = SSL_CTX_get0_param(ssl);
  const std::string& name = address.NameOf(address.host.host);
  if (IsNumeric(name)) {
    EV_CHECK(X509_VERIFY_PARAM_set1_ip_asc(wanted, name.c_str()) == 1);
  } else {
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    EV_CHECK(X509_VERIFY_PARAM_set1_host(wanted, name.c_str(), 0) == 1);
    SSL_CTX_set_ex_data(ssl, NameIndex(), new std::string(name));
  }
  SSL_CTX_set_info_callback(ssl, &OnInfo);
  return context;
}

}  // namespace eventvirtual
