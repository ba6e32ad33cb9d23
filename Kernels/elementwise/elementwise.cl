// Elementwise expressions: a template that generated text fills in.
//
//   for every i in 0 ..< n:  ELEMENTWISE_BODY(V, LOAD, STORE, i)
//
// Slots:
//   ELEMENTWISE_PARAMETERS               the complete list of outputs, inputs and extra sizes
//   ELEMENTWISE_BODY(V, LOAD, STORE, i)  a statement for the elements at i, a size_t. V is REAL or REAL8; LOAD(p, i)
//                                        and STORE(p, i, v) move as many values, LOAD of REAL elements and STORE to
//                                        STORED ones; LOAD##_type(p, i) converts elements of another type to REAL. A
//                                        scalar operand is written (V)(LOAD1_type(p, 0)).
//   ELEMENTWISE_SCALAR                   1 when the body is right for V = REAL only: an operand is not contiguous
// REAL is float, double or int, STORED the type of the output. The default body copies.
//
// Two forms with the same arguments:
//   elementwise_blocks   CPU: a work-item owns `block` elements; global [ceil(n / block)], local [1]
//   elementwise_each     any device: one work-item per element; global [n] or rounded up, any local size

#include "storage.clh"

#ifndef ELEMENTWISE_BODY
#define ELEMENTWISE_PARAMETERS __global STORED *restrict o0, __global const REAL *restrict a0
#define ELEMENTWISE_BODY(V, LOAD, STORE, i) STORE(o0, i, LOAD(a0, i))
#endif
#ifndef ELEMENTWISE_SCALAR
#define ELEMENTWISE_SCALAR 0
#endif

KEEL_CPU __kernel void elementwise_blocks(ELEMENTWISE_PARAMETERS, long n, long block) {
  size_t i = get_global_id(0) * block;
  const size_t end = min(i + (size_t)block, (size_t)n);
#if !ELEMENTWISE_SCALAR
  for (; i + 8 <= end; i += 8) {
    ELEMENTWISE_BODY(REAL8, LOAD8, STORE8_STORED, i);
  }
#endif
  for (; i < end; i++) {
    ELEMENTWISE_BODY(REAL, LOAD1, STORE1_STORED, i);
  }
}

__kernel void elementwise_each(ELEMENTWISE_PARAMETERS, long n, long block) {
  const size_t i = get_global_id(0);
  if (i >= n) return;
  ELEMENTWISE_BODY(REAL, LOAD1, STORE1_STORED, i);
}
