#include "core/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace cambium {

namespace {

SegmentSource segments_of(CbDevice* device) {
  return {device, [](void* owner, size_t bytes) {
            auto* d = static_cast<CbDevice*>(owner);
            return d->allocate(d, bytes);
          },
          [](void* owner, void* data) {
            auto* d = static_cast<CbDevice*>(owner);
            d->release(d, data);
          },
          [](void* owner) -> std::string {
            auto* d = static_cast<CbDevice*>(owner);
            size_t free = 0, total = 0;
            if (d->memory(d, &free, &total) != CB_OK) return "";
            return "; " + std::string(d->name) + " has " + std::to_string(free) + " of " + std::to_string(total) + " free";
          }};
}

}  // namespace

Session::Session(const Backend* backend) : Session(nullptr, backend, kHostSegments) {}

Session::Session(CbDevice* device) : Session(std::unique_ptr<CbDevice, Close>(device), device->backend, segments_of(device)) {}

Session::Session(std::unique_ptr<CbDevice, Close> device, const Backend* backend, const SegmentSource& segments)
    : device_(std::move(device)),
      backend_(backend),
      memory_(segments),
      stream_(new Stream(device_.get(), device_ ? segments : kHostScratch, [this](size_t bytes) { memory_.scratch = bytes; })),
      tape_(*this) {
  memory_.wait_for_stream = [this] {
    // A failure met here belongs to whoever waits next.
    stream_->drain();
  };
}

Session::~Session() {
  // Nothing may run on memory that goes away: the stream stops first, then tensors, then segments.
  tape_.clear();
  stream_->stop();
  handles_.clear();
}

void Session::told(const Failure& failure) {
  if (failure.number <= told_) return;  // several may wait for the same
  told_ = failure.number;
  drop_gradients();
  stream_->forget(failure.number);
}

Tensor Session::empty(const Shape& shape, DType type, const char* what) {
  if (!retired_.empty()) sweep();
  auto tensor = std::make_shared<TensorData>();
  tensor->storage = std::make_shared<Storage>(place_, stream_.get(), static_cast<size_t>(shape.count()) * size_of(type), what);
  tensor->shape = shape;
  tensor->dtype = type;
  tensor->uid = next_uid_++;
  return tensor;
}

Tensor Session::full(const Shape& shape, float value) {
  Tensor t = empty(shape, DType::f32, "full");
  std::string bytes(static_cast<size_t>(t->count()) * 4, '\0');
  for (int64_t i = 0; i < t->count(); ++i) std::memcpy(&bytes[static_cast<size_t>(i) * 4], &value, 4);
  write(t, bytes.data(), bytes.size());
  return t;
}

Tensor Session::view(const Tensor& t, const Shape& shape) {
  if (shape.count() != t->count()) fail("E_SHAPE", "reshape: expected %lld elements, got %s", static_cast<long long>(t->count()), shape.text().c_str());
  auto out = std::make_shared<TensorData>();
  out->storage = t->storage;
  out->offset = t->offset;
  out->shape = shape;
  out->dtype = t->dtype;
  out->uid = next_uid_++;
  return out;
}

Tensor Session::slice(const Tensor& t, int64_t first, int64_t count) {
  const int64_t rows = t->shape.rank() > 0 ? t->shape[0] : 0;
  if (first < 0 || count < 0 || first > rows - count)
    fail("E_SHAPE", "slice_rows: expected part of %lld rows, got [%lld, %lld)", static_cast<long long>(rows), static_cast<long long>(first), static_cast<long long>(first + count));
  Shape shape;
  for (int i = 0; i < t->shape.rank(); ++i) shape.push(i == 0 ? count : t->shape[i]);
  const int64_t elements = rows > 0 ? t->count() / rows : 0;
  auto out = std::make_shared<TensorData>(*t);
  out->offset = t->offset + static_cast<size_t>(first * elements) * size_of(t->dtype);
  out->shape = shape;
  out->uid = next_uid_++;
  out->requires_grad = out->leaf = false;
  out->gradient.reset();
  return out;
}

void Session::write(const Tensor& t, const void* host, size_t bytes) {
  const size_t expected = static_cast<size_t>(t->count()) * size_of(t->dtype);
  if (bytes != expected) fail("E_SHAPE", "write: expected %zu bytes for %s %s, got %zu", expected, name_of(t->dtype), t->shape.text().c_str(), bytes);
  touched(t);
  if (written_)
    for (size_t i = 0; i < bytes; ++i) written_ = (written_ ^ static_cast<const uint8_t*>(host)[i]) * 1099511628211u;
  auto held = std::make_shared<std::string>(static_cast<const char*>(host), bytes);
  stream_->enqueue("write", [this, held, to = t->data(), bytes](CbContext* context) { return send(context, to, held->data(), bytes); });
}

void Session::enter_place(Memory* place) {
  if (place_ != &memory_) fail("E_CAPTURE", "capture: expected a step outside of other captured steps, got one inside");
  place_ = place;
  written_ = 14695981039346656037u;
}

uint64_t Session::leave_place() {
  place_ = &memory_;
  return std::exchange(written_, 0);
}

void Session::retire(std::unique_ptr<Memory> place) {
  retired_.push_back(std::move(place));
  sweep();
}

void Session::sweep() {
  retired_.erase(std::remove_if(retired_.begin(), retired_.end(), [](const auto& each) { return each->use().live == 0; }), retired_.end());
}

int Session::send(CbContext* context, void* to, const void* from, size_t bytes) {
  if (device_) return context->upload(context, to, from, bytes);
  const copy_args args{static_cast<int64_t>(bytes), from, to};
  return backend_->copy(context, &args);
}

int Session::fetch(CbContext* context, void* to, const void* from, size_t bytes) {
  if (device_) return device_->download(device_.get(), to, from, bytes);
  const copy_args args{static_cast<int64_t>(bytes), from, to};
  return backend_->copy(context, &args);
}

void Session::zero(const Tensor& t) {
  touched(t);
  run("zero", backend_->fill, fill_args{static_cast<int64_t>(t->count() * static_cast<int64_t>(size_of(t->dtype))), 0, t->data()});
}

void Session::cast_into(const Tensor& from, const Tensor& to, bool accumulate) {
  if (from->count() != to->count()) fail("E_SHAPE", "cast: expected %s, got %s", to->shape.text().c_str(), from->shape.text().c_str());
  touched(to);
  run("cast", backend_->cast,
      cast_args{from->count(), from->data(), static_cast<int32_t>(from->dtype), static_cast<int32_t>(to->dtype), accumulate, to->data()});
}

}  // namespace cambium
