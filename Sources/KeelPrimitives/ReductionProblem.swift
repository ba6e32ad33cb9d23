import KeelCL
import KeelCore

/// The sum or the maximum over the middle axis of [outer, reduced, inner].
///
/// Operands: outputs one, [outer, inner]; inputs one.
public struct ReductionProblem: KernelProblem {
  /// What is computed; a NaN wins the maximum.
  public enum Kind: String, Hashable, Sendable {
    case sum
    case max
  }

  /// What is computed.
  public var kind: Kind
  /// Product of the extents before the reduced ones.
  public var outer: Int
  /// Terms of each result.
  public var reduced: Int
  /// Product of the extents behind the reduced ones.
  public var inner: Int
  /// Element type of operand and result; those of a type of storage are combined as its `arithmetic`.
  public var dtype: DType

  /// The problem of these sizes.
  public init(_ kind: Kind, outer: Int, reduced: Int, inner: Int, dtype: DType = .float32) {
    self.kind = kind
    self.outer = outer
    self.reduced = reduced
    self.inner = inner
    self.dtype = dtype
  }

  /// The name of the family.
  public static let family = "reduce"
  /// Sizes, for a person.
  public var label: String { "\(kind) \(outer)×\(reduced)×\(inner)" }

  var outputs: Int { outer * inner }
  var slices: Slices { Slices(values: reduced) }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<ReductionProblem>] = [
    // Few results of many elements: sums of slices, merged in index order.
    Variant(
      "slices", takes: { problem, _ in problem.reduced > 16384 && problem.outputs <= 64 },
      workspaceBytes: { $0.slices.count * $0.outputs * $0.dtype.arithmetic.byteCount }
    ) { problem, operands, context in
      guard let workspace = operands.workspace else { throw PrimitiveError(family, "expects a workspace") }
      let slices = problem.slices
      return [
        try problem.bind(
          "reduce_partial", context, [workspace] + operands.inputs,
          [.int(problem.reduced), .int(problem.inner), .long(problem.outputs), .int(slices.length)],
          global: [problem.outputs, slices.count]),
        try problem.bind(
          "reduce_merge", context, operands.outputs + [workspace], [.int(slices.count), .long(problem.outputs)],
          global: [problem.outputs]),
      ]
    },
    // Of few values each where there is one result: the same kernel then does for a short last batch.
    Variant("rows", takes: { $1.isCPU && $0.inner == 1 && ($0.reduced >= 32 || $0.outer == 1) }) {
      problem, operands, context in
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
    var spec = ProgramSpec("reduce.cl", dtype.arithmetic, stored: dtype)
    if kind == .max {
      spec.define("REDUCE_INIT", "(-INFINITY)")
      // NaN wins, wherever it stands.
      spec.define("REDUCE_COMBINE(a, b)", "((a) > (b) || (a) != (a) ? (a) : (b))")
    }
    return try context.bind(
      kernel, of: spec, buffers.map { .buffer($0) } + sizes, global: global, isSingleItem: isSingleItem,
      label: label, flops: Double(outputs * reduced), bytes: Double(outputs * (reduced + 1) * dtype.byteCount))
  }
}
