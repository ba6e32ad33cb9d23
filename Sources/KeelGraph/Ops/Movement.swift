import KeelCore

/// The same elements under another shape; costs nothing.
public struct Reshape: OperationRules {
  public let shape: Shape

  public init(shape: Shape) { self.shape = shape }

  public var name: String { "reshape" }
  public var attributes: String { "" }
  public var outputCount: Int { 1 }
  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 1)
    guard inputs[0].count == shape.count, shape.dimensions.allSatisfy({ $0 >= 0 }) else {
      throw GraphError(name, "expects \(shape.count) elements for \(shape), got \(inputs[0])")
    }
    return [TensorType(shape, inputs[0].dtype)]
  }
  public func gradient(_ context: GradientContext) -> [Tensor?]? {
    [context.cotangents[0]?.reshape(context.inputs[0].shape)]
  }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// Permuted axes: axis `i` of the result is axis `permutation[i]` of the operand.
public struct Transpose: OperationRules {
  public let permutation: [Int]

  public init(permutation: [Int]) { self.permutation = permutation }

  public var name: String { "transpose" }
  public var attributes: String { permutation.map(String.init).joined(separator: " ") }
  public var outputCount: Int { 1 }
  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 1)
    guard permutation.sorted() == Array(0..<inputs[0].shape.rank), permutation.count <= 4 else {
      throw GraphError(name, "expects a permutation of the axes of \(inputs[0]), at most 4, got \(permutation)")
    }
    return [TensorType(Shape(permutation.map { inputs[0].shape[$0] }), inputs[0].dtype)]
  }
  public func gradient(_ context: GradientContext) -> [Tensor?]? { [context.cotangents[0]?.transpose(inverse)] }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { [] }

  var inverse: [Int] {
    var inverse = permutation
    for (to, from) in permutation.enumerated() { inverse[from] = to }
    return inverse
  }
}

/// Extents of 1 stretched, leading axes added.
public struct Broadcast: OperationRules {
  public let shape: Shape

  public init(shape: Shape) { self.shape = shape }

  public var name: String { "broadcast" }
  public var attributes: String { "" }
  public var outputCount: Int { 1 }
  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 1)
    guard inputs[0].shape.broadcast(with: shape) == shape, shape.dimensions.allSatisfy({ $0 >= 0 }) else {
      throw GraphError(name, "expects a shape that broadcasts to \(shape), got \(inputs[0])")
    }
    return [TensorType(shape, inputs[0].dtype)]
  }
  public func gradient(_ context: GradientContext) -> [Tensor?]? {
    [context.cotangents[0]?.sum(to: context.inputs[0].shape)]
  }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// Elements converted to another type. Nothing flows back through an integer.
public struct Cast: OperationRules {
  public let dtype: DType

  public init(dtype: DType) { self.dtype = dtype }

  public var name: String { "cast" }
  public var attributes: String { "" }
  public var outputCount: Int { 1 }
  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 1)
    guard dtype.isFloatingPoint else { throw GraphError(name, "expects a floating-point result, got \(dtype)") }
    return [TensorType(inputs[0].shape, dtype)]
  }
  public func gradient(_ context: GradientContext) -> [Tensor?]? {
    [context.inputs[0].dtype.isFloatingPoint ? context.cotangents[0]?.cast(to: context.inputs[0].dtype) : nil]
  }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// A mini-batch gathered from resident data: row `i` is `data[order[cursor[0] + i]] · scale`, converted to `dtype`.
///
/// Operands: data [n, …], order i32 [at least one epoch], cursor i32 [3] (see ``Cursor``). Result [rows, …].
public struct Gather: OperationRules {
  public let rows: Int
  public let dtype: DType
  public let scale: Double

  public init(rows: Int, dtype: DType, scale: Double = 1) {
    self.rows = rows
    self.dtype = dtype
    self.scale = scale
  }

  public var name: String { "gather" }
  public var attributes: String { "\(rows) rows" + (scale == 1 ? "" : ", scale \(scale)") }
  public var outputCount: Int { 1 }
  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 3)
    if !dtype.isFloatingPoint { try expectNotStorageOnly(inputs[0]) }
    guard dtype != .uint8, !dtype.isStorageOnly, dtype.isFloatingPoint || scale == 1 else {
      throw GraphError(name, "expects a result of f32 or f64, or of i32 without a scale, got \(dtype) and \(scale)")
    }
    guard inputs[0].shape.rank > 0, inputs[0].shape[0] > 0, rows > 0 else {
      throw GraphError(name, "expects rows to gather from, got \(inputs[0]) and \(rows) rows")
    }
    guard inputs[1].dtype == .int32, inputs[1].shape.rank == 1, inputs[1].count > 0, inputs[2] == Cursor.type else {
      throw GraphError(
        name, "expects an i32 order [samples] and a cursor \(Cursor.type), got \(inputs[1]) and \(inputs[2])")
    }
    return [TensorType(Shape([rows] + inputs[0].shape.dimensions.dropFirst()), dtype)]
  }
  public func gradient(_ context: GradientContext) -> [Tensor?]? { [nil, nil, nil] }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// The end of a step: writes scalars into row `cursor[1]` of a history [steps, columns], so that losses and counts stay
/// on the device until the host reads them, and moves the cursor on.
///
/// Operands: history, cursor, then one scalar a column. Results: the new history and cursor.
public struct Record: OperationRules {
  /// Samples of a step.
  public let rows: Int
  /// What it does where the first scalar, the loss, is not finite.
  public let nonFinite: NonFiniteStep

  public init(rows: Int, nonFinite: NonFiniteStep = .advance) {
    self.rows = rows
    self.nonFinite = nonFinite
  }

  public var name: String { "record" }
  public var attributes: String { "\(rows) rows" + (nonFinite == .advance ? "" : ", non-finite: \(nonFinite)") }
  public var outputCount: Int { 2 }
  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    guard inputs.count >= 3, inputs.count <= 6, inputs[0].shape.rank == 2, inputs[1] == Cursor.type,
      inputs[0].shape[1] == inputs.count - 2,
      inputs.dropFirst(2).allSatisfy({ $0 == TensorType(.scalar, inputs[0].dtype) })
    else {
      throw GraphError(name, "expects history [steps, columns], cursor and 1 to 4 scalars, one a column, got \(inputs)")
    }
    try expectNotStorageOnly(inputs[0])
    return [inputs[0], inputs[1]]
  }
  public func gradient(_ context: GradientContext) -> [Tensor?]? { context.inputs.map { _ in nil } }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { [(0, 0), (1, 1)] }
}

/// Where a training loop stands, as three integers on the device.
public enum Cursor {
  /// First sample of the batch, as a position in the epoch's order.
  public static let sample = 0
  /// Steps taken in this epoch: the row of the learning-rate table and of the history.
  public static let stepInEpoch = 1
  /// Steps taken since training began, from 0.
  public static let step = 2

  public static let type = TensorType([3], .int32)
}
