// Matrix product and the batch normalization of its columns, in training, in one launch, for CPU devices.
//
//   Z = epilogue of the product(op(A) * B)
//   mean, residual, variance and y of the columns of Z as batchnorm_forward_fused.cl has them, with its epilogue
//
//   Z, y                            [rows, C]
//   A                               [rows, K], or [K, rows] with TRANSPOSE_A 1
//   B                               [K, C]
//   mean, residual, variance        [C], outputs
//   scale, shift                    [C]
//
// A work-item owns columnsPerItem columns over all rows, as few as make a line of the cache: it computes them, so that
// their statistics need nobody else, and reads them again from its own caches. Each column is computed as by
// gemm_direct_cpu.cl, and normalized as by batchnorm_forward_fused.cl, to the bit.
//
// Launch: global [max(ceil((C - 15) / columnsPerItem), 1)], local [1]; columnsPerItem is a multiple of COLUMNS_OWNED.
// rows >= 1.
// Parameters: those of the tile and of the columns. Slots: PRODUCT(V, LOAD, value, full, row, col) rewrites Z, as
// gemm_result.clh has it; NORMALIZED of the same form rewrites y, its operands of y's shape or one element.

#define TILE_A __global
#define TILE_B __global
#ifdef PRODUCT
#define EPILOGUE PRODUCT
#define EPILOGUE_PARAMETERS PRODUCT_PARAMETERS
#define EPILOGUE_ARGUMENTS PRODUCT_ARGUMENTS
#else
#define PRODUCT_PARAMETERS
#define PRODUCT_ARGUMENTS
#endif
#include "gemm_tile.clh"

#undef EPILOGUE
#undef EPILOGUE_PARAMETERS
#undef EPILOGUE_ARGUMENTS
#ifdef NORMALIZED
#define EPILOGUE NORMALIZED
#define EPILOGUE_PARAMETERS NORMALIZED_PARAMETERS
#define EPILOGUE_ARGUMENTS NORMALIZED_ARGUMENTS
#endif
#include "batchnorm_columns.clh"

KEEL_CPU __kernel void gemm_batchnorm_cpu(
    __global REAL* restrict Z, __global REAL* restrict y, __global REAL* restrict mean,
    __global REAL* restrict residual, __global REAL* restrict variance, __global const REAL* restrict A,
    __global const REAL* restrict B PRODUCT_PARAMETERS, __global const REAL* restrict scale,
    __global const REAL* restrict shift EPILOGUE_PARAMETERS, REAL epsilon, int rows, int C, int K, int columnsPerItem) {
  OWN_CHANNELS(first_col, last_col, get_global_id(0), columnsPerItem)
  add_columns(
      Z PRODUCT_ARGUMENTS, C, 0, rows, first_col, last_col, false, true, A, TRANSPOSE_A ? 1 : K, TRANSPOSE_A ? rows : 1,
      B + first_col, C, K, (size_t)K * C - first_col);
  for (size_t left = first_col, right; left < last_col; left = right) {
    right = last_col - left < COLUMNS_OWNED + 16 ? last_col : left + COLUMNS_OWNED;
    normalize_channels(y, mean, residual, variance, Z, scale, shift EPILOGUE_ARGUMENTS, epsilon, rows, C, left, right);
  }
}
