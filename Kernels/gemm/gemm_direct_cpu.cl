// Matrix product for CPU devices, straight from the operands: for those that fit the caches.
//
//   C[row, col] = epilogue(sum over k of op(A)[row, k] * op(B)[k, col])
//
//   C  [M, N] row-major
//   A  [M, K], or [K, M] with TRANSPOSE_A 1
//   B  [K, N], or [N, K] with TRANSPOSE_B 1
//
// A work-item owns rowsPerItem rows of PANEL columns and all of K. Register tiles pass over the rows and read A and B
// where they lie. Only a transposed B is packed, KC rows at a time, into a private panel; between two such chunks of K
// the sums wait in C.
//
// Launch: global [ceil(M / rowsPerItem), ceil(N / PANEL)], local [1, 1]. K = 0 gives epilogue(0).
// Parameters: KC; those of the tile. Slots: as the tile has them; with an update of a transposed B, K is KC at most.

#if TRANSPOSE_B
#define TILE_B
#else
#define TILE_B __global
#endif
#define TILE_A __global
#include "gemm_panel.clh"
#include "gemm_tile.clh"

#ifndef KC
#define KC 512
#endif

KEEL_CPU __kernel void gemm_direct_cpu(
    __global REAL* restrict C, __global const REAL* restrict A, __global const REAL* restrict B RESULT_PARAMETERS,
    int M, int N, int K, int rowsPerItem) {
  UPDATE_BEGIN
  const size_t first_row = get_global_id(0) * rowsPerItem, last_row = min(first_row + rowsPerItem, (size_t)M);
  const size_t first_col = get_global_id(1) * PANEL, last_col = min(first_col + PANEL, (size_t)N);
  const size_t row_stride = TRANSPOSE_A ? 1 : K, k_stride = TRANSPOSE_A ? M : 1;
#if TRANSPOSE_B
  REAL panel[KC * PANEL];
#endif

  size_t first_k = 0;
  do {
#if TRANSPOSE_B
    const int depth = min((size_t)KC, K - first_k);
    pack_panel(panel, B, first_k, depth, first_col, last_col - first_col, N, K);
#else
    const int depth = K;
#endif
    const bool resume = first_k > 0, finish = first_k + depth == K;
    __global const REAL* a = A + first_k * k_stride;
#if TRANSPOSE_B
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
