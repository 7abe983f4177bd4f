#include "server/access/certificates.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {
namespace {

template <typename Object, void (*kFree)(Object*)>
struct Freed {
  void operator()(Object* object) const { kFree(object); }
};
using Certificate = std::unique_ptr<X509, Freed<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

Bio Over(const std::string& pem) { return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

// Nobody is there who could be asked for a password.
int NoPassword(char*, int, int, void*) { return 0; }

// The first of `pem`; null: there is none, or one behind it cannot be read.
Certificate FirstOf(const std::string& pem) {
  const Bio bio = Over(pem);
  Certificate first(PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr));
  if (first == nullptr) return nullptr;
  while (const Certificate next{PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)}) {
  }
  return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE ? std::move(first) : nullptr;
}

// What is wrong with `files`, and of which; nothing of a key.
struct Fault {
  absl::string_view option, why;  // both empty: nothing
};
Fault FaultOf(const CertificateFiles& files, bool asks_clients) {
  ERR_clear_error();
  const absl::Cleanup forget = [] { ERR_clear_error(); };
  const Certificate certificate = FirstOf(files.cert);
  if (certificate == nullptr) return {"--tls_cert", "holds no certificates in PEM"};
  ERR_clear_error();
  const Key key(PEM_read_bio_PrivateKey(Over(files.key).get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) return {"--tls_key", "holds no key in PEM, or one that needs a password"};
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return {"--tls_key", "is not the key of the first certificate of --tls_cert"};
  }
  ERR_clear_error();
  if (asks_clients && FirstOf(files.client_ca) == nullptr) return {"--tls_client_ca", "holds no certificates in PEM"};
  return {};
}

}  // namespace

absl::StatusOr<std::shared_ptr<Certificates>> LoadCertificates(const std::string& cert, const std::string& key,
                                                               const std::string& client_ca) {
  const std::vector<Certificates::File> named = {
      {"--tls_cert", cert}, {"--tls_key", key}, {"--tls_client_ca", client_ca}};
  const auto parse = [named](const std::vector<std::string>& contents) -> absl::StatusOr<CertificateFiles> {
    CertificateFiles files{contents[0], contents[1], contents[2]};
    const Fault fault = FaultOf(files, /*asks_clients=*/!named[2].path.empty());
    for (const auto& [option, path] : named) {
      if (option == fault.option) return absl::InvalidArgumentError(absl::StrCat(option, "=", path, ": ", fault.why));
    }
    return files;
  };
  return Certificates::Load("tls", named, parse);
}

}  // namespace eventvirtual
