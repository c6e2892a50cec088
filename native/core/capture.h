// A step that is queued once and replayed: on a device, what JavaScript queues between begin and end is kept as a graph.
//
// The graph has the addresses of everything that the step touched. What was born inside lives in memory of the capture's own,
// scratch too, so that no replay writes into what others have been given since; what it read from outside (inputs,
// parameters, optimizer state) must live on. Nothing in the step may wait for the device.
#pragma once
#include <memory>
#include <vector>

#include "core/session.h"

namespace cambium {

class Capture {
 public:
  explicit Capture(Session& session);  // E_UNSUPPORTED on the CPU; begins
  ~Capture();                          // waits for the device
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // Ends: `outputs` are what a replay leaves behind; everything else born inside must be gone. @throws E_CAPTURE
  void end(const std::vector<Tensor>& outputs);
  void give_up();  // ends without a graph
  void replay();
  const std::vector<Tensor>& outputs() const { return outputs_; }

 private:
  struct Recorded;
  void stop_recording();
  Session& session_;
  std::unique_ptr<Memory> memory_;
  std::shared_ptr<Recorded> recorded_;  // of the stream's thread
  std::vector<Tensor> outputs_;
  bool recording_ = true;
};

}  // namespace cambium
