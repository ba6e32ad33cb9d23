import KeelCore

/// What a named input is to the one who runs the graph; it decides in which arena the bytes live.
public enum Role: String, Hashable, Sendable, Codable {
  /// Trained by the optimizer.
  case parameter
  /// Statistics that training gathers and evaluation uses; no optimizer sees them.
  case runningStatistic
  /// What the optimizer keeps for each parameter.
  case optimizerSlot
  /// Counters, tables and histories of the training loop.
  case control
  /// Samples, labels, anything the user gives.
  case data
}

/// A value that lives outside of the graph, known by its name.
public struct Input: OperationRules {
  public let label: String
  public let role: Role
  public let type: TensorType

  public init(name: String, role: Role, type: TensorType) {
    label = name
    self.role = role
    self.type = type
  }

  public var name: String { label }
  public var attributes: String { role.rawValue }
  public var outputCount: Int { 1 }
  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    guard inputs.isEmpty else { throw GraphError(name, "expects no operands, got \(inputs)") }
    guard type.shape.dimensions.allSatisfy({ $0 >= 0 }) else {
      throw GraphError(name, "expects extents of 0 or more, got \(type)")
    }
    return [type]
  }
  public func gradient(_ context: GradientContext) -> [Tensor?]? { [] }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// A tensor of known values: one value for all elements, or one for each.
public struct Constant: OperationRules {
  public let type: TensorType
  public let values: [Double]

  public init(type: TensorType, values: [Double]) {
    self.type = type
    self.values = values
  }

  /// By bits: 0 and −0 are not the same constant, and NaN is.
  public static func == (a: Constant, b: Constant) -> Bool {
    a.type == b.type && a.values.map(\.bitPattern) == b.values.map(\.bitPattern)
  }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(type)
    for value in values { hasher.combine(value.bitPattern) }
  }

  /// Whether a type has a value; floating-point types round.
  static func has(_ dtype: DType, _ value: Double) -> Bool {
    let limits: ClosedRange<Double>? =
      switch dtype {
      case .float32, .float64, .float16, .bfloat16: nil
      case .int32: Double(Int32.min)...Double(Int32.max)
      case .uint8: 0...255
      }
    return limits.map { value == value.rounded() && $0.contains(value) } ?? true
  }

  /// The value that all elements have, if it is one.
  public var splat: Double? { values.count == 1 ? values[0] : nil }

  public var name: String { "constant" }
  public var attributes: String {
    values.prefix(8).map { "\($0)" }.joined(separator: ", ") + (values.count > 8 ? ", … \(values.count)" : "")
  }
  public var outputCount: Int { 1 }
  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    guard type.shape.dimensions.allSatisfy({ $0 >= 0 }) else {
      throw GraphError(name, "expects extents of 0 or more, got \(type)")
    }
    guard values.count == 1 || values.count == type.count else {
      throw GraphError(name, "\(type) expects 1 or \(type.count) values, got \(values.count)")
    }
    if let stranger = values.first(where: { !Self.has(type.dtype, $0) }) {
      throw GraphError(name, "\(type) expects integers of its range, got \(stranger)")
    }
    return [type]
  }
  public func gradient(_ context: GradientContext) -> [Tensor?]? { [] }
  public func definition(_ inputs: [Tensor]) -> [Tensor]? { nil }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}
