// Matrix product for devices with many small cores: a work-group computes a block of C from slabs in local memory.
//
//   C[row, col] = epilogue(sum over k of op(A)[row, k] * op(B)[k, col])
//
//   C  [M, N] row-major
//   A  [M, K], or [K, M] with TRANSPOSE_A 1
//   B  [K, N], or [N, K] with TRANSPOSE_B 1
//
// A group of 16 x 16 work-items owns BLOCK x BLOCK values of C. It walks along K in slabs of SLAB: together the items copy
// a slab of A and one of B into local memory, zeros where the matrices end, and each multiplies what it needs for its own
// values, which stay in registers: four neighbouring rows by four neighbouring columns, in PARTS x PARTS places that
// are 64 apart. Neighbouring items read neighbouring addresses, whichever way an operand is stored.
//
// Launch: global [ceil(N / BLOCK) * ceil(M / BLOCK) * 16, 16], local [16, 16]: blocks row by row on the first axis, the
// only one on which CUDA takes more than 65,535 groups. All items of a group reach all barriers.
// K = 0 gives epilogue(0).
// Parameter: BLOCK, 64 or 128; local memory: 2 * SLAB * (BLOCK + 4) values.
// Slots: gemm_result.clh; V is REAL4, or REAL at a ragged edge.

#include "gemm_result.clh"

#ifndef BLOCK
#define BLOCK 64
#endif

#define SLAB 16
#define SIDE 16
#define ITEMS (SIDE * SIDE)
#define PARTS (BLOCK / (4 * SIDE))
// Rows of a slab lie apart so that a column of it, too, is in different banks.
#define PITCH (BLOCK + 4)

// slab[k][i] = from[i * i_stride + k * k_stride] for i < i_end and k < k_end, else 0. Items that are neighbours take
// neighbours in memory: along k where `k_first`, else along i.
static inline void copy_slab(
    __local REAL* slab, __global const REAL* from, size_t i_stride, size_t k_stride, size_t i_end, size_t k_end,
    bool k_first, int item) {
#pragma unroll
  for (int step = 0; step < SLAB * BLOCK / ITEMS; step++) {
    const int place = step * ITEMS + item;
    const int i = k_first ? place / SLAB : place % BLOCK;
    const int k = k_first ? place % SLAB : place / BLOCK;
    slab[k * PITCH + i] = i < i_end && k < k_end ? from[i * i_stride + k * k_stride] : 0;
  }
}

__attribute__((reqd_work_group_size(SIDE, SIDE, 1))) __kernel void gemm_blocks(
    __global REAL* restrict C, __global const REAL* restrict A, __global const REAL* restrict B RESULT_PARAMETERS,
    int M, int N, int K) {
  __local REAL slab_a[SLAB * PITCH], slab_b[SLAB * PITCH];
  const int x = get_local_id(0), y = get_local_id(1), item = y * SIDE + x;
  const size_t block = get_group_id(0), blocks_across = ((size_t)N + BLOCK - 1) / BLOCK;
  const size_t first_col = block % blocks_across * BLOCK, first_row = block / blocks_across * BLOCK;
  const size_t row_stride = TRANSPOSE_A ? 1 : K, a_step = TRANSPOSE_A ? M : 1;
  const size_t col_stride = TRANSPOSE_B ? K : 1, b_step = TRANSPOSE_B ? 1 : N;
  __global const REAL* a = A + first_row * row_stride;
  __global const REAL* b = B + first_col * col_stride;

  REAL4 sum[4 * PARTS][PARTS];
#pragma unroll
  for (int r = 0; r < 4 * PARTS; r++)
#pragma unroll
    for (int part = 0; part < PARTS; part++) sum[r][part] = 0;

  for (size_t first_k = 0; first_k < K; first_k += SLAB) {
    copy_slab(slab_a, a + first_k * a_step, row_stride, a_step, M - first_row, K - first_k, !TRANSPOSE_A, item);
    copy_slab(slab_b, b + first_k * b_step, col_stride, b_step, N - first_col, K - first_k, TRANSPOSE_B, item);
    barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
    for (int k = 0; k < SLAB; k++) {
      REAL value[4 * PARTS];
      REAL4 lanes[PARTS];
#pragma unroll
      for (int part = 0; part < PARTS; part++) {
        vstore4(vload4(0, slab_a + k * PITCH + part * 4 * SIDE + 4 * y), part, value);
        lanes[part] = vload4(0, slab_b + k * PITCH + part * 4 * SIDE + 4 * x);
      }
#pragma unroll
      for (int r = 0; r < 4 * PARTS; r++)
#pragma unroll
        for (int part = 0; part < PARTS; part++) sum[r][part] = fma((REAL4)(value[r]), lanes[part], sum[r][part]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }

  UPDATE_BEGIN
#pragma unroll
  for (int r = 0; r < 4 * PARTS; r++) {
    const size_t row = first_row + r / 4 * 4 * SIDE + 4 * y + r % 4;
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      const size_t col = first_col + part * 4 * SIDE + 4 * x, full = row * N + col;
      if (row < M && col + 4 <= N) {
        REAL4 values = sum[r][part];
        RESULT(REAL4, LOAD4, STORE4, values, full, row, col);
        STORE4(C, full, values);
      } else if (row < M) {
        REAL lanes[4];
        vstore4(sum[r][part], 0, lanes);
        for (int j = 0; j < 4 && col + j < N; j++) {
          REAL value = lanes[j];
          RESULT(REAL, LOAD1, STORE1, value, full + j, row, col + j);
          C[full + j] = value;
        }
      }
    }
  }
}
