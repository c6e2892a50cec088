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

bool load(const char* path, lt::Library* out, std::string* where) {
#if defined(CAMBIUM_CUDA_EMULATED)
  if (path && std::string(path) == "emulated") {
    *out = lt::kEmulated;
    *where = path;
    return true;
  }
#endif
  for (const std::string& place : places(path)) {
    void* const library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) continue;
    if (bind_all(library, out)) {
      *where = place;
      return true;
    }
    dlclose(library);
  }
  return false;
}

Cublas opened;  // plain data: nothing is freed when the process ends

}  // namespace

const Cublas& cublas() { return opened; }

void open_cublas(Device& device, const char* path) {
  static std::mutex once;
  static std::string where;
  std::lock_guard<std::mutex> lock(once);
  const char* const asked = std::getenv("CAMBIUM_PRODUCTS");
  const bool wanted = !asked || std::string(asked) != "own";
  if (wanted && !opened.handle) {
    lt::Library library{};
    lt::Handle handle = nullptr;
    if (load(path, &library, &where) && library.Create(&handle) == 0) {
      opened.library = library;
      opened.handle = handle;
    }
  }
  if (!opened.handle) {
    snprintf(device.products, sizeof device.products, "own (%s)", wanted ? "no cuBLASLt was found; CAMBIUM_CUBLAS names its file" : "CAMBIUM_PRODUCTS");
    return;
  }
  const size_t version = opened.library.GetVersion();  // 130000 is 13.0.0; older ones count 120205
  snprintf(device.products, sizeof device.products, "own, and cuBLASLt %zu.%zu from %.100s", version / 10000, version % 10000 / 100, where.c_str());
}

}  // namespace cuda
}  // namespace cambium
