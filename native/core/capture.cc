#include "core/capture.h"

#include <future>

namespace cambium {
namespace {

// Segments are tensors of the session's memory: they count in what is live and in the budget. None is given back before the end,
// as graphs may write there.
SegmentSource segments_in(Memory& memory) {
  return {&memory, [](void* owner, size_t bytes) { return static_cast<Memory*>(owner)->allocate(bytes, "captured step"); },
          [](void* owner, void* data) { static_cast<Memory*>(owner)->release(data); }, nullptr};
}

}  // namespace

// Of the stream's thread, until `done`.
struct Capture::Recording {
  explicit Recording(bool on) : record(on) {}
  const bool record;
  bool begun = false;
  CbGraph* graph = nullptr;
  std::string why;  // there is no graph
  Stream::Arena usual;
  std::promise<void> done;
};

Capture::Capture(Session& session)
    : session_(session), memory_(new Memory(segments_in(session.memory()))), scratch_(std::make_shared<Stream::Arena>()) {
  if (!session.device()) fail("E_UNSUPPORTED", "capture: expected a device other than the CPU, got the CPU");
}

void Capture::enter(bool record) {
  session_.enter_place(memory_.get());
  CbDevice* const device = session_.device();
  Stream* const stream = &session_.stream();
  inside_ = std::make_shared<Recording>(record);
  stream->in_turn([device, stream, scratch = scratch_, r = inside_](const Failure& failure) {
    r->usual = stream->swap_scratch(std::move(*scratch), true);
    if (!r->record) return;
    r->why = failure.message;
    if (failure) return;
    stream->reach_all();
    r->begun = device->begin_capture(device) == CB_OK;
    if (!r->begun) r->why = device->message;
  });
}

uint64_t Capture::stop() {
  CbDevice* const device = session_.device();
  Stream* const stream = &session_.stream();
  stream->in_turn([device, stream, scratch = scratch_, r = inside_](const Failure& failure) {
    if (r->begun && device->end_capture(device, &r->graph) != CB_OK) r->why = device->message;
    if (r->graph && failure) {  // what came after it was skipped, and is not in the graph
      device->release_graph(device, r->graph);
      r->graph = nullptr;
      r->why = failure.message;
    }
    *scratch = stream->swap_scratch(std::move(r->usual), false);
    r->done.set_value();
  });
  return session_.leave_place();
}

Capture::Left Capture::leave() {
  if (!inside_) fail("E_CAPTURE", "capture: expected a step that was begun, got none");
  const size_t live = memory_->use().live;
  const uint64_t written = stop();
  const std::shared_ptr<Recording> r = std::move(inside_);
  inside_ = nullptr;
  if (!r->record) return {written, 0};
  r->done.get_future().wait();
  if (!r->graph) fail("E_CAPTURE", "capture: expected a step that the device can record, got: %s", r->why.c_str());
  graphs_[++last_] = r->graph;
  if (live > 0) {
    forget(last_);
    fail("E_CAPTURE", "capture: expected all that is born inside to end there, gradients too, got %zu bytes that live on", live);
  }
  return {written, last_};
}

void Capture::give_up() {
  if (!inside_) return;
  stop();
  const std::shared_ptr<Recording> r = std::move(inside_);
  inside_ = nullptr;
  r->done.get_future().wait();
  if (r->graph) session_.device()->release_graph(session_.device(), r->graph);
}

void Capture::replay(int64_t number) {
  const auto it = graphs_.find(number);
  if (it == graphs_.end()) fail("E_HANDLE", "capture: expected a graph that was recorded, got another");
  session_.stream().enqueue("replay", [device = session_.device(), graph = it->second](CbContext* context) {
    const int status = device->replay(device, graph);
    if (status != CB_OK) std::snprintf(context->message, 256, "%.255s", device->message);
    return status;
  });
}

void Capture::forget(int64_t number) {
  const auto it = graphs_.find(number);
  if (it == graphs_.end()) return;
  session_.stream().drain();  // a replay may be queued
  session_.device()->release_graph(session_.device(), it->second);
  graphs_.erase(it);
}

Capture::~Capture() {
  give_up();
  session_.stream().in_turn([stream = &session_.stream(), scratch = scratch_](const Failure&) { stream->give_back(std::move(*scratch)); });
  session_.stream().drain();
  while (!graphs_.empty()) forget(graphs_.begin()->first);
  session_.retire(std::move(memory_));
}

}  // namespace cambium
