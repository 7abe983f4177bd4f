// Secret: a password, a token or a key, from where it is parsed to where a library takes it.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_SECRET_H_
#define EVENTVIRTUAL_TRANSPORTS_API_SECRET_H_

#include <functional>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace eventvirtual {

// Cannot be printed, and does not become a string by itself: whoever wants its text says Reveal(). Its memory is wiped
// when it ends. What a library makes of the text is that library's.
//
// It is written as text, or with names of files that hold it: "${secret:NAME}", alone or among text ("Bearer
// ${secret:NAME}"). A value.
class Secret {
 public:
  Secret() = default;  // empty: there is none
  explicit Secret(absl::string_view text) : text_(text) {}
  explicit Secret(const char* text) : text_(text) {}
  explicit Secret(std::string&& text);  // wipes what it leaves in `text`

  // One with names in it. `pieces`: text, a name, text, a name, …, text. `text`: what it is with the contents of these
  // files; "" until they have been read.
  Secret(std::vector<std::string> pieces, Secret text);

  Secret(const Secret&) = default;
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret other) noexcept;
  ~Secret() { Wipe(); }

  bool empty() const { return text_.empty() && pieces_.empty(); }  // nothing was written
  bool known() const { return pieces_.empty() || !text_.empty(); }
  std::vector<absl::string_view> names() const;

  // The text; "" unless known(). For the library that needs it, and nobody else.
  const std::string& Reveal() const { return text_; }

  // As it was written, to be read again: `encode` writes what is text. Or with `masked` the same with "***" for that: a
  // name is none.
  std::string Written(bool masked, absl::FunctionRef<std::string(absl::string_view)> encode) const;

  // Takes as long wherever they differ; their lengths can be told.
  friend bool operator==(const Secret& one, const Secret& other);

  // Else Abseil would print nothing, and GoogleTest the bytes.
  friend std::ostream& operator<<(std::ostream&, const Secret&) = delete;
  friend void PrintTo(const Secret&, std::ostream*) = delete;
  template <typename Sink>
  friend void AbslStringify(Sink&, const Secret&) = delete;

 private:
  void Wipe();

  std::string text_;
  std::vector<std::string> pieces_;  // empty: no names
};

// What the files of --secrets hold, by name; an empty one has not been read.
using NamedSecrets = std::map<std::string, Secret, std::less<>>;

inline constexpr absl::string_view kSecretBegin = "${secret:";

// Whether a file of --secrets may be called so: 1 to 255 of A-Z a-z 0-9 _ . -, without "..".
bool IsSecretName(absl::string_view name);

// "${secret:NAME}"
std::string SecretReference(absl::string_view name);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_SECRET_H_
