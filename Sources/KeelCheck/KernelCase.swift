import KeelCore
import KeelGraph

/// How far a result may be from the reference: `eps` times the machine epsilon of the type times a scale.
public struct Bound: Sendable {
  public enum Scale: Sendable {
    /// The largest finite magnitude of the reference.
    case largest
    /// The same, but no less than this: for results that lie near 0 as the difference of terms that do not.
    case largestOrAtLeast(Double)
    /// The magnitude of each element of the reference: a relative error, down to the smallest normal number.
    case each
    case fixed(Double)
    /// Another output of the case, element by element; for results that are differences of larger terms.
    case output(String)
  }

  public var eps: Double
  public var scale: Scale

  public init(eps: Double, of scale: Scale = .largest) {
    self.eps = eps
    self.scale = scale
  }

  /// A bound that `batchnorm.md`'s table gives as a number, in single precision.
  public init(single error: Double, of scale: Scale = .largest) {
    self.init(eps: error / Double(Float.ulpOfOne), of: scale)
  }

  /// `eps` of the type that is computed in; in a type of storage also half an epsilon of that for each time that values
  /// are stored.
  static func stored(eps: Double, in dtype: DType, times: Double = 1, of scale: Scale = .largest) -> Bound {
    guard dtype.isStorageOnly else { return Bound(eps: eps, of: scale) }
    return Bound(eps: times / 2 + eps * dtype.arithmetic.epsilon / dtype.epsilon, of: scale)
  }

  /// Not a bit off.
  public static let exact = Bound(eps: 0)
}

/// One thing that a kernel family must get right: a graph around it, inputs, and how exact the results must be.
///
/// The tests run every case with every variant of its family on every device.
public struct KernelCase: Sendable, CustomStringConvertible {
  /// As in `KernelFamilies`.
  public var family: String
  public var label: String
  /// The floating-point type of the run.
  public var dtype: DType
  public var seed = Self.testSeed
  public var inputs: [CaseInput]
  /// Of every result without one of its own.
  public var bound: Bound
  /// By the name of an output or of an updated variable.
  public var bounds: [String: Bound] = [:]
  /// Outputs that are compared as a sum, taken in double precision: a mean that is kept in two parts.
  public var sums: [String: [String]] = [:]
  /// The whole graph must become launches of the family: what stands around it is fused into it.
  public var isFused = false
  /// Builds the graph; gives its outputs by name. Updates of variables are recorded on the builder.
  public let build: @Sendable (CaseTensors) -> [String: Tensor]

  public init(
    _ family: String, _ label: String, _ dtype: DType, inputs: [CaseInput], bound: Bound,
    build: @escaping @Sendable (CaseTensors) -> [String: Tensor]
  ) {
    self.family = family
    self.label = label
    self.dtype = dtype
    self.inputs = inputs
    self.bound = bound
    self.build = build
  }

  /// What tells the case from the others of its family.
  public var name: String { "\(label) \(dtype)" }
  public var description: String { "\(family) \(name)" }

  /// The graph of the case. Throws what is wrong with it.
  public func graph() throws(GraphError) -> Graph {
    let builder = GraphBuilder(name: family, mode: .training, dtype: dtype)
    let outputs = build(CaseTensors(builder, inputs))
    for (name, tensor) in outputs.sorted(by: { $0.key < $1.key }) { builder.output(name, tensor) }
    return try builder.graph()
  }

  /// The inputs' values by name.
  public func values() throws -> [String: HostTensor] {
    var values: [String: HostTensor] = [:]
    for (stream, input) in inputs.enumerated() {
      values[input.name] = try input.values(dtype, seed: seed, stream: stream)
    }
    return values
  }

  /// What the bound allows in units of the type's epsilon. In double precision the reference rounds as the device does,
  /// and sums in plain order, so more is allowed. Bounds lie close to the errors at the tests' seed; the worst of other
  /// inputs are up to half as large again.
  func eps(_ bound: Bound) -> Double {
    bound.eps * (dtype == .float64 ? 8 : 1) * (seed == Self.testSeed ? 1 : 2)
  }

  /// The inputs that the tests run with.
  public static let testSeed: UInt64 = 1

  var epsilon: Double { dtype.epsilon }
}

extension KernelCase {
  func bounds(_ bounds: [String: Bound]) -> KernelCase {
    var result = self
    result.bounds = bounds
    return result
  }

  func sums(_ sums: [String: [String]]) -> KernelCase {
    var result = self
    result.sums = sums
    return result
  }

  /// All launches must be of the family.
  func fused() -> KernelCase {
    var result = self
    result.isFused = true
    return result
  }
}
