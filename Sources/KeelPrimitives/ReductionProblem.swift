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
  /// Of rows that are read as they lie.
  private var lineSlices: Slices {
    Slices(values: reduced, atLeast: max(64, (1 << 15) / min(inner, Self.columnChunk)), of: 8)
  }
  private var count: Int { outer * reduced * inner }

  // As in reduce.cl.
  private static let columnChunk = 1024
  private static let mergedColumns = 64

  /// The first that takes device and problem wins.
  public static let variants: [Variant<ReductionProblem>] = [
    // Long columns: slices of rows that are read as they lie, merged in index order.
    Variant(
      "lines", takes: { $1.isCPU && $0.inner >= 8 },
      suits: { problem, _ in problem.reduced >= 256 && problem.count >= 1 << 17 },
      workspaceBytes: { problem, _ in problem.lineSlices.count * problem.outputs * problem.dtype.arithmetic.byteCount }
    ) { problem, operands, context in
      try problem.sliced(
        "reduce_lines", problem.lineSlices, operands, context,
        global: [divideUp(problem.inner, columnChunk), problem.lineSlices.count, problem.outer], isSingleItem: true)
    },
    // Few results of many elements: sums of slices, merged in index order.
    Variant(
      "slices", takes: { problem, _ in problem.reduced > 16384 && problem.outputs <= 64 },
      workspaceBytes: { problem, _ in problem.slices.count * problem.outputs * problem.dtype.arithmetic.byteCount }
    ) { problem, operands, context in
      try problem.sliced(
        "reduce_partial", problem.slices, operands, context, global: [problem.outputs, problem.slices.count],
        isSingleItem: context.profile.isCPU)
    },
    // Of few values each where there is one result: the same kernel then does for a short last batch.
    Variant("rows", takes: { $1.isCPU && $0.inner == 1 && ($0.reduced >= 32 || $0.outer == 1) }) {
      problem, operands, context in
      let block = max(1, divideUp(problem.outer, problem.count < 1 << 20 ? 16 : 64))
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

  /// The launch of a kernel that leaves a total for each slice, and their merge.
  private func sliced(
    _ kernel: String, _ slices: Slices, _ operands: Operands, _ context: ComputeContext, global: [Int],
    isSingleItem: Bool
  ) throws -> [BoundLaunch] {
    guard let workspace = operands.workspace else { throw PrimitiveError(Self.family, "expects a workspace") }
    return [
      try bind(
        kernel, context, [workspace] + operands.inputs,
        [.int(reduced), .int(inner), .long(outputs), .int(slices.length)], global: global, isSingleItem: isSingleItem),
      try bind(
        context.profile.isCPU ? "reduce_merge_columns" : "reduce_merge", context, operands.outputs + [workspace],
        [.int(slices.count), .long(outputs)],
        global: [context.profile.isCPU ? divideUp(outputs, Self.mergedColumns) : outputs],
        isSingleItem: context.profile.isCPU, bytes: Double((slices.count + 1) * outputs * dtype.byteCount)),
    ]
  }

  private func bind(
    _ kernel: String, _ context: ComputeContext, _ buffers: [Buffer], _ sizes: [KernelArgument], global: [Int],
    isSingleItem: Bool = false, bytes: Double? = nil
  ) throws -> BoundLaunch {
    var spec = ProgramSpec("reduce.cl", dtype.arithmetic, stored: dtype)
    if kind == .max {
      spec.define("REDUCE_INIT", "(-INFINITY)")
      // NaN wins, wherever it stands.
      spec.define("REDUCE_COMBINE(a, b)", "((a) > (b) || (a) != (a) ? (a) : (b))")
    }
    return try context.bind(
      kernel, of: spec, buffers.map { .buffer($0) } + sizes, global: global, isSingleItem: isSingleItem,
      label: label, flops: Double(outputs * reduced), bytes: bytes ?? Double(outputs * (reduced + 1) * dtype.byteCount))
  }
}
