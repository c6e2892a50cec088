// Lets the addon run on glibc 2.28, which Node itself asks for, when it is built on a newer one: what glibc gained since and the
// headers or the static libstdc++ use is defined here, hidden, in terms of older calls. Functions that only got a newer version
// are bound to their old one by the stand-ins of CMakeLists.txt. A test reads the versions that the built addon asks for.
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#include <features.h>
#endif
#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 29)  // not where the compiler aims at an old glibc itself
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

extern "C" {

char __libc_single_threaded = 0;  // 2.32. False: libstdc++ counts references atomically, always

// 2.33; inline functions of the headers before. The kernel's struct stat is glibc's on 64 bits.
int fstat(int fd, struct stat* out) { return static_cast<int>(syscall(SYS_fstat, fd, out)); }
int fstat64(int fd, struct stat64* out) { return static_cast<int>(syscall(SYS_fstat, fd, out)); }

// 2.36; std::random_device of libstdc++ names it. Up to 256 bytes come whole or, only before the system has any entropy, not yet.
uint32_t arc4random() {
  uint32_t value = 0;
  while (getrandom(&value, sizeof value, 0) != sizeof value) continue;
  return value;
}

}  // extern "C"
#endif
#endif
