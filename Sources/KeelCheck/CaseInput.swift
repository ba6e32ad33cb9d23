import KeelCore
import KeelGraph

/// An input of a check: what it is called, its type, and where its values come from.
public struct CaseInput: Sendable {
  /// How the values of an input are drawn. All draws are Philox streams, the same on every machine.
  public enum Source: Sendable {
    case normal(offset: Double, scale: Double)
    case uniform(ClosedRange<Double>)
    case integers(Range<Int>)
    /// These values, again from the first when there are too few.
    case values([Double])
    /// A function of the row-major index.
    case indexed(@Sendable (Int) -> Double)

    public static let normal = Source.normal(offset: 0, scale: 1)
    public static let zeros = Source.values([0])
  }

  public var name: String
  public var shape: Shape
  /// Nil for the floating-point type that the check runs in.
  public var dtype: DType?
  public var role: Role
  public var source: Source

  public init(
    _ name: String, _ shape: Shape, _ source: Source = .normal, dtype: DType? = nil, role: Role = .data
  ) {
    self.name = name
    self.shape = shape
    self.dtype = dtype
    self.role = role
    self.source = source
  }

  /// The three integers of ``Cursor``.
  public static func cursor(sample: Int = 0, stepInEpoch: Int = 0, step: Int = 0) -> CaseInput {
    CaseInput(
      "cursor", Cursor.type.shape, .values([Double(sample), Double(stepInEpoch), Double(step)]), dtype: .int32,
      role: .control)
  }

  public func type(_ real: DType) -> TensorType { TensorType(shape, dtype ?? real) }

  /// The values, rounded to the type: the device and the reference see the same numbers.
  ///
  /// - Parameter stream: one a input, so that no two of a case are alike.
  public func values(_ real: DType, seed: UInt64, stream: Int) throws -> HostTensor {
    var random = Philox(seed: seed, stream: UInt64(stream))
    let type = type(real)
    let values = (0..<type.count).map { index -> Double in
      switch source {
      case .normal(let offset, let scale): offset + scale * random.nextNormal()
      case .uniform(let range): range.lowerBound + (range.upperBound - range.lowerBound) * random.nextUniform()
      case .integers(let range): Double(range.lowerBound + random.nextIndex(below: range.count))
      case .values(let values): values.isEmpty ? 0 : values[index % values.count]
      case .indexed(let value): value(index)
      }
    }
    return try HostTensor(type, values: values)
  }
}

/// The symbolic inputs of a check while its graph is built.
public struct CaseTensors {
  public let builder: GraphBuilder
  private let tensors: [String: Tensor]
  /// The same inputs without their signs.
  var magnitudes: CaseTensors {
    var result = self
    result.hasSigns = false
    return result
  }
  private var hasSigns = true

  init(_ builder: GraphBuilder, _ inputs: [CaseInput]) {
    self.builder = builder
    tensors = Dictionary(
      inputs.map { ($0.name, builder.input($0.name, $0.type(builder.dtype), role: $0.role)) }, uniquingKeysWith: { $1 })
  }

  /// The input `name`. A name that the case does not declare is an error of its graph.
  public subscript(name: String) -> Tensor {
    if let tensor = tensors[name] { return hasSigns ? tensor : tensor.magnitude }
    builder.record(GraphError("check", "no input \(name); there are \(tensors.keys.sorted().joined(separator: ", "))"))
    return builder.constant(0)
  }
}
