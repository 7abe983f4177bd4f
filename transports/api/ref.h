// Ref<T>: an intrusive shared pointer, one word wide; T derives from RefCounted.
//
// Chosen over std::shared_ptr because a reference to a message, an endpoint or a subscription is taken on the hot path:
// one word, no control block, and the object itself decides where its last reference is dropped (Endpoint: on its
// loop).
#ifndef EVENTVIRTUAL_TRANSPORTS_API_REF_H_
#define EVENTVIRTUAL_TRANSPORTS_API_REF_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace eventvirtual {

// Starts with one reference, which AdoptRef() takes over. Any thread.
class RefCounted {
 public:
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  // Several at once cost as much as one.
  void AddRef(uint32_t count = 1) const { references_.fetch_add(count, std::memory_order_relaxed); }
  // How many there are at this moment: for who proves that none is lost, never to decide by.
  uint32_t references() const { return references_.load(std::memory_order_acquire); }
  void DropRef(uint32_t count = 1) const {
    if (references_.fetch_sub(count, std::memory_order_acq_rel) == count) const_cast<RefCounted*>(this)->OnLastRef();
  }

 protected:
  RefCounted() = default;
  virtual ~RefCounted() = default;

  // Called once, on the thread that dropped the last reference.
  virtual void OnLastRef() { delete this; }

 private:
  mutable std::atomic<uint32_t> references_{1};
};

template <typename T>
class Ref {
 public:
  Ref() = default;
  Ref(std::nullptr_t) {}  // NOLINT: a null reference reads like a null pointer
  explicit Ref(T* object) : object_(object) {
    if (object_ != nullptr) object_->AddRef();
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  template <typename U>
  Ref(Ref<U> other) : object_(other.Release()) {}  // NOLINT: a derived reference converts like a derived pointer
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr) object_->DropRef();
  }

  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }
  friend bool operator==(const Ref& a, const Ref& b) { return a.object_ == b.object_; }

  // Gives the reference up without dropping it.
  T* Release() { return std::exchange(object_, nullptr); }

 private:
  template <typename U>
  friend Ref<U> AdoptRef(U* object);
  T* object_ = nullptr;
};

// Takes over the reference that a new object is born with.
template <typename T>
Ref<T> AdoptRef(T* object) {
  Ref<T> ref;
  ref.object_ = object;
  return ref;
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_REF_H_
