// ByteStream: a TCP connection, encrypted or not, for a link that reads and writes when its loop says so.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_BYTE_STREAM_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_BYTE_STREAM_H_

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transports/io/tls_files.h"
#include "transports/io/tls_options.h"

namespace eventvirtual {

// Whom to trust and who we are. One for each link; may be handed from thread to thread.
struct TlsContextDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using TlsContext = std::unique_ptr<SSL_CTX, TlsContextDeleter>;

// TLS 1.2 and later. Without `files.ca` the system's authorities are trusted; with it, those alone. Without `verify`
// any certificate is taken, whatever name it is for. Reads the system's files: for a Worker. UNAUTHENTICATED says which
// of ca, cert and key is of no use, and why.
absl::StatusOr<TlsContext> MakeTlsContext(const TlsFiles& files, bool verify);
// The same of the files that `options` name. UNAVAILABLE: one of them cannot be read.
absl::StatusOr<TlsContext> MakeTlsContext(const TlsOptions& options);

// Never blocks. On one thread. OpenSSL sees bytes, never the descriptor.
class ByteStream {
 public:
  // Takes over `fd`, which is connected and non-blocking.
  explicit ByteStream(int fd) : fd_(fd) {}
  // The same through TLS, with a peer whose certificate must be for `host`, a name or an IP address.
  ByteStream(int fd, SSL_CTX& context, const std::string& host);
  ~ByteStream();  // closes
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;

  int fd() const { return fd_; }

  // Sends the beginning of `bytes` and gives its length: 0 when the peer takes no more at present or, with TLS, before
  // the handshake is over, which the first call begins. With TLS, what was taken may still wait here.
  absl::StatusOr<size_t> Send(absl::string_view bytes);
  // Whether another Send(), also one of no bytes, will get on once the descriptor is writable.
  bool wants_write() const { return ssl_ == nullptr ? full_ : sent_ < sealed_.size(); }

  // Appends what has come, at most 64 KiB, and maybe nothing, to `*bytes`; also when it fails, as what came before the
  // end. UNAVAILABLE: the connection has ended or broken. UNAUTHENTICATED: a certificate is not trusted, ours or the
  // peer's.
  absl::Status Receive(std::string* bytes);

 private:
  absl::Status Flush();
  absl::Status Unseal(std::string* bytes);
  absl::Status WhyTlsFailed(int result) const;

  struct SslDeleter {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };

  const int fd_;
  bool full_ = false;                     // without TLS: the socket took less than it was given
  std::unique_ptr<SSL, SslDeleter> ssl_;  // null: no TLS
  std::string host_;
  std::string sealed_;  // what TLS wants to send, at most a few records
  size_t sent_ = 0;     // of it
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_BYTE_STREAM_H_
