// contrastive: the symmetric multi-positive loss with margin and smoothing of args.h, tile by tile: z is made in
// registers, 64×64 at a time, wherever it is asked for, and nothing N×N is ever stored.
// Both directions share the targets ỹ_ij, whose rows sum to one and whose columns sum to c_j (not one where classes
// have different sizes and ε > 0):
//   CE of row i = lse_i − Σ_j ỹ_ij z_ij;  CE of column j = c_j · lse_j − Σ_i ỹ_ij z_ij
//   dz_ij = dy/2N · (softmax_j z_ij + c_j · softmax_i z_ij − 2 ỹ_ij); dimage = s·dz·text, dtext = s·dzᵀ·image.
// A block has a strip of 64 images and goes along the texts, or of 64 texts and along the images: the z of a pair has
// the same bits either way. Forward keeps log-sum-exps; backward makes z again, and a block sums 128 columns of the
// gradient of its strip in registers. Sums of the loss and of dscale are f64. Everything is added in order.
#include "cuda/gemm_tiles.h"
#include "cuda/kernels.h"
#include "cuda/reduce.h"
#include "cuda/tiles_f32.h"

namespace cambium {
namespace cuda {
namespace {

constexpr int kPiece = 4, kStrip = kPiece * kSide;  // of z: a thread's rows and columns, a block's
constexpr int kLine = 8, kChunk = kLine * kSide;    // columns of the gradient: a thread's, a block's
constexpr int64_t kMostParts = 32;                  // blocks that share a strip in forward

// The weights of a positive and of a negative in each row of ỹ, and the sums c of its columns: [N] each.
struct Targets {
  float *positive, *negative, *column;
};

struct Loss {
  contrastive_args f;
  Targets t;
  __device__ float s() const { return f.log_scale ? float(exp(double(*f.scale))) : *f.scale; }
  __device__ bool same(int64_t i, int64_t j) const { return f.labels[i] == f.labels[j]; }
  __device__ float wanted(int64_t i, int64_t j) const { return same(i, j) ? t.positive[i] : t.negative[i]; }
};

__global__ void weights_kernel(Loss a) {
  const int64_t i = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  if (i >= a.f.n) return;
  const int lane = threadIdx.x % kWarp;
  int count = 0;
  for (int64_t j = lane; j < a.f.n; j += kWarp) count += a.f.labels[j] == a.f.labels[i] ? 1 : 0;
  const int64_t positives = warp_sum(count), negatives = a.f.n - positives;
  if (lane != 0) return;
  const double epsilon = negatives > 0 ? double(a.f.epsilon) : 0.0;
  a.t.positive[i] = float((1.0 - epsilon) / double(positives));
  a.t.negative[i] = negatives > 0 ? float(epsilon / double(negatives)) : 0.f;
  a.t.column[i] = float(positives);
}

// Rows of one class have the same weights: column j holds |P| positives, and negatives from every other class.
__global__ void column_weights_kernel(Loss a) {
  __shared__ double room[kThreads / kWarp];
  double all = 0;
  for (int64_t i = threadIdx.x; i < a.f.n; i += kThreads) all += double(a.t.negative[i]);
  all = block_sum(all, room);
  for (int64_t j = threadIdx.x; j < a.f.n; j += kThreads) {
    const double positives = double(a.t.column[j]);
    a.t.column[j] = float(positives * double(a.t.positive[j]) + all - positives * double(a.t.negative[j]));
  }
}

// What one thread block looks along: a strip of images (rows of z) or of texts (columns).
struct Side {
  bool columns;
  const float *own, *other;
  __device__ int64_t row(int64_t mine, int64_t along) const { return columns ? along : mine; }
  __device__ int64_t column(int64_t mine, int64_t along) const { return columns ? mine : along; }
};
__device__ Side side_of(const contrastive_args& f, bool columns) {
  return {columns, columns ? f.text : f.image, columns ? f.image : f.text};
}

// sum[i][j] = the cosine of row `mine` + y·4 + i of one operand and `along` + x·4 + j of the other.
__device__ void cosines(const contrastive_args& f, const Side& side, int64_t mine, int64_t along, TileF32<kStrip>& a,
                        TileF32<kStrip>& b, float (&sum)[kPiece][kPiece]) {
  const Operand own{side.own, CB_F32, false, f.p}, other{side.other, CB_F32, false, f.p};
  Pieces<kStrip> left, right;
#pragma unroll
  for (int i = 0; i < kPiece; ++i)
#pragma unroll
    for (int j = 0; j < kPiece; ++j) sum[i][j] = 0;
  left.load(own, mine, f.n, 0, f.p), right.load(other, along, f.n, 0, f.p);
  for (int64_t k = 0; k < f.p; k += kStep) {
    left.keep(false, a), right.keep(false, b);
    __syncthreads();
    if (k + kStep < f.p) left.load(own, mine, f.n, k + kStep, f.p), right.load(other, along, f.n, k + kStep, f.p);
    multiply_step(a, b, threadIdx.x / kSide, threadIdx.x % kSide, sum);
    __syncthreads();
  }
}

// Of some z of a row or column: the largest, Σ exp(z − largest), Σ ỹ z.
struct Statistics {
  double total, weighted;
  float top;
  __device__ void add(double others, double along, float largest) {
    const float both = fmaxf(top, largest);
    total = total * shrink(top, both) + others * shrink(largest, both);
    weighted += along;
    top = both;
  }
  static __device__ float shrink(float from, float to) { return from == to ? 1.f : fast_exp2(kLog2E * (from - to)); }
};

// What `count` of a thread's four products in a row come to.
__device__ void add_piece(const Loss& a, const Side& side, int32_t own, int32_t along, int count, float s,
                          const float (&cosine)[kPiece], Statistics& to) {
  float z[kPiece], top = -INFINITY, total = 0;
  double weighted = 0;
#pragma unroll
  for (int j = 0; j < kPiece; ++j) {
    if (j >= count) continue;
    const int64_t row = side.row(own, along + j), column = side.column(own, along + j);
    z[j] = (cosine[j] + (a.same(row, column) ? 0.f : a.f.margin)) * s;
    top = fmaxf(top, z[j]);
    weighted += double(a.wanted(row, column)) * double(z[j]);
  }
#pragma unroll
  for (int j = 0; j < kPiece; ++j)
    if (j < count) total += Statistics::shrink(z[j], top);
  to.add(double(total), weighted, top);
}

// parts [2, gridDim.y, N]: of every row, then of every column.
__global__ void __launch_bounds__(kThreads) statistics_kernel(Loss a, Statistics* parts) {
  __shared__ TileF32<kStrip> left, right;
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  const int64_t n = a.f.n, mine = int64_t(blockIdx.x) * kStrip;
  const Side side = side_of(a.f, blockIdx.z != 0);
  const Steps tiles = steps_of(divide_up(n, kStrip), blockIdx.y, gridDim.y);
  const float s = a.s();
  Statistics seen[kPiece];
#pragma unroll
  for (int i = 0; i < kPiece; ++i) seen[i] = {0, 0, -INFINITY};
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    float cosine[kPiece][kPiece];
    cosines(a.f, side, mine, tile * kStrip, left, right, cosine);
    const int64_t along = tile * kStrip + x * kPiece;
    const int count = int(smaller(kPiece, n - along));
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      const int64_t own = mine + y * kPiece + i;
      if (own < n && count > 0) add_piece(a, side, int32_t(own), int32_t(along), count, s, cosine[i], seen[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
#pragma unroll
    for (int step = kSide / 2; step > 0; step /= 2) {
      const double total = __shfl_xor_sync(0xffffffffu, seen[i].total, step);
      const double weighted = __shfl_xor_sync(0xffffffffu, seen[i].weighted, step);
      seen[i].add(total, weighted, __shfl_xor_sync(0xffffffffu, seen[i].top, step));
    }
    const int64_t own = mine + y * kPiece + i;
    if (x == 0 && own < n) parts[(int64_t(blockIdx.z) * gridDim.y + blockIdx.y) * n + own] = seen[i];
  }
}

// Log-sum-exps, and the cross entropies of all rows, then of all columns.
__global__ void entropies_kernel(Loss a, int64_t splits, const Statistics* parts, double* entropies) {
  const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x, n = a.f.n;
  if (at >= 2 * n) return;
  const bool columns = at >= n;
  const int64_t own = columns ? at - n : at;
  Statistics all = parts[columns * splits * n + own];
  for (int64_t split = 1; split < splits; ++split) {
    const Statistics& more = parts[(columns * splits + split) * n + own];
    all.add(more.total, more.weighted, more.top);
  }
  const double lse = double(all.top) + log(all.total);
  (columns ? a.f.column_lse : a.f.row_lse)[own] = float(lse);
  entropies[at] = (columns ? double(a.t.column[own]) : 1.0) * lse - all.weighted;
}

// What backward writes: of the images, of the texts; and Σ dz ∂z/∂(*scale) of each strip of images, where it is wanted.
struct Gradient {
  Output image, text;
  const float* dy;
  double* along;
};

// dz of a pair; adds its part of the gradient of the scale to `along`.
__device__ float derivative(const Loss& a, float cosine, float s, float half, int64_t i, int64_t j, double* along) {
  const float moved = cosine + (a.same(i, j) ? 0.f : a.f.margin), z = moved * s;
  const float p =
      fast_exp2(kLog2E * (z - a.f.row_lse[i])) + a.t.column[j] * fast_exp2(kLog2E * (z - a.f.column_lse[j]));
  const float dz = half * (p - 2.f * a.wanted(i, j));
  *along += double(dz) * double(a.f.log_scale ? z : moved);
  return dz;
}

__global__ void __launch_bounds__(kThreads) gradient_kernel(Loss a, Gradient g) {
  __shared__ TileF32<kStrip> left, right, dz[kStrip / kStep];  // dz: 16 of the other side at a time, as a left operand
  __shared__ TileF32<kChunk> others;
  __shared__ double room[kThreads / kWarp];
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  const int64_t n = a.f.n, p = a.f.p, mine = int64_t(blockIdx.x) * kStrip, first = int64_t(blockIdx.y) * kChunk;
  const Side side = side_of(a.f, blockIdx.z != 0);
  const Output to = side.columns ? g.text : g.image;
  const bool scaled = g.along != nullptr && blockIdx.y == 0 && !side.columns;
  if (to.data == nullptr && !scaled) return;
  const Operand other{side.other, CB_F32, true, p};
  const float s = a.s(), half = *g.dy / (2.f * float(n));
  float sum[kPiece][kLine] = {};
  double along = 0;
  for (int64_t tile = 0; tile < n; tile += kStrip) {
    float cosine[kPiece][kPiece];
    cosines(a.f, side, mine, tile, left, right, cosine);
#pragma unroll
    for (int j = 0; j < kPiece; ++j) {
#pragma unroll
      for (int i = 0; i < kPiece; ++i) {
        const int64_t own = mine + y * kPiece + i, there = tile + x * kPiece + j;
        float d = 0;
        if (own < n && there < n)
          d = derivative(a, cosine[i][j], s, half, side.row(own, there), side.column(own, there), &along);
        dz[x * kPiece / kStep][(x * kPiece + j) % kStep][y * kPiece + i] = d;
      }
    }
    if (to.data == nullptr) continue;  // the same for the whole block
    Pieces<kChunk> next;
    next.load(other, first, p, tile, n);
    for (int step = 0; step < kStrip / kStep; ++step) {
      next.keep(true, others);
      __syncthreads();
      if (step + 1 < kStrip / kStep) next.load(other, first, p, tile + (step + 1) * kStep, n);
      multiply_step(dz[step], others, y, x, sum);
      __syncthreads();
    }
  }
  const int64_t column = first + x * kLine;
  const int count = int(larger(0, smaller(kLine, p - column)));
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    const int64_t own = mine + y * kPiece + i;
    if (to.data == nullptr || own >= n || count == 0) continue;
    float line[kLanes];
#pragma unroll
    for (int j = 0; j < kLine; ++j) line[j] = s * sum[i][j];
    to.store(own * p + column, count, line);
  }
  if (!scaled) return;
  along = block_sum(along, room);
  if (threadIdx.x == 0) g.along[blockIdx.x] = along;
}

int loss_of(CbContext* context, const contrastive_args& f, Loss* a) {
  float* const weights = static_cast<float*>(context->scratch(context, size_t(3 * f.n) * sizeof(float)));
  if (weights == nullptr) return CB_OUT_OF_MEMORY;
  *a = {f, {weights, weights + f.n, weights + 2 * f.n}};
  if (const int status =
          CB_LAUNCH(context, weights_kernel, dim3(unsigned(divide_up(f.n, kRowsPerBlock))), dim3(kThreads), 0, *a))
    return status;
  return CB_LAUNCH(context, column_weights_kernel, dim3(1), dim3(kThreads), 0, *a);
}

unsigned strips_of(int64_t n) { return unsigned(divide_up(n, kStrip)); }

}  // namespace

int contrastive_forward(CbContext* context, const contrastive_args* f) {
  Loss a;
  if (const int status = loss_of(context, *f, &a)) return status;
  const int64_t n = f->n, strips = strips_of(n);
  const int64_t splits = larger(1, smaller(smaller(kMostParts, strips), kFullMachine / (2 * strips)));
  void* const room = context->scratch(context, size_t(2 * splits * n) * sizeof(Statistics));
  Statistics* const parts = static_cast<Statistics*>(room);
  double* const entropies = static_cast<double*>(context->scratch(context, size_t(2 * n) * sizeof(double)));
  if (parts == nullptr || entropies == nullptr) return CB_OUT_OF_MEMORY;
  const dim3 grid(unsigned(strips), unsigned(splits), 2);
  if (const int status = CB_LAUNCH(context, statistics_kernel, grid, dim3(kThreads), 0, a, parts)) return status;
  if (const int status = CB_LAUNCH(context, entropies_kernel, dim3(unsigned(divide_up(2 * n, kThreads))),
                                   dim3(kThreads), 0, a, splits, parts, entropies))
    return status;
  return keep_total(context, 2 * n, entropies, {f->loss, 0, 1.0 / (2.0 * double(n))});
}

int contrastive_backward(CbContext* context, const contrastive_grads* g) {
  const contrastive_args& f = *g->f;
  Loss a;
  if (const int status = loss_of(context, f, &a)) return status;
  const int64_t strips = strips_of(f.n);
  double* along = nullptr;
  if (g->dscale != nullptr) {
    along = static_cast<double*>(context->scratch(context, size_t(strips) * sizeof(double)));
    if (along == nullptr) return CB_OUT_OF_MEMORY;
  }
  const Output image{g->dimage, CB_F32, g->dimage_accumulate}, text{g->dtext, CB_F32, g->dtext_accumulate};
  const Gradient gradient{image, text, g->dy, along};
  const dim3 grid(unsigned(strips), unsigned(divide_up(f.p, kChunk)), 2);
  if (const int status = CB_LAUNCH(context, gradient_kernel, grid, dim3(kThreads), 0, a, gradient)) return status;
  if (g->dscale == nullptr) return CB_OK;
  return keep_total(context, strips, along, {g->dscale, g->dscale_accumulate, 1.0});
}

}  // namespace cuda
}  // namespace cambium
