import KeelCL
import KeelCore

/// The sum or the maximum over the middle axis of [outer, reduced, inner].
///
/// Operands: outputs one, [outer, inner]; inputs one.
public struct ReductionProblem: KernelProblem {
  public enum Kind: String, Hashable, Sendable {
    case sum
    case max
  }

  public var kind: Kind
  public var outer: Int
  public var reduced: Int
  public var inner: Int
  public var dtype: DType

  public init(_ kind: Kind, outer: Int, reduced: Int, inner: Int, dtype: DType = .float32) {
    self.kind = kind
    self.outer = outer
    self.reduced = reduced
    self.inner = inner
    self.dtype = dtype
  }

  public static let family = "reduce"
  public var label: String { "\(kind) \(outer)×\(reduced)×\(inner)" }

  var outputs: Int { outer * inner }
  /// Elements of one slice: of the shape alone.
  var sliceLength: Int { max(1024, divideUp(divideUp(reduced, 64), 256) * 256) }

  public static let variants: [Variant<ReductionProblem>] = [
    // Few results of many elements: sums of slices, merged in index order.
    Variant(
      "slices", takes: { problem, _ in problem.reduced > 16384 && problem.outputs <= 64 },
      workspaceBytes: { divideUp($0.reduced, $0.sliceLength) * $0.outputs * $0.dtype.byteCount }
    ) { problem, operands, context in
      guard let workspace = operands.workspace else { throw PrimitiveError(family, "expects a workspace") }
      let slices = divideUp(problem.reduced, problem.sliceLength)
      return [
        try problem.bind(
          "reduce_partial", context, [workspace] + operands.inputs,
          [.int(problem.reduced), .int(problem.inner), .long(problem.outputs), .int(problem.sliceLength)],
          global: [problem.outputs, slices]),
        try problem.bind(
          "reduce_merge", context, operands.outputs + [workspace], [.int(slices), .long(problem.outputs)],
          global: [problem.outputs]),
      ]
    },
    Variant("rows", takes: { $1.isCPU && $0.inner == 1 && $0.reduced >= 32 }) { problem, operands, context in
      let block = max(1, divideUp(problem.outer, 16))
      return [
        try problem.bind(
          "reduce_rows", context, operands.outputs + operands.inputs,
          [.int(problem.reduced), .long(problem.outer), .long(block)], global: [divideUp(problem.outer, block)],
          isSingleItem: true)
      ]
    },
    Variant("columns", takes: { $1.isCPU && $0.inner >= 8 }) { problem, operands, context in
      [
        try problem.bind(
          "reduce_columns", context, operands.outputs + operands.inputs, [.int(problem.reduced), .int(problem.inner)],
          global: [divideUp(problem.inner, 8), problem.outer], isSingleItem: true)
      ]
    },
    Variant("naive") { problem, operands, context in
      [
        try problem.bind(
          "reduce_each", context, operands.outputs + operands.inputs,
          [.int(problem.reduced), .int(problem.inner), .long(problem.outputs)], global: [problem.outputs])
      ]
    },
  ]

  private func bind(
    _ kernel: String, _ context: ComputeContext, _ buffers: [Buffer], _ sizes: [KernelArgument], global: [Int],
    isSingleItem: Bool = false
  ) throws -> BoundLaunch {
    var spec = ProgramSpec("reduce.cl", real: dtype.real)
    if kind == .max {
      spec.define("REDUCE_INIT", "(-INFINITY)")
      // NaN wins, wherever it stands.
      spec.define("REDUCE_COMBINE(a, b)", "((a) > (b) || (a) != (a) ? (a) : (b))")
    }
    return try context.bind(
      kernel, of: spec, real: dtype, buffers.map { .buffer($0) } + sizes, global: global, isSingleItem: isSingleItem,
      label: label, flops: Double(outputs * reduced), bytes: Double(outputs * (reduced + 1) * dtype.byteCount))
  }
}
