// Matrix product, the plain form: valid on every device and for every shape.
//
//   C[row, col] = epilogue(sum over k of op(A)[row, k] * op(B)[k, col])
//
//   C  [M, N] row-major
//   A  [M, K], or [K, M] with TRANSPOSE_A 1
//   B  [K, N], or [N, K] with TRANSPOSE_B 1
//
// Launch: global [M * N] or rounded up, any local size. K = 0 gives epilogue(0).
// Slots: gemm_result.clh; V is REAL.

#include "gemm_result.clh"

__kernel void gemm_naive(
    __global REAL* restrict C, __global const REAL* restrict A, __global const REAL* restrict B RESULT_PARAMETERS,
    int M, int N, int K) {
  const size_t item = get_global_id(0), row = item / N, col = item % N;
  if (row >= M) return;
  UPDATE_BEGIN

  const size_t a_step = TRANSPOSE_A ? M : 1, b_step = TRANSPOSE_B ? 1 : N;
  __global const REAL* a = A + (TRANSPOSE_A ? row : row * K);
  __global const REAL* b = B + (TRANSPOSE_B ? col * K : col);
  REAL value = 0;
  for (size_t k = 0; k < K; k++) value = fma(a[k * a_step], b[k * b_step], value);

  const size_t full = row * N + col;
  RESULT(REAL, LOAD1, STORE1, value, full, row, col);
  C[full] = value;
}
