// Choices: the bytes of an input, as the choices of a story.
#ifndef EVENTVIRTUAL_TESTS_FUZZ_CHOICES_H_
#define EVENTVIRTUAL_TESTS_FUZZ_CHOICES_H_

#include <cstddef>
#include <cstdint>

namespace eventvirtual {

// When they are used up, all further ones are 0.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool done() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  size_t Below(size_t end) {  // of three bytes; end > 0
    size_t number = Byte();
    number = number << 8 | Byte();
    return (number << 8 | Byte()) % end;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_FUZZ_CHOICES_H_
