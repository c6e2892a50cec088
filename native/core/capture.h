// A step that is queued once and replayed: on a device, what JavaScript queues between enter() and leave() is kept as a graph, one for
// each shape of its inputs.
//
// A graph has the addresses of everything that the step touched. What was born inside lives in memory of the capture's own, scratch
// too, so that no replay writes into what others have been given since; all graphs share it, because only one of them runs at a
// time and leaves nothing there. What a step reads from outside (inputs, parameters, optimizer state) must live on. Nothing in the
// step may wait for the device.
#pragma once
#include <map>
#include <memory>

#include "core/session.h"

namespace cambium {

class Capture {
 public:
  explicit Capture(Session& session);  // E_UNSUPPORTED on the CPU
  ~Capture();                          // waits for the device
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // What is born from here on lives in the capture's memory. `record`: what is queued is kept and does not run. @throws E_CAPTURE
  // inside another
  void enter(bool record);
  struct Left {
    uint64_t written;  // a fingerprint of all that the host wrote inside
    int64_t graph;     // its number; 0 when nothing was recorded
  };
  // Ends. Of what is recorded, everything born inside must be gone; waits until the graph is there. @throws E_CAPTURE, and there is none
  Left leave();
  void give_up();  // ends without a graph, if inside
  void replay(int64_t graph);
  void forget(int64_t graph);  // waits for the device

 private:
  struct Recording;
  uint64_t stop();
  Session& session_;
  std::unique_ptr<Memory> memory_;
  std::shared_ptr<Stream::Arena> scratch_;   // of the stream's thread
  std::shared_ptr<Recording> inside_;        // between enter() and leave()
  std::map<int64_t, CbGraph*> graphs_;
  int64_t last_ = 0;
};

}  // namespace cambium
