#include "transports/io/byte_stream.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/io/errno_text.h"
#include "transports/io/socket_address.h"

namespace eventvirtual {
namespace {

constexpr size_t kReadSize = 64 << 10;
constexpr size_t kRecord = 16 << 10;  // what one TLS record holds, RFC 8446 section 5.1

struct BioDeleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using Pem = std::unique_ptr<BIO, BioDeleter>;

Pem OpenPem(const std::string& content) {
  return Pem(BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
}

// Without it OpenSSL would ask the terminal.
int NoPassword(char*, int, int, void*) { return -1; }

X509* ReadCertificate(BIO* pem) { return PEM_read_bio_X509(pem, nullptr, &NoPassword, nullptr); }

absl::Status Useless(absl::string_view option, absl::string_view why) {
  return absl::UnauthenticatedError(absl::StrCat("option \"", option, "\": ", why));
}

absl::Status TrustOnly(const std::string& content, SSL_CTX* context) {
  const Pem pem = OpenPem(content);
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  int count = 0;
  while (X509* const certificate = ReadCertificate(pem.get())) {
    X509_STORE_add_cert(store, certificate);
    X509_free(certificate);
    ++count;
  }
  // An authority may stand there without the one above it.
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
  return count > 0 ? absl::OkStatus() : Useless("ca", "the file holds no certificate in PEM form");
}

absl::Status Identify(const TlsFiles& files, SSL_CTX* context) {
  const Pem certificates = OpenPem(files.cert);
  X509* const certificate = ReadCertificate(certificates.get());
  if (certificate == nullptr) return Useless("cert", "the file holds no certificate in PEM form");
  const bool taken = SSL_CTX_use_certificate(context, certificate) == 1;
  X509_free(certificate);
  if (!taken)
    return Useless("cert", "the certificate is not taken by OpenSSL: its key is too small, or of a strange kind");
  while (X509* const authority = ReadCertificate(certificates.get())) SSL_CTX_add0_chain_cert(context, authority);

  const Pem keys = OpenPem(files.key);
  EVP_PKEY* const key = PEM_read_bio_PrivateKey(keys.get(), nullptr, &NoPassword, nullptr);
  if (key == nullptr) return Useless("key", "the file holds no private key in PEM form that opens without a password");
  const bool fits = SSL_CTX_use_PrivateKey(context, key) == 1;
  EVP_PKEY_free(key);
  return fits ? absl::OkStatus() : Useless("key", "the key does not belong to the certificate of \"cert\"");
}

// Alerts (RFC 8446 section 6) by which a peer says that it does not want our certificate, or none.
bool IsAboutOurCertificate(int reason) {
  for (int alert : {40, 42, 43, 44, 45, 46, 48, 49, 116}) {
    if (reason == SSL_AD_REASON_OFFSET + alert) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<TlsContext> MakeTlsContext(const TlsFiles& files, bool verify) {
  TlsContext context(SSL_CTX_new(TLS_client_method()));
  EV_CHECK(context != nullptr);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_verify(context.get(), verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  absl::Status status;
  if (files.ca.empty()) {
    SSL_CTX_set_default_verify_paths(context.get());
  } else {
    status = TrustOnly(files.ca, context.get());
  }
  if (status.ok() && !files.cert.empty()) status = Identify(files, context.get());
  ERR_clear_error();  // the end of a PEM file is one
  if (!status.ok()) return status;
  return context;
}

absl::StatusOr<TlsContext> MakeTlsContext(const TlsOptions& options) {
  const absl::StatusOr<TlsFiles> files = ReadTlsFiles(options.ca, options.cert, options.key);
  if (!files.ok()) return files.status();
  return MakeTlsContext(*files, options.verify);
}

ByteStream::ByteStream(int fd, SSL_CTX& context, const std::string& host)
    : fd_(fd), ssl_(SSL_new(&context)), host_(host) {
  EV_CHECK(ssl_ != nullptr);
  SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_connect_state(ssl_.get());
  if (IsNumeric(host)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), host.c_str());
  } else {
    SSL_set_hostflags(ssl_.get(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    EV_CHECK(SSL_set1_host(ssl_.get(), host.c_str()) == 1);
    SSL_set_tlsext_host_name(ssl_.get(), host.c_str());
  }
}

ByteStream::~ByteStream() { close(fd_); }

absl::StatusOr<size_t> ByteStream::Send(absl::string_view bytes) {
  if (ssl_ == nullptr) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
      return absl::UnavailableError(ErrnoText(errno));
    }
    full_ = sent < static_cast<ssize_t>(bytes.size());
    return std::max<ssize_t>(sent, 0);
  }
  size_t taken = 0;
  ERR_clear_error();
  if (!SSL_is_init_finished(ssl_.get())) {
    const int result = SSL_do_handshake(ssl_.get());
    if (result != 1 && SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ) return WhyTlsFailed(result);
  } else if (!bytes.empty() && !wants_write()) {
    taken = std::min(bytes.size(), kRecord);
    const int result = SSL_write(ssl_.get(), bytes.data(), static_cast<int>(taken));
    if (result != static_cast<int>(taken)) return WhyTlsFailed(result);
  }
  if (absl::Status status = Flush(); !status.ok()) return status;
  return taken;
}

// Takes from TLS what it wants to send, and sends what the peer takes.
absl::Status ByteStream::Flush() {
  BIO* const out = SSL_get_wbio(ssl_.get());
  if (!wants_write()) {
    sealed_.clear();
    sent_ = 0;
  }
  if (const size_t more = BIO_ctrl_pending(out); more > 0) {
    const size_t size = sealed_.size();
    sealed_.resize(size + more);
    EV_CHECK(BIO_read(out, sealed_.data() + size, static_cast<int>(more)) == static_cast<int>(more));
  }
  while (wants_write()) {
    const ssize_t sent = send(fd_, sealed_.data() + sent_, sealed_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      sent_ += sent;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno != EINTR) {
      return absl::UnavailableError(ErrnoText(errno));
    }
  }
  return absl::OkStatus();
}

absl::Status ByteStream::Receive(std::string* bytes) {
  char buffer[kReadSize];
  const ssize_t got = recv(fd_, buffer, sizeof(buffer), MSG_DONTWAIT);
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return absl::OkStatus();
    return absl::UnavailableError(ErrnoText(errno));
  }
  if (got == 0) return absl::UnavailableError("the peer closed the connection");
  if (ssl_ == nullptr) {
    bytes->append(buffer, got);
    return absl::OkStatus();
  }
  EV_CHECK(BIO_write(SSL_get_rbio(ssl_.get()), buffer, static_cast<int>(got)) == got);
  absl::Status status = Unseal(bytes);
  status.Update(Flush());  // TLS may have an answer, or an alert that says why it gives up
  return status;
}

absl::Status ByteStream::Unseal(std::string* bytes) {
  char buffer[kRecord];
  while (true) {
    ERR_clear_error();
    const int got = SSL_read(ssl_.get(), buffer, sizeof(buffer));  // makes the handshake, if it is not over
    if (got <= 0) {
      return SSL_get_error(ssl_.get(), got) == SSL_ERROR_WANT_READ ? absl::OkStatus() : WhyTlsFailed(got);
    }
    bytes->append(buffer, got);
  }
}

absl::Status ByteStream::WhyTlsFailed(int result) const {
  if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_ZERO_RETURN) {
    return absl::UnavailableError("the peer closed the connection");
  }
  if (const long verdict = SSL_get_verify_result(ssl_.get());
      verdict != X509_V_OK && SSL_get_verify_mode(ssl_.get()) != SSL_VERIFY_NONE) {
    return absl::UnauthenticatedError(
        absl::StrCat("TLS: the certificate of ", host_, " is not trusted: ", X509_verify_cert_error_string(verdict),
                     "; ca=/path names the authorities to trust, if it is the right server"));
  }
  const unsigned long error = ERR_peek_error();
  const char* const text = ERR_reason_error_string(error);
  const std::string what = absl::StrCat("TLS: ", text != nullptr ? text : "the handshake failed");
  const int reason = ERR_GET_REASON(error);
  if (IsAboutOurCertificate(reason)) {
    return absl::UnauthenticatedError(
        absl::StrCat(what, ": the peer does not accept our certificate; cert=/path and key=/path name another"));
  }
  if (reason == SSL_R_WRONG_VERSION_NUMBER)
    return absl::UnavailableError(absl::StrCat(what, ": it speaks no TLS there"));
  return absl::UnavailableError(what);
}

}  // namespace eventvirtual
