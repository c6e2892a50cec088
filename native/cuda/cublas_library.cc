// Finding cuBLASLt: where toolkits, drivers' packages and Python environments put it.
#include <dlfcn.h>
#include <glob.h>

#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/cublas_library.h"

namespace cambium {
namespace cuda {
namespace {

constexpr size_t kLeastVersion = 120000;  // what cublas_lt.h declares

// Files in the order in which they are tried; names without a folder are the loader's business.
std::vector<std::string> places(const char* path) {
  std::vector<std::string> out;
  if (path) out.push_back(path);
  std::vector<std::string> folders;
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const char* folder = std::getenv(variable)) folders.push_back(std::string(folder) + "/lib64/");
  folders.insert(folders.end(), {"", "/usr/local/cuda/lib64/"});
  for (const std::string& folder : folders)
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) out.push_back(folder + name);
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    const char* const root = std::getenv(variable);
    if (!root) continue;
    for (const char* package : {"cu13", "cublas"}) {
      glob_t found{};
      const std::string pattern = std::string(root) + "/lib/python3*/site-packages/nvidia/" + package + "/lib/libcublasLt.so.1[0-9]";
      if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; ++i) out.push_back(found.gl_pathv[i]);
      globfree(&found);
    }
  }
  return out;
}

template <class F>
bool bind(void* library, const char* name, F** entry) {
  *entry = reinterpret_cast<F*>(dlsym(library, (std::string("cublasLt") + name).c_str()));
  return *entry != nullptr;
}

bool bind_all(void* library, lt::Library* out) {
  return bind(library, "GetVersion", &out->GetVersion) && bind(library, "Create", &out->Create) &&
         bind(library, "MatmulDescCreate", &out->MatmulDescCreate) && bind(library, "MatmulDescDestroy", &out->MatmulDescDestroy) &&
         bind(library, "MatmulDescSetAttribute", &out->MatmulDescSetAttribute) && bind(library, "MatrixLayoutCreate", &out->MatrixLayoutCreate) &&
         bind(library, "MatrixLayoutDestroy", &out->MatrixLayoutDestroy) && bind(library, "MatmulPreferenceCreate", &out->MatmulPreferenceCreate) &&
         bind(library, "MatmulPreferenceDestroy", &out->MatmulPreferenceDestroy) &&
         bind(library, "MatmulPreferenceSetAttribute", &out->MatmulPreferenceSetAttribute) &&
         bind(library, "MatmulAlgoGetHeuristic", &out->MatmulAlgoGetHeuristic) && bind(library, "Matmul", &out->Matmul);
}

// Opens the first library that will do; else `where` says what was wrong with the last one that is there.
bool load(const char* path, Cublas* out, char* where, size_t size) {
  snprintf(where, size, "no cuBLASLt was found; CAMBIUM_CUBLAS names its file");
  for (const std::string& place : places(path)) {
    void* const library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      if (path && place == path) snprintf(where, size, "CAMBIUM_CUBLAS: %.120s", dlerror());
      continue;
    }
    lt::Library entries{};
    lt::Handle handle = nullptr;
    const size_t version = bind_all(library, &entries) ? entries.GetVersion() : 0;
    if (version >= kLeastVersion && entries.Create(&handle) == 0) {
      *out = {entries, handle};
      // 130000 is 13.0.0; older ones count 120205.
      snprintf(where, size, "cuBLASLt %zu.%zu from %.100s", version / 10000, version % 10000 / 100, place.c_str());
      return true;
    }
    snprintf(where, size, version < kLeastVersion ? "expected cuBLASLt 12 or newer, got another: %.80s" : "cuBLASLt fails to start: %.80s", place.c_str());
    dlclose(library);
  }
  return false;
}

// Plain data: nothing is freed when the process ends.
Cublas opened;
char found[160];

}  // namespace

const Cublas& cublas() { return opened; }

void open_cublas(Device& device, const char* path) {
  static std::mutex once;
  std::lock_guard<std::mutex> lock(once);
  const char* const asked = std::getenv("CAMBIUM_PRODUCTS");
  const bool wanted = !asked || std::string(asked) != "own";
  if (wanted && !opened.handle) load(path, &opened, found, sizeof found);
  snprintf(device.products, sizeof device.products, opened.handle ? "own, and %.140s" : "own (%.140s)", wanted || opened.handle ? found : "CAMBIUM_PRODUCTS");
}

}  // namespace cuda
}  // namespace cambium
