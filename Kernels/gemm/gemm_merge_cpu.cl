// The slices of a matrix product whose K was cut, for CPU devices.
//
//   C[row, col] = epilogue(sum over slices, in order, of sums[slice, row, col])
//
//   C     [M, N] row-major
//   sums  [slices, M, N]
//
// Launch: global [ceil(M / rowsPerItem)], local [1].
// Slots: gemm_result.clh, without updates; V is REAL8, or REAL at a ragged edge.

#include "gemm_result.clh"

#define MERGE(V, LOAD, STORE)                                                                      \
  {                                                                                                \
    const size_t full = row * N + col;                                                             \
    V value = LOAD(sums, full);                                                                    \
    for (size_t slice = 1; slice < slices; slice++) value += LOAD(sums, slice * M * N + full);     \
    EPILOGUE(V, LOAD, value, full, row, col);                                                      \
    STORE(C, full, value);                                                                         \
  }

KEEL_CPU __kernel void gemm_merge_cpu(
    __global REAL* restrict C, __global const REAL* restrict sums EPILOGUE_PARAMETERS, int M, int N, int slices,
    int rowsPerItem) {
  const size_t first = get_global_id(0) * rowsPerItem, last = min(first + rowsPerItem, (size_t)M);
  for (size_t row = first; row < last; row++) {
    size_t col = 0;
    for (; col + 8 <= N; col += 8) MERGE(REAL8, LOAD8, STORE8)
    for (; col < N; col++) MERGE(REAL, LOAD1, STORE1)
  }
}
