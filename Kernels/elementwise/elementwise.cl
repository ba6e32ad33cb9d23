// Elementwise expressions: a template that generated text fills in.
//
//   for every i in 0 ..< n:  ELEMENTWISE_BODY(V, LOAD, STORE, i)
//
// Slots:
//   ELEMENTWISE_PARAMETERS               the complete list of outputs, inputs, extra sizes and numbers
//   ELEMENTWISE_BODY(V, LOAD, STORE, i)  a statement for the elements at i, a size_t. V is REAL, REAL8 or REAL16;
//                                        LOAD(p, i) and STORE(p, i, v) move as many values, LOAD of REAL elements and
//                                        STORE to STORED ones; LOAD##_type(p, i) converts elements of another type to
//                                        REAL. A scalar operand is written (V)(LOAD1_type(p, 0)).
//   ELEMENTWISE_WIDTH                    16; 8 or 1 where the body is right for V = REAL8 or V = REAL at most: fewer
//                                        neighbours of an operand lie side by side
//   ELEMENTWISE_STREAMS                  1 where the output is larger than caches and of 64-byte lines
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
#ifndef ELEMENTWISE_WIDTH
#define ELEMENTWISE_WIDTH 16
#endif
#ifndef ELEMENTWISE_STREAMS
#define ELEMENTWISE_STREAMS 0
#endif

KEEL_CPU __kernel void elementwise_blocks(ELEMENTWISE_PARAMETERS, long n, long block) {
  size_t i = get_global_id(0) * block;
  const size_t end = min(i + (size_t)block, (size_t)n);
#if ELEMENTWISE_WIDTH == 16 && ELEMENTWISE_STREAMS
  for (; i + 16 <= end; i += 16) {
    ELEMENTWISE_BODY(REAL16, LOAD16, STREAM16, i);
  }
#elif ELEMENTWISE_WIDTH == 16
  for (; i + 16 <= end; i += 16) {
    ELEMENTWISE_BODY(REAL16, LOAD16, STORE16_STORED, i);
  }
#elif ELEMENTWISE_WIDTH == 8
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
