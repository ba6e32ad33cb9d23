// Matrix product for CPU devices with K cut into slices: few sums of many terms.
//
//   sums[slice, row, col] = sum over the k of the slice of op(A)[row, k] * op(B)[k, col]
//
//   sums  [slices, M, N], slices = ceil(K / depth); gemm_merge_cpu.cl makes C of them
//   A     [M, K], or [K, M] with TRANSPOSE_A 1
//   B     [K, N], or [N, K] with TRANSPOSE_B 1
//
// Where C is small there is little to share out but K. A core then reads the rows of B that belong to its slices and no
// others: of a weight those that it has updated itself, since gradient and update are shared out by rows, too. Lines that
// one core writes and others read go to and fro between their caches in every step.
//
// Launch: global [ceil(M / rowsPerItem), ceil(N / PANEL), ceil(slices / slicesPerItem)], local [1, 1, 1]: slices last, so
// that what one core takes is of few of them. K >= 1; depth is KC at most where B is transposed.
// Parameters: KC; those of the tile.

#if TRANSPOSE_B
#define TILE_B
#define TILE_PACKED 1
#else
#define TILE_B __global
#endif
#define TILE_A __global
#include "gemm_panel.clh"
#include "gemm_tile.clh"

#ifndef KC
#define KC 512
#endif

KEEL_CPU __kernel void gemm_split_cpu(
    __global REAL* restrict sums, __global const REAL* restrict A, __global const REAL* restrict B, int M, int N, int K,
    int depth, int rowsPerItem, int slicesPerItem) {
  const size_t first_row = get_global_id(0) * rowsPerItem, last_row = min(first_row + rowsPerItem, (size_t)M);
  const size_t first_col = get_global_id(1) * PANEL, last_col = min(first_col + PANEL, (size_t)N);
  const size_t row_stride = TRANSPOSE_A ? 1 : K, k_stride = TRANSPOSE_A ? M : 1;
  const size_t first_slice = get_global_id(2) * slicesPerItem;
#if TRANSPOSE_B
  REAL panel[KC * PANEL];
#endif
  for (size_t slice = first_slice; slice < first_slice + slicesPerItem && slice * depth < K; slice++) {
    const size_t first_k = slice * depth;
    const int length = min((size_t)depth, K - first_k);
    __global REAL* to = sums + slice * M * N;
    __global const REAL* a = A + first_k * k_stride;
#if TRANSPOSE_B
    pack_panel(panel, B, first_k, length, first_col, last_col - first_col, N, K);
    add_columns(
        to, N, first_row, last_row, first_col, last_col, false, true, a, row_stride, k_stride, panel, PANEL, length,
        (size_t)length * PANEL);
#else
    const size_t first = first_k * N + first_col;
    add_columns(
        to, N, first_row, last_row, first_col, last_col, false, true, a, row_stride, k_stride, B + first, N, length,
        (size_t)K * N - first);
#endif
  }
}
