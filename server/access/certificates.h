// Certificates: who we are to our clients, and whom of them we believe.
#ifndef EVENTVIRTUAL_SERVER_ACCESS_CERTIFICATES_H_
#define EVENTVIRTUAL_SERVER_ACCESS_CERTIFICATES_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/files/reloaded.h"

namespace eventvirtual {

// PEM. A key that belongs to the first certificate of `cert`, and the certificates of `client_ca`; "": clients are not
// asked for one.
struct CertificateFiles {
  std::string cert, key, client_ca;
};
using Certificates = Reloaded<CertificateFiles>;

// Errors name the option, the path and what is wrong; nothing of a key is ever shown.
absl::StatusOr<std::shared_ptr<Certificates>> LoadCertificates(const std::string& cert, const std::string& key,
                                                               const std::string& client_ca);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ACCESS_CERTIFICATES_H_
