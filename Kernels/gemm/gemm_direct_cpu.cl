// Matrix product for CPU devices, straight from the operands: for those that fit the caches.
//
//   C[row, col] = epilogue(sum over k of op(A)[row, k] * op(B)[k, col])
//
//   C  [M, N] row-major
//   A  [M, K], or [K, M] with TRANSPOSE_A 1
//   B  [K, N], or [N, K] with TRANSPOSE_B 1
//
// A work-item owns rowsPerItem rows of PANEL columns and all of K. Register tiles pass over the rows and read A and B
// where they lie. A transposed B is packed, and any other with PACK_B 1, in chunks of at most KC rows, into a private
// panel; between two such chunks of K the sums wait in C.
//
// Launch: global [ceil(M / rowsPerItem), ceil(N / PANEL)], local [1, 1]. K = 0 gives epilogue(0).
// Parameters: KC, 1024 floats or half as many by default; PACK_B; those of the tile. Slots: as the tile has them; with an
// update of a packed B, K is KC at most.

#ifndef PACK_B
#define PACK_B TRANSPOSE_B
#endif
#if PACK_B
#define TILE_B
#define TILE_PACKED 1
#else
#define TILE_B __global
#endif
#define TILE_A __global
#include "gemm_panel.clh"
#include "gemm_tile.clh"

#ifndef KC
#if TILE_BYTES == 32 && !defined(REAL_IS_DOUBLE)
#define KC 1024
#else
#define KC 512
#endif
#endif

KEEL_CPU __kernel void gemm_direct_cpu(
    __global REAL* restrict C, __global const REAL* restrict A, __global const REAL* restrict B RESULT_PARAMETERS,
    int M, int N, int K, int rowsPerItem) {
  UPDATE_BEGIN
  const size_t first_row = get_global_id(0) * rowsPerItem, last_row = min(first_row + rowsPerItem, (size_t)M);
  const size_t first_col = get_global_id(1) * PANEL, last_col = min(first_col + PANEL, (size_t)N);
  const size_t row_stride = TRANSPOSE_A ? 1 : K, k_stride = TRANSPOSE_A ? M : 1;
#if PACK_B
  REAL panel[KC * PANEL];
  const size_t chunks = max((size_t)1, ((size_t)K + KC - 1) / KC), chunk = (K + chunks - 1) / chunks;
#endif

  size_t first_k = 0;
  do {
#if PACK_B
    const int depth = min(chunk, K - first_k);
    pack_panel(panel, B, first_k, depth, first_col, last_col - first_col, N, K);
#else
    const int depth = K;
#endif
    const bool resume = first_k > 0, finish = first_k + depth == K;
    __global const REAL* a = A + first_k * k_stride;
#if PACK_B
    add_columns(
        C EPILOGUE_ARGUMENTS UPDATE_ARGUMENTS, N, first_row, last_row, first_col, last_col, resume, finish, a,
        row_stride, k_stride, panel, PANEL, depth, (size_t)depth * PANEL);
#else
    add_columns(
        C EPILOGUE_ARGUMENTS UPDATE_ARGUMENTS, N, first_row, last_row, first_col, last_col, resume, finish, a,
        row_stride, k_stride, B + first_col, N, depth, (size_t)K * N - first_col);
#endif
    first_k += depth;
  } while (first_k < K);
}
