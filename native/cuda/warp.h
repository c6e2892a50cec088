// What a warp does as one: matrix products on tensor cores, loading of their operands, asynchronous copies. PTX for a GPU
// (compute capability 8.0 and later), the same on the lanes of emulation/ otherwise. All 32 lanes take part in mma_* and
// load_matrix_*.
//
// Fragments, lane = 4·g + t (g = lane / 4 in [0,8), t = lane % 4):
//   mma_bf16  D[16,8] += A[16,16] B[16,8], f32 sums:
//     a[0] = A[g][2t, 2t+1]      a[1] = A[g+8][2t, 2t+1]      a[2] = A[g][2t+8, 2t+9]   a[3] = A[g+8][2t+8, 2t+9]   (pairs, the first in the low half)
//     b[0] = B[2t, 2t+1][g]      b[1] = B[2t+8, 2t+9][g]
//     d[0] = D[g][2t]  d[1] = D[g][2t+1]  d[2] = D[g+8][2t]  d[3] = D[g+8][2t+1]
//   mma_tf32  D[16,8] += A[16,8] B[8,8], operands f32 bits of which the upper 19 count:
//     a[0] = A[g][t]  a[1] = A[g+8][t]  a[2] = A[g][t+4]  a[3] = A[g+8][t+4];   b[0] = B[t][g]  b[1] = B[t+4][g];   d as above
//   load_matrix_x4: four 8×8 matrices of 16-bit elements; lane l gives the address (shared memory, 16-byte aligned) of row
//     l % 8 of matrix l / 8; out[i] = row g, elements 2t and 2t+1 of matrix i. Transposed: elements 2t and 2t+1 of column g.
#pragma once
#include "cuda/launch.h"

namespace cambium {
namespace cuda {

#if !defined(CAMBIUM_CUDA_EMULATED)

__device__ inline uint32_t shared_address(const void* at) { return uint32_t(__cvta_generic_to_shared(at)); }

__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The nearest number with 10 bits of fraction; halves go away from zero.
__device__ inline float round_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
}

__device__ inline void load_matrix_x4(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ inline void load_matrix_x4_transposed(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

// 16 bytes from global to shared memory, both aligned to 16, of which the first `bytes` are copied and the rest zeros.
__device__ inline void copy_async(void* to_shared, const void* from, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to_shared)), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void commit_async() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Until at most `kLeft` of the groups committed last are under way. Other threads see the rest after a barrier.
template <int kLeft>
__device__ inline void wait_async() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}

#else

namespace emulated {

struct Product {
  float* d;
  const uint32_t *a, *b;
};

inline float low_half(uint32_t x) { return __uint_as_float(x << 16); }
inline float high_half(uint32_t x) { return __uint_as_float(x & 0xffff0000u); }

template <int K, class A, class B>
void multiply(void* const* lanes, const A& a_of, const B& b_of) {
  float a[16][K], b[K][8];
  for (int l = 0; l < 32; ++l) {
    const Product& p = *static_cast<Product*>(lanes[l]);
    a_of(p.a, l / 4, l % 4, a);
    b_of(p.b, l / 4, l % 4, b);
  }
  for (int l = 0; l < 32; ++l) {
    float* const d = static_cast<Product*>(lanes[l])->d;
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
      float sum = 0;
      for (int k = 0; k < K; ++k) sum += a[row][k] * b[k][column];
      d[i] += sum;
    }
  }
}

inline void product_bf16(void* const* lanes) {
  multiply<16>(
      lanes,
      [](const uint32_t* x, int g, int t, float (&a)[16][16]) {
        for (int i = 0; i < 4; ++i) {
          float* const at = &a[g + i % 2 * 8][2 * t + i / 2 * 8];
          at[0] = low_half(x[i]), at[1] = high_half(x[i]);
        }
      },
      [](const uint32_t* x, int g, int t, float (&b)[16][8]) {
        for (int i = 0; i < 2; ++i) b[2 * t + 8 * i][g] = low_half(x[i]), b[2 * t + 8 * i + 1][g] = high_half(x[i]);
      });
}

inline void product_tf32(void* const* lanes) {
  const auto value = [](uint32_t x) { return __uint_as_float(x & 0xffffe000u); };
  multiply<8>(
      lanes,
      [&](const uint32_t* x, int g, int t, float (&a)[16][8]) {
        for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 4] = value(x[i]);
      },
      [&](const uint32_t* x, int g, int t, float (&b)[8][8]) {
        for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = value(x[i]);
      });
}

struct Load {
  const void* row;
  uint32_t* out;
};

template <bool kTransposed>
void load(void* const* lanes) {
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < 4; ++i) {
      uint16_t pair[2];
      for (int e = 0; e < 2; ++e) {
        const int row = kTransposed ? l % 4 * 2 + e : l / 4, column = kTransposed ? l / 4 : l % 4 * 2 + e;
        pair[e] = static_cast<const uint16_t*>(static_cast<Load*>(lanes[i * 8 + row])->row)[column];
      }
      static_cast<Load*>(lanes[l])->out[i] = pair[0] | uint32_t{pair[1]} << 16;
    }
  }
}

}  // namespace emulated

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::Product p{d, a, b};
  emulation::warp_collective(0xffffffffu, emulated::product_bf16, &p);
}
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::Product p{d, a, b};
  emulation::warp_collective(0xffffffffu, emulated::product_tf32, &p);
}
inline float round_tf32(float x) { return std::isfinite(x) ? __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xffffe000u) : x; }
inline void load_matrix_x4(uint32_t (&out)[4], const void* row) {
  emulated::Load l{row, out};
  emulation::warp_collective(0xffffffffu, emulated::load<false>, &l);
}
inline void load_matrix_x4_transposed(uint32_t (&out)[4], const void* row) {
  emulated::Load l{row, out};
  emulation::warp_collective(0xffffffffu, emulated::load<true>, &l);
}
inline void copy_async(void* to_shared, const void* from, int bytes = 16) { emulation::copy_later(to_shared, from, size_t(bytes), size_t(16 - bytes)); }
inline void commit_async() { emulation::commit_copies(); }
template <int kLeft>
inline void wait_async() {
  emulation::wait_for_copies(kLeft);
}

#endif

}  // namespace cuda
}  // namespace cambium
