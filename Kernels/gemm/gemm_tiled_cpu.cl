// Matrix product for CPU devices: register tiles of TILE_ROWS x 16 over packed panels of B.
//
//   C[row, col] = epilogue(sum over k of op(A)[row, k] * op(B)[k, col])
//
//   C  [M, N] row-major
//   A  [M, K], or [K, M] with TRANSPOSE_A 1
//   B  [K, N], or [N, K] with TRANSPOSE_B 1
//
// A work-item owns rowsPerItem rows of one 16-column panel and all of K. It copies KC rows of the panel into a
// private array, which stays in the first-level cache while every row tile passes over it; between two chunks of K
// the sums wait in C. Columns beyond N are zeros in the packed panel and rows beyond M repeat the last row, so the
// inner loop has no bounds; only the store knows the edge.
//
// Launch: global [ceil(M / rowsPerItem), ceil(N / 16)], local [1, 1]. K = 0 gives epilogue(0).
// Parameters: TILE_ROWS rows of the register tile; TILE_VECTOR 8 or 16, the vector width the tile is written in (16
// pays where a register holds 16 floats); KC rows of a packed chunk.
// Slot EPILOGUE(V, LOAD, value, full, row, col): full = row * N + col, V is REAL8 or REAL16, or REAL at a ragged
// edge.

#include "real.clh"

#ifndef TRANSPOSE_A
#define TRANSPOSE_A 0
#endif
#ifndef TRANSPOSE_B
#define TRANSPOSE_B 0
#endif
#ifndef TILE_VECTOR
#ifdef __AVX512F__
#define TILE_VECTOR 16
#else
#define TILE_VECTOR 8
#endif
#endif
#ifndef TILE_ROWS
#if TILE_VECTOR == 16
#define TILE_ROWS 8
#elif defined(REAL_IS_DOUBLE)
#define TILE_ROWS 3
#else
#define TILE_ROWS 6
#endif
#endif
#ifndef KC
#define KC 256
#endif
#ifndef EPILOGUE
#define EPILOGUE_PARAMETERS
#define EPILOGUE_ARGUMENTS
#define EPILOGUE(V, LOAD, value, full, row, col)
#endif

#define PANEL 16
#define VECTORS (PANEL / TILE_VECTOR)
#define VECTOR KEEL_PASTE(REAL, TILE_VECTOR)
#define LOAD_VECTOR KEEL_PASTE(LOAD, TILE_VECTOR)
#define STORE_VECTOR KEEL_PASTE(STORE, TILE_VECTOR)

#if TRANSPOSE_B
// Transposes 8 x 8 values of `from` (stride K) into the panel: zipping row i with row i + 4, three times, is a
// transposition.
static inline void pack_transposed_square(REAL* panel, __global const REAL* from, size_t K) {
  REAL8 rows[8], zipped[8];
#pragma unroll
  for (int i = 0; i < 8; i++) rows[i] = LOAD8(from, i * K);
#pragma unroll
  for (int stage = 0; stage < 3; stage++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      zipped[2 * i].even = rows[i].lo;
      zipped[2 * i].odd = rows[i + 4].lo;
      zipped[2 * i + 1].even = rows[i].hi;
      zipped[2 * i + 1].odd = rows[i + 4].hi;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) rows[i] = zipped[i];
  }
#pragma unroll
  for (int i = 0; i < 8; i++) STORE8(panel, i * PANEL, rows[i]);
}
#endif

// panel[k][j] = op(B)[first_k + k, first_col + j] for k < depth, zero for j >= width.
static inline void pack_panel(
    REAL* panel, __global const REAL* B, size_t first_k, int depth, size_t first_col, int width, size_t N, size_t K) {
  int packed = 0;  // rows of the panel that are done
#if TRANSPOSE_B
  const size_t k_stride = 1, col_stride = K;
#else
  const size_t k_stride = N, col_stride = 1;
#endif
  __global const REAL* b = B + first_k * k_stride + first_col * col_stride;
  if (width == PANEL) {
#if TRANSPOSE_B
    for (; packed + 8 <= depth; packed += 8)
      for (int j = 0; j < PANEL; j += 8)
        pack_transposed_square(panel + packed * PANEL + j, b + j * K + packed, K);
#else
    for (; packed < depth; packed++) STORE16(panel, packed * PANEL, LOAD16(b, packed * N));
#endif
  }
  for (; packed < depth; packed++)
    for (int j = 0; j < PANEL; j++)
      panel[packed * PANEL + j] = j < width ? b[packed * k_stride + j * col_stride] : 0;
}

KEEL_CPU __kernel void gemm_tiled_cpu(
    __global REAL* restrict C, __global const REAL* restrict A, __global const REAL* restrict B EPILOGUE_PARAMETERS,
    int M, int N, int K, int rowsPerItem) {
  const size_t first_row = get_global_id(0) * rowsPerItem, last_row = min(first_row + rowsPerItem, (size_t)M);
  const size_t col = get_global_id(1) * PANEL;
  const int width = min((size_t)PANEL, N - col);
  const size_t row_stride = TRANSPOSE_A ? 1 : K, k_stride = TRANSPOSE_A ? M : 1;
  REAL panel[KC * PANEL];

  size_t first_k = 0;
  do {
    const int depth = min((size_t)KC, K - first_k);
    const bool resume = first_k > 0, finish = first_k + depth == K;
    pack_panel(panel, B, first_k, depth, col, width, N, K);

    for (size_t row = first_row; row < last_row; row += TILE_ROWS) {
      const int height = min((size_t)TILE_ROWS, last_row - row);
      __global const REAL* a[TILE_ROWS];
      VECTOR sum[TILE_ROWS][VECTORS];
#pragma unroll
      for (int r = 0; r < TILE_ROWS; r++) {
        a[r] = A + (row + min(r, height - 1)) * row_stride + first_k * k_stride;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) sum[r][v] = 0;
      }

      for (int k = 0; k < depth; k++) {
        VECTOR b[VECTORS];
#pragma unroll
        for (int v = 0; v < VECTORS; v++) b[v] = LOAD_VECTOR(panel, k * PANEL + v * TILE_VECTOR);
#pragma unroll
        for (int r = 0; r < TILE_ROWS; r++) {
          const VECTOR broadcast = a[r][k * k_stride];
#pragma unroll
          for (int v = 0; v < VECTORS; v++) sum[r][v] = fma(broadcast, b[v], sum[r][v]);
        }
      }

      REAL tile[TILE_ROWS * PANEL];
#pragma unroll
      for (int r = 0; r < TILE_ROWS; r++)
#pragma unroll
        for (int v = 0; v < VECTORS; v++) STORE_VECTOR(tile, r * PANEL + v * TILE_VECTOR, sum[r][v]);

      for (int r = 0; r < height; r++) {
        const size_t full = (row + r) * N + col;
        if (width == PANEL) {
          for (int v = 0; v < PANEL; v += TILE_VECTOR) {
            VECTOR value = LOAD_VECTOR(tile, r * PANEL + v);
            if (resume) value += LOAD_VECTOR(C, full + v);
            if (finish) { EPILOGUE(VECTOR, LOAD_VECTOR, value, full + v, row + r, col + v); }
            STORE_VECTOR(C, full + v, value);
          }
        } else {
          for (int j = 0; j < width; j++) {
            REAL value = tile[r * PANEL + j];
            if (resume) value += C[full + j];
            if (finish) { EPILOGUE(REAL, LOAD1, value, full + j, row + r, col + j); }
            C[full + j] = value;
          }
        }
      }
    }
    first_k += depth;
  } while (first_k < K);
}
