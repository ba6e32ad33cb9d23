// Matrix product for CPU devices, over packed operands: for those that no cache holds.
//
//   C[row, col] = epilogue(sum over k of op(A)[row, k] * op(B)[k, col])
//
//   C  [M, N] row-major
//   A  [M, K], or [K, M] with TRANSPOSE_A 1
//   B  [K, N], or [N, K] with TRANSPOSE_B 1
//
// The scheme of BLIS (Van Zee, van de Geijn, "BLIS: A Framework for Rapidly Instantiating BLAS Functionality", 2015).
// K is cut into chunks. A first launch packs all of B to panels of PANEL columns, a chunk after the other. In the second
// one a work-item owns rowsPerItem rows of panelsPerItem panels: of each chunk it packs MC rows of A at a time into
// local memory, which stays in the second-level cache while the panels pass, each of which stays in the first-level
// cache while the tiles of these rows pass. Between two chunks the sums wait in C.
//
//   panels  [chunks][ceil(N / PANEL)][chunk][PANEL], the last chunk as short as it is
//   block   [ceil(MC / TILE_ROWS)][chunk][TILE_ROWS]
//
// Launches, both local [1, 1]:
//   gemm_pack_b      global [ceil(N / PANEL), ceil(K / chunk)]
//   gemm_packed_cpu  global [ceil(M / rowsPerItem), ceil(ceil(N / PANEL) / panelsPerItem)]
// chunk may be KC at most. K is not 0.
// Parameters: KC, MC (a multiple of 24, so of TILE_ROWS); those of the tile. Slots: as the tile has them; with an update,
// K is one chunk.

#define TILE_A KEEL_SCRATCH
#define TILE_B __global
#define TILE_PACKED 1
#include "gemm_panel.clh"
#include "gemm_tile.clh"

#ifndef KC
#define KC 512
#endif
#ifndef MC
#define MC 96
#endif

KEEL_CPU __kernel void gemm_pack_b(
    __global REAL* restrict panels, __global const REAL* restrict B, int N, int K, int chunk) {
  const size_t col = get_global_id(0) * PANEL, first_k = get_global_id(1) * chunk;
  const int depth = min((size_t)chunk, K - first_k), width = min((size_t)PANEL, N - col);
  pack_panel(panels + first_k * get_global_size(0) * PANEL + col * depth, B, first_k, depth, col, width, N, K);
}

// block[k, r] = op(A)[row + r, first_k + k] for r < height; rows beyond repeat nothing and hold zeros.
static inline void pack_rows(
    KEEL_SCRATCH REAL* block, __global const REAL* A, size_t row, int height, size_t first_k, int depth, size_t M,
    size_t K) {
  const size_t row_stride = TRANSPOSE_A ? 1 : K, k_stride = TRANSPOSE_A ? M : 1;
  __global const REAL* a = A + row * row_stride + first_k * k_stride;
  int k = 0;
  if (height == TILE_ROWS) {
#if TRANSPOSE_A
    for (; k < depth; k++) {
#pragma unroll
      for (int r = 0; r < TILE_ROWS; r++) block[k * TILE_ROWS + r] = a[k * k_stride + r];
    }
#else
    for (; k + 4 <= depth; k += 4) {
#pragma unroll
      for (int r = 0; r < TILE_ROWS; r += 2) {
        const REAL4 x = LOAD4(a, r * K + k), y = LOAD4(a, (r + 1) * K + k);
        KEEL_SCRATCH REAL* to = block + k * TILE_ROWS + r;
        vstore2((REAL2)(x.x, y.x), 0, to);
        vstore2((REAL2)(x.y, y.y), 0, to + TILE_ROWS);
        vstore2((REAL2)(x.z, y.z), 0, to + 2 * TILE_ROWS);
        vstore2((REAL2)(x.w, y.w), 0, to + 3 * TILE_ROWS);
      }
    }
#endif
  }
  for (; k < depth; k++)
    for (int r = 0; r < TILE_ROWS; r++)
      block[k * TILE_ROWS + r] = r < height ? a[r * row_stride + k * k_stride] : 0;
}

KEEL_CPU __kernel void gemm_packed_cpu(
    __global REAL* restrict C, __global const REAL* restrict A,
    __global const REAL* restrict panels RESULT_PARAMETERS, int M, int N, int K, int rowsPerItem, int panelsPerItem,
    int chunk) {
  UPDATE_BEGIN
  KEEL_SCRATCH REAL block[MC * KC];
  const size_t first_row = get_global_id(0) * rowsPerItem, last_row = min(first_row + rowsPerItem, (size_t)M);
  const size_t columns = (N + PANEL - 1) / PANEL * PANEL;
  const size_t first_col = get_global_id(1) * panelsPerItem * PANEL;
  const size_t last_col = min(first_col + panelsPerItem * PANEL, (size_t)N);

  for (size_t first_k = 0; first_k < K; first_k += chunk) {
    const int depth = min((size_t)chunk, K - first_k);
    const bool resume = first_k > 0, finish = first_k + depth == K;

    for (size_t top = first_row; top < last_row; top += MC) {
      const size_t bottom = min(top + MC, last_row);
      for (size_t row = top; row < bottom; row += TILE_ROWS)
        pack_rows(block + (row - top) * depth, A, row, min((size_t)TILE_ROWS, bottom - row), first_k, depth, M, K);

      for (size_t panel_col = first_col; panel_col < last_col; panel_col += PANEL) {
        __global const REAL* panel = panels + first_k * columns + panel_col * depth;
        for (size_t col = panel_col; col < min(panel_col + PANEL, last_col); col += TILE_COLUMNS) {
          __global const REAL* b = panel + (col - panel_col);
          const int width = min((size_t)TILE_COLUMNS, last_col - col);
          for (size_t row = top; row < bottom; row += TILE_ROWS) {
            const int height = min((size_t)TILE_ROWS, bottom - row);
            KEEL_SCRATCH const REAL* a = block + (row - top) * depth;
            if (resume)
              for (int r = 0; r < height; r++) PREFETCH_FOR_WRITE(C + (row + r) * N + col);
            add_tile(
                C EPILOGUE_ARGUMENTS UPDATE_ARGUMENTS, N, row, col, height, width, resume, finish, a, 1, TILE_ROWS, TILE_ROWS,
                b, PANEL, depth, depth, 0);
          }
        }
      }
    }
  }
}
