// Loops over vectors of doubles, compiled for several levels and chosen by the loader where the compiler can do that.
#pragma once
#include <cstdint>

#include "cpu/parallel.h"

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
#define CAMBIUM_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define CAMBIUM_CLONES
#endif

namespace cambium {

// Sums run in 16 lanes that are added in one order: the same bits for the same length.
double dot(const double* a, const double* b, int64_t n);
void add_scaled(double* y, const double* x, int64_t n, double factor);  // y += factor · x
void scale(double* x, int64_t n, double factor);
// (a, b) <- (c a - s b, s a + c b)
void rotate(double* a, double* b, int64_t n, double c, double s);

// parallel_for, but inline where waking a thread would cost more than the work, `flops` in all.
template <class F>
void spread(int64_t tasks, int64_t flops, const F& f) {
  if (flops >= (1 << 19)) return parallel_for(tasks, f);
  for (int64_t i = 0; i < tasks; ++i) f(i);
}

}  // namespace cambium
