#include "cores.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace cambium {
namespace {

int hardware_threads() { return std::max(1, int(std::thread::hardware_concurrency())); }

#if defined(__linux__)
// Threads of one core share their list of siblings: the number of different lists is the number of cores.
int cores_in_affinity_mask() {
  constexpr int kMostCpus = 8192;
  const size_t bytes = CPU_ALLOC_SIZE(kMostCpus);
  cpu_set_t* mask = CPU_ALLOC(kMostCpus);
  if (!mask) return hardware_threads();
  CPU_ZERO_S(bytes, mask);
  std::set<std::string> cores;
  if (sched_getaffinity(0, bytes, mask) == 0) {
    for (int cpu = 0; cpu < kMostCpus; ++cpu) {
      if (!CPU_ISSET_S(cpu, bytes, mask)) continue;
      std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      std::string siblings;
      if (!std::getline(file, siblings)) siblings = std::to_string(cpu);
      cores.insert(siblings);
    }
  }
  CPU_FREE(mask);
  return cores.empty() ? hardware_threads() : int(cores.size());
}

// CPUs' worth of time that a file like "150000 100000" (cgroup v2, cpu.max) allows; 0 when it sets no limit.
double quota_in(const std::string& path) {
  std::ifstream file(path);
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::atof(quota.c_str()) / period;
}

double legacy_quota() {  // cgroup v1
  double quota = 0, period = 0;
  std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
  std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

// The smallest limit on the way from the process's group to the root; 0 when there is none.
double cgroup_quota() {
  double smallest = legacy_quota();
  const auto take = [&](double q) {
    if (q > 0 && (smallest == 0 || q < smallest)) smallest = q;
  };
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {
    if (line.compare(0, 3, "0::") != 0) continue;
    std::string group = line.substr(3);
    while (group.size() > 1) {
      take(quota_in("/sys/fs/cgroup" + group + "/cpu.max"));
      group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
    }
  }
  take(quota_in("/sys/fs/cgroup/cpu.max"));
  return smallest;
}
#endif

}  // namespace

int usable_cores() {
#if defined(__linux__)
  const int cores = cores_in_affinity_mask();
  const double quota = cgroup_quota();
  return std::max(1, quota > 0 ? std::min(cores, int(std::ceil(quota))) : cores);
#else
  return hardware_threads();
#endif
}

}  // namespace cambium
