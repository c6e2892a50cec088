// Capturing what is queued as a CUDA graph, and replaying it.
#include "cuda/device.h"

namespace cambium {
namespace cuda {
namespace {

Device& of(CbDevice* device) { return *static_cast<Device*>(device); }

void release_graph(CbDevice* device, CbGraph* graph) {
  cudaStreamSynchronize(of(device).queue());  // a replay may be under way
  if (graph->ready) cudaGraphExecDestroy(graph->ready);
  if (graph->graph) cudaGraphDestroy(graph->graph);
  for (char* kept : graph->kept) cudaFreeHost(kept);
  delete graph;
}

int begin_capture(CbDevice* device) {
  Device& d = of(device);
  std::lock_guard<std::mutex> guard(d.releasing);
  // Relaxed: JavaScript's thread may take memory meanwhile.
  const cudaError_t error = cudaStreamBeginCapture(d.queue(), cudaStreamCaptureModeRelaxed);
  if (error == cudaSuccess) d.capturing = new CbGraph;
  return d.result(error, "cudaStreamBeginCapture");
}

int end_capture(CbDevice* device, CbGraph** graph) {
  Device& d = of(device);
  CbGraph* const made = d.capturing;
  *graph = nullptr;
  cudaError_t error = cudaStreamEndCapture(d.queue(), &made->graph);
  {
    std::lock_guard<std::mutex> guard(d.releasing);
    d.capturing = nullptr;
    for (void* data : d.released) free_memory(d, data);
    d.released.clear();
  }
  const char* const call = error == cudaSuccess ? "cudaGraphInstantiate" : "cudaStreamEndCapture";
  if (error == cudaSuccess) error = cudaGraphInstantiate(&made->ready, made->graph, 0);
  if (error == cudaSuccess) {
    *graph = made;
    return CB_OK;
  }
  release_graph(device, made);
  return d.fail(error, call);
}

int replay(CbDevice* device, CbGraph* graph) { return of(device).result(cudaGraphLaunch(graph->ready, of(device).queue()), "cudaGraphLaunch"); }

}  // namespace

void bind_graphs(Device& device) {
  device.begin_capture = begin_capture;
  device.end_capture = end_capture;
  device.replay = replay;
  device.release_graph = release_graph;
}

}  // namespace cuda
}  // namespace cambium
