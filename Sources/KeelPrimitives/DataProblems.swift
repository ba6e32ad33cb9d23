import KeelCL
import KeelCore

/// A mini-batch of resident rows, converted: out[i] = data[order[cursor[component] + i]]·scale.
///
/// Operands: outputs one; inputs data, order, cursor.
public struct GatherProblem: KernelProblem {
  /// Element type of the data.
  public var source: DType
  /// Element type of the batch.
  public var destination: DType
  /// Rows of the batch.
  public var rows: Int
  /// Elements of a row.
  public var width: Int
  /// Rows of the data.
  public var dataRows: Int
  /// Entries of the order.
  public var positions: Int
  /// The entry of the cursor that counts.
  public var component: Int
  /// Factor of every element; integers are converted only.
  public var scale: Double

  /// The problem of these sizes.
  public init(
    source: DType, destination: DType, rows: Int, width: Int, dataRows: Int, positions: Int, component: Int,
    scale: Double = 1
  ) {
    self.source = source
    self.destination = destination
    self.rows = rows
    self.width = width
    self.dataRows = dataRows
    self.positions = positions
    self.component = component
    self.scale = scale
  }

  /// Element type of the result.
  public var dtype: DType { destination }

  /// The name of the family.
  public static let family = "gather"
  /// Sizes, for a person.
  public var label: String { "\(rows)×\(width) \(source) to \(destination)" }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<GatherProblem>] = [
    Variant("rows", takes: { $1.isCPU }) { problem, operands, context in
      [try problem.bind("gather_rows", operands, context, global: [problem.rows], isSingleItem: true)]
    },
    Variant("naive") { problem, operands, context in
      [try problem.bind("gather_each", operands, context, global: [problem.rows * problem.width], isSingleItem: false)]
    },
  ]

  private func bind(
    _ kernel: String, _ operands: Operands, _ context: ComputeContext, global: [Int], isSingleItem: Bool
  ) throws -> BoundLaunch {
    var spec = ProgramSpec("gather.cl", destination == .float64 ? .float64 : .float32)
    spec.define("SOURCE", source.openCLName)
    spec.define("DESTINATION", destination == .int32 ? "int" : "REAL")
    return try context.bind(
      kernel, of: spec,
      (operands.outputs + operands.inputs).map { .buffer($0) } + [
        .real(scale), .int(rows), .int(width), .int(component), .int(dataRows), .int(positions),
      ], global: global, isSingleItem: isSingleItem, label: label,
      bytes: Double(rows * width * (source.byteCount + destination.byteCount)))
  }
}

/// Permuted axes of a tensor of up to four. Operands: outputs one; inputs one.
public struct TransposeProblem: KernelProblem {
  /// Extents of the result, outermost first, padded with 1 in front to four.
  public let extents: [Int]
  /// For each axis of the result the stride in the operand, in elements.
  public let strides: [Int]
  /// Element type.
  public let dtype: DType
  /// The operand's axes, a letter each, in the order of the result's: `ba` for a matrix.
  private let order: String

  /// - Parameter permutation: axis `i` of the result is axis `permutation[i]` of `shape`; at most four.
  public init(_ shape: Shape, permutation: [Int], dtype: DType) {
    let source = shape.strides
    let padding = max(0, 4 - shape.rank)
    extents = [Int](repeating: 1, count: padding) + permutation.map { shape[$0] }
    strides = [Int](repeating: 0, count: padding) + permutation.map { source[$0] }
    self.dtype = dtype
    order = String(permutation.map { Array("abcd")[$0] })
  }

  /// The name of the family.
  public static let family = "transpose"
  /// Sizes of the result and order of its axes, for a person.
  public var label: String { extents.map(String.init).joined(separator: "×") + " " + order }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<TransposeProblem>] = [
    Variant("rows", takes: { $1.isCPU }) { problem, operands, context in
      let e = problem.extents
      return [
        try problem.bind("transpose_rows", operands, context, global: [e[2], e[0] * e[1]], isSingleItem: true)
      ]
    },
    Variant("naive") { problem, operands, context in
      let count = problem.extents.reduce(1, *)
      return [try problem.bind("transpose_each", operands, context, global: [count], isSingleItem: false)]
    },
  ]

  private func bind(
    _ kernel: String, _ operands: Operands, _ context: ComputeContext, global: [Int], isSingleItem: Bool
  ) throws -> BoundLaunch {
    // Elements only move: those of a type of storage as their bits.
    var spec = ProgramSpec("transpose.cl", dtype.arithmetic)
    if dtype.isStorageOnly { spec.define("ELEMENT", "ushort") }
    return try context.bind(
      kernel, of: spec,
      (operands.outputs + operands.inputs).map { .buffer($0) } + (extents + strides).map { .int($0) }, global: global,
      isSingleItem: isSingleItem, label: label, bytes: Double(2 * extents.reduce(1, *) * dtype.byteCount))
  }
}

/// Scalars written into a row of a history, and the cursor moved on. Operands: outputs history and cursor, changed in
/// place; inputs the scalars.
public struct RecordProblem: KernelProblem {
  /// Rows of the history.
  public var rows: Int
  /// Scalars in a row.
  public var columns: Int
  /// How far the cursor moves in the data.
  public var samples: Int
  /// What it does where the first scalar is not finite.
  public var nonFinite: NonFiniteStep
  /// Element type of the floating-point operands.
  public var dtype: DType

  /// The problem of these sizes.
  public init(rows: Int, columns: Int, samples: Int, nonFinite: NonFiniteStep = .advance, dtype: DType = .float32) {
    self.rows = rows
    self.columns = columns
    self.samples = samples
    self.nonFinite = nonFinite
    self.dtype = dtype
  }

  /// The name of the family.
  public static let family = "record"
  /// Sizes, for a person.
  public var label: String { "\(columns)" }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<RecordProblem>] = [
    Variant("naive") { problem, operands, context in
      var spec = ProgramSpec("record.cl", problem.dtype)
      spec.define("COUNT", "\(problem.columns)")
      spec.define("NON_FINITE", "\(problem.nonFinite.rawValue)")
      return [
        try context.bind(
          "record", of: spec,
          (operands.outputs + operands.inputs).map { .buffer($0) } + [.int(problem.samples), .int(problem.rows)],
          global: [1], label: problem.label)
      ]
    }
  ]
}
