// The gradients of Z = (scale (*) xhat + shift) . W, a row of W being a channel, from Q = xhat^T . dZ and s = sum_n dZ.
//
//   dW[c, j] = scale[c] * Q[c, j] + shift[c] * s[j]
//   dscale[c] = sum_j W[c, j] * Q[c, j]    dshift[c] = sum_j W[c, j] * s[j]
//
//   dW             [C, J]
//   dscale, dshift [C]
//   Q, W           [C, J]
//   s              [J]
//   scale, shift   [C]
//
// The order of the sums is fixed by J: lanes of eight in blocks, then the lanes in order.
//
//   affine_product_rows   CPU: a work-item owns `block` channels; global [ceil(C / block)], local [1]
//   affine_product_each   any device: a work-item a channel; global [C] or rounded up, any local size

#include "real.clh"

// Vectors that are added up before they join the total.
#define BLOCK 32

static inline REAL sum_lanes(REAL8 v) {
  REAL lane[8], total = R(0.0);
  STORE8(lane, 0, v);
  for (int l = 0; l < 8; l++) total += lane[l];
  return total;
}

static inline void affine_product_row(
    __global REAL* dW, __global REAL* dscale, __global REAL* dshift, __global const REAL* Q, __global const REAL* W,
    __global const REAL* s, __global const REAL* scale, __global const REAL* shift, size_t c, size_t J) {
  const size_t row = c * J;
  const REAL gamma = scale[c], beta = shift[c];
  REAL8 dgamma8 = R(0.0), dbeta8 = R(0.0);
  size_t j = 0;
  while (j + 8 <= J) {
    const size_t end = min(j + 8 * BLOCK, J);
    REAL8 dgamma_part = R(0.0), dbeta_part = R(0.0);
    for (; j + 8 <= end; j += 8) {
      const REAL8 q = LOAD8(Q, row + j), w = LOAD8(W, row + j), sum = LOAD8(s, j);
      dgamma_part += w * q;
      dbeta_part += w * sum;
      STORE8(dW, row + j, gamma * q + beta * sum);
    }
    dgamma8 += dgamma_part;
    dbeta8 += dbeta_part;
  }
  REAL dgamma = sum_lanes(dgamma8), dbeta = sum_lanes(dbeta8);
  for (; j < J; j++) {
    const REAL q = Q[row + j], w = W[row + j];
    dgamma += w * q;
    dbeta += w * s[j];
    dW[row + j] = gamma * q + beta * s[j];
  }
  dscale[c] = dgamma;
  dshift[c] = dbeta;
}

KEEL_CPU __kernel void affine_product_rows(
    __global REAL* restrict dW, __global REAL* restrict dscale, __global REAL* restrict dshift,
    __global const REAL* restrict Q, __global const REAL* restrict W, __global const REAL* restrict s,
    __global const REAL* restrict scale, __global const REAL* restrict shift, int C, int J, int block) {
  const size_t first = get_global_id(0) * block, last = min(first + block, (size_t)C);
  for (size_t c = first; c < last; c++) affine_product_row(dW, dscale, dshift, Q, W, s, scale, shift, c, J);
}

__kernel void affine_product_each(
    __global REAL* restrict dW, __global REAL* restrict dscale, __global REAL* restrict dshift,
    __global const REAL* restrict Q, __global const REAL* restrict W, __global const REAL* restrict s,
    __global const REAL* restrict scale, __global const REAL* restrict shift, int C, int J) {
  const size_t c = get_global_id(0);
  if (c >= C) return;
  affine_product_row(dW, dscale, dshift, Q, W, s, scale, shift, c, J);
}
