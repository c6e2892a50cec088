#include "core/capture.h"

namespace cambium {

struct Capture::Recorded {
  CbGraph* graph = nullptr;
  bool begun = false;
  Stream::Arena scratch, usual;
};

Capture::Capture(Session& session)
    : session_(session), memory_(new Memory(session.memory().source())), recorded_(std::make_shared<Recorded>()) {
  CbDevice* const device = session.device();
  if (!device) fail("E_UNSUPPORTED", "capture: expected a device other than the CPU, got the CPU");
  Stream* const stream = &session.stream();
  stream->in_turn([device, stream, recorded = recorded_](const Failure& failure) {
    if (failure) return;
    stream->reach_all();
    recorded->usual = stream->swap_scratch({}, true);
    recorded->begun = device->begin_capture(device) == CB_OK;
  });
  session.set_place(memory_.get());
}

void Capture::stop_recording() {
  if (!recording_) return;
  recording_ = false;
  session_.set_place(nullptr);
  CbDevice* const device = session_.device();
  Stream* const stream = &session_.stream();
  stream->in_turn([device, stream, recorded = recorded_](const Failure&) {
    if (!recorded->begun) return;
    device->end_capture(device, &recorded->graph);
    recorded->scratch = stream->swap_scratch(std::move(recorded->usual), false);
  });
}

void Capture::end(const std::vector<Tensor>& outputs) {
  stop_recording();
  size_t kept = 0;
  for (const Tensor& t : outputs) {
    if (t->storage->memory != memory_.get()) fail("E_CAPTURE", "capture: expected outputs born inside, got one from outside");
    kept += (t->storage->bytes + 63) / 64 * 64;
  }
  if (memory_->use().live != kept)
    fail("E_CAPTURE", "capture: expected all that is born inside to end there (gradients too), but for the outputs; %zu bytes live on", memory_->use().live - kept);
  outputs_ = outputs;
}

void Capture::give_up() { stop_recording(); }

void Capture::replay() {
  session_.stream().enqueue("replay", [device = session_.device(), recorded = recorded_](CbContext* context) {
    if (recorded->graph) {
      const int status = device->replay(device, recorded->graph);
      if (status != CB_OK) std::snprintf(context->message, 255, "%s", device->message);
      return status;
    }
    std::snprintf(context->message, 255, "expected a captured step, got none (%.200s)", device->message);
    return static_cast<int>(CB_DEVICE);
  });
}

Capture::~Capture() {
  stop_recording();
  session_.stream().drain();
  outputs_.clear();
  // Somebody holds on to what end() complained of: its memory must not go under it.
  if (memory_->use().live > 0) memory_.release();
  CbDevice* const device = session_.device();
  if (recorded_->graph) device->release_graph(device, recorded_->graph);
  for (auto& [data, bytes] : recorded_->scratch) device->release(device, data);
}

}  // namespace cambium
